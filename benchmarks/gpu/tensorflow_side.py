"""The sides of `training` that run TensorFlow: `python -m benchmarks.gpu.tensorflow_side`.

Each batch is what `fit` does for one: it is taken from a dataset on the host, copied to the GPU,
computed, and the weights are updated. `fit`'s callbacks and progress bar are left out.
"""

import os

# As `model.train` has it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import argparse
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.gpu.executed_graph import cudnn_calls, executed
from benchmarks.gpu.side_interface import Trainers
from benchmarks.processes.side import answer
from benchmarks.training.case import Case
from benchmarks.training.networks import CONFIG, make_batch, make_model
from model.training.trainer import masked_error


def keras_model(case: Case, keep: float) -> keras.Model:
    """Keras' own layers, as `fit` trains them: its choice of cuDNN and of XLA."""
    layers: list[Any] = [keras.Input((case.steps, case.inputs))]
    for _ in range(case.layers):
        layers.append(keras.layers.LSTM(case.units, return_sequences=True))
        if keep < 1:
            # The same units at every time step, as Unroll does by default.
            layers.append(keras.layers.SpatialDropout1D(1 - keep))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([*layers, keras.layers.Dense(case.outputs)])
    optimizer = keras.optimizers.AdamW(
        CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, global_clipnorm=CONFIG.clip_norm
    )
    model.compile(optimizer, loss=masked_error(np.ones(case.outputs, np.float32)))
    model.optimizer.build(model.trainable_variables)
    return model


class KerasTrainer:
    """A Keras model, trained as `fit` does it. See `Trainer`.

    Args:
        name: `keras`, or Unroll's form.
        case: what is trained.
        keep: chance to keep an output of a layer.
    """

    def __init__(self, name: str, case: Case, keep: float) -> None:
        inputs, targets = make_batch(case)
        if name == "keras":
            self._model = keras_model(case, keep)
            data: Any = (inputs["sequences"], targets)
        else:
            self._model = make_model(case, keep, "compiled" if name == "compiled" else "fastest")
            data = (inputs, targets)
        self._batches = iter(tf.data.Dataset.from_tensors(data).repeat().prefetch(2))
        self._model.make_train_function()
        self.cudnn = cudnn_calls(executed(self.batch))

    def batch(self) -> None:
        """See `Trainer`."""
        self._logs = self._model.train_function(self._batches)

    def synchronize(self) -> None:
        """See `Trainer`."""
        if tf.config.list_logical_devices("GPU"):
            tf.test.experimental.sync_devices()

    def loss(self) -> float:
        """The mean of all batches so far."""
        return float(self._logs["loss"])


def main() -> None:
    """Answers until there are no more questions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tensorflow_side")
    parser.add_argument("--tensor-float-32", action="store_true")
    parser.add_argument("--deterministic", action="store_true", help="as `model.train` is")
    given = parser.parse_args()
    tf.config.experimental.enable_tensor_float_32_execution(given.tensor_float_32)
    if given.deterministic:
        keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
    about = {"tensorflow": tf.__version__, "keras": keras.__version__}
    answer(about, Trainers(KerasTrainer).questions())


if __name__ == "__main__":
    main()
