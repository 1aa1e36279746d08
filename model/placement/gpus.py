"""The GPUs of this machine: their memory, how they are split, and what is wrong with them."""

import ctypes
import os
from pathlib import Path

import tensorflow as tf

from model.placement.plan import PlacementError

# What NVIDIA's driver makes for every process, and its interface.
DRIVER_DEVICE, DRIVER = Path("/dev/nvidiactl"), "libcuda.so.1"
# What TensorFlow loads before it lists a GPU; of the wheels each stands in nvidia/*/lib.
LIBRARIES = (
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libcudnn.so.9",
)
# Of a card's free memory, what its parts share; CUDA itself wants some for each.
SHARED = 0.9
MIB = 1 << 20


def take_memory_as_needed() -> None:
    """Lets TensorFlow take a card's memory as it needs it, not all at once: others use it too.

    It asks the environment when it first uses a GPU, and does so for parts of a card as well.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def devicess(count: int) -> None:
    """Splits every GPU into `count` devices, `GPU:0` and on, each with its part of the memory.

    Raises:
        PlacementError: TensorFlow runs already, or the driver does not answer.
    """
    for index, card in enumerate(tf.config.list_physical_devices("GPU")):
        limit = int(SHARED * free_bytes_of_card(index) / count) // MIB
        parts = [tf.config.LogicalDeviceConfiguration(memory_limit=limit)] * count
        try:
            tf.config.set_logical_device_configuration(card, parts)
        except RuntimeError as error:
            raise PlacementError(
                f"GPU {index} cannot be split into {count} devices: TensorFlow runs already"
            ) from error


def free_bytes_of_gpus() -> dict[str, int]:
    """Bytes that each logical GPU can take, by its name.

    Raises:
        PlacementError: the driver does not answer.
    """
    found: dict[str, int] = {}
    for index, card in enumerate(tf.config.list_physical_devices("GPU")):
        for part in tf.config.get_logical_device_configuration(card) or [None]:
            limit = getattr(part, "memory_limit", None)
            free = free_bytes_of_card(index)
            found[f"GPU:{len(found)}"] = min(free, limit * MIB) if limit else free
    return found


def free_bytes_of_card(index: int) -> int:
    """Bytes of a card that nobody uses, by NVIDIA's driver, in the order that CUDA has.

    Raises:
        PlacementError: the driver does not answer.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise PlacementError(f"GPU {index}: {DRIVER} cannot be loaded: {error}") from error

    def call(name: str, *arguments: object) -> None:
        if status := getattr(driver, name)(*arguments):
            raise PlacementError(f"GPU {index} cannot be used: {name} gave error {status}")

    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), index)
    # The context that TensorFlow uses too.
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        call("cuCtxPushCurrent_v2", context)
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        call("cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return free.value


def full_name(device: str) -> str:
    """A device and what it is: `GPU:0 (NVIDIA H100 80GB HBM3)`."""
    card = _card_of(device)
    name = tf.config.experimental.get_device_details(card).get("device_name") if card else None
    return f"{device} ({name})" if name else device


def _card_of(device: str) -> tf.config.PhysicalDevice | None:
    logical = 0
    for card in tf.config.list_physical_devices("GPU"):
        parts = len(tf.config.get_logical_device_configuration(card) or [None])
        if device in (f"GPU:{logical + part}" for part in range(parts)):
            return card
        logical += parts
    return None


def why_no_gpu() -> str | None:
    """Why TensorFlow uses no GPU though this machine has one; None where it has none.

    Who hides the cards with CUDA_VISIBLE_DEVICES is told nothing.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not DRIVER_DEVICE.exists() or hidden or tf.config.list_physical_devices("GPU"):
        return None
    if not tf.test.is_built_with_cuda():
        return "this machine has an NVIDIA GPU, but this TensorFlow is built without CUDA"
    missing = [name for name in (DRIVER, *LIBRARIES) if not _can_be_loaded(name)]
    what = f"{', '.join(missing)} cannot be loaded" if missing else "its driver gives it none"
    return (
        f"this machine has an NVIDIA GPU, but TensorFlow cannot use it: {what} "
        "(pip install -r requirements-gpu.txt; docs/devices.md)"
    )


def _can_be_loaded(library: str) -> bool:
    """Whether a library is where TensorFlow looks: in the loader's path, or in NVIDIA's wheels."""
    wheels = Path(tf.__file__).parents[1] / "nvidia"
    for name in (library, *map(str, wheels.glob(f"*/lib/{library}"))):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def check_usable(device: str) -> None:
    """Computes a little on a GPU, by cuDNN too: it may be full, or have gone since it was listed.

    Raises:
        PlacementError: it does not compute.
    """
    try:
        _compute_on(device)
    except tf.errors.ResourceExhaustedError as error:
        raise PlacementError(
            f"{full_name(device)} has no memory left for a single time step: others use it"
        ) from error
    except tf.errors.OpError as error:
        first = str(error.message).partition("\n")[0]
        raise PlacementError(f"{full_name(device)} cannot be used: {first}") from error


def _compute_on(device: str) -> None:
    with tf.device(f"/device:{device}"):
        row = tf.zeros([1, 1, 1])
        found = tf.raw_ops.CudnnRNNV3(
            input=tf.zeros([2, 1, 1]),
            input_h=row,
            input_c=tf.constant(0.0),
            params=tf.zeros([4]),
            sequence_lengths=[1],
            rnn_mode="rnn_tanh",
            is_training=False,
        )
        tf.matmul(found.output, row).numpy()
