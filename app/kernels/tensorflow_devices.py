"""TensorFlow's devices in this process: set up before its first use, named, and what fails on them.

Used by the kernels that TensorFlow runs: `saved_model_loader.py` and `cudnn.py`.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# TensorFlow reads it when it is imported: its C++ notes are of no use in a service's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from app.errors import DeviceFailed
from app.settings import accelerator_present

logger = logging.getLogger(__name__)

# As it stands in TensorFlow's messages.
NAMED = re.compile(r"device:(GPU:\d+)")
# What CUDA and cuDNN say where TensorFlow itself does not say that memory is exhausted.
NO_MEMORY = ("OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED")


def set_up(logical_devices: int = 1, tensor_float_32: bool = False) -> None:
    """Prepares TensorFlow. But for TensorFloat-32 it can be done only before its first use.

    Args:
        logical_devices: into how many devices the CPU is split.
        tensor_float_32: whether GPUs may round the factors of float32 products to 10 bits.
    """
    # Lanes run side by side: threads that split one small product mostly wait for each other.
    _before_first_use(tf.config.threading.set_intra_op_parallelism_threads, 1)
    for gpu in tf.config.list_physical_devices("GPU"):
        # Else TensorFlow takes all of a card, and another worker, or the choice, finds none left.
        _before_first_use(tf.config.experimental.set_memory_growth, gpu, True)
    _split_cpu(logical_devices)
    tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)


def devices() -> list[str]:
    """All that TensorFlow sees, such as `CPU:0`.

    Raises:
        DeviceFailed: a card has no memory left for CUDA itself, or cannot be used at all.
    """
    physical = tf.config.list_physical_devices("GPU")
    with refused_failures([f"GPU:{index}" for index in range(len(physical))]):
        return [short(device.name) for device in tf.config.list_logical_devices()]


def gpus() -> list[str]:
    """The GPUs among `devices`."""
    return [device for device in devices() if device.startswith("GPU")]


def no_gpu() -> str:
    """Why there is no GPU, as far as it is known."""
    seen = f"TensorFlow sees no GPU, only {', '.join(devices())}"
    if not accelerator_present():
        return seen
    return (
        f"{seen}, though there is a driver: CUDA's libraries may be missing; docs/operating.md "
        "says what is needed"
    )


def short(device: str) -> str:
    """`GPU:0` for `/job:localhost/replica:0/task:0/device:GPU:0`."""
    return device.rpartition("device:")[2]


def card(device: str) -> str:
    """A device with the name of its card: `GPU:0 (NVIDIA H100)`."""
    physical = tf.config.list_physical_devices("GPU")
    if not device.startswith("GPU") or not physical:
        return device
    # Logical devices of one card have numbers beyond those of the cards.
    index = min(int(device.partition(":")[2]), len(physical) - 1)
    details = tf.config.experimental.get_device_details(physical[index])
    return f"{device} ({details['device_name']})" if "device_name" in details else device


@contextmanager
def refused_failures(where: list[str]) -> Iterator[None]:
    """What TensorFlow fails with becomes `DeviceFailed`, one line that names the card.

    Args:
        where: the devices in use, to name where TensorFlow does not.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise DeviceFailed(failure(error, where)) from error


def failure(error: Exception, where: list[str]) -> str:
    """What TensorFlow failed with, in a line that names the card."""
    text = str(error)
    # Before it stand the places in Python, after it other operations.
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    told = next((line for line in lines if NAMED.search(line)), lines[0] if lines else text)
    named = NAMED.search(text)
    cards = ", ".join(card(device) for device in ([named[1]] if named else dict.fromkeys(where)))
    full = isinstance(error, tf.errors.ResourceExhaustedError)
    if full or any(words in text for words in NO_MEMORY):
        return f"{cards} has no memory left: {told}"
    return f"{cards} failed: {type(error).__name__}: {told}"


def _before_first_use(configure: Callable[..., None], *arguments: object) -> None:
    try:
        configure(*arguments)
    except (RuntimeError, ValueError) as error:
        # A second model finds it set already; a card that is split has its memory divided.
        logger.debug("TensorFlow stays as it is: %s", error)


def _split_cpu(count: int) -> None:
    physical = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(physical, logical)
    except RuntimeError:
        found = len(tf.config.list_logical_devices("CPU"))
        if found != count:
            logger.warning("the CPU stays %d devices: TensorFlow runs already", found)
