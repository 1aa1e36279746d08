"""What tests on a GPU need before TensorFlow's first use of it."""

import tensorflow as tf

from model.placement.gpus import take_memory_as_needed

# Other processes use the card too: children of these tests, a service.
take_memory_as_needed()
# The laws hold to 1e-5; with 10 bits of mantissa they would to 1e-3.
tf.config.experimental.enable_tensor_float_32_execution(False)
