"""The devices of this machine: which there are, how they are split, what memory is free."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from model.network_config import canonical
from model.placement.gpus import devicess, free_bytes_of_gpus, why_no_gpu
from model.placement.plan import PlacementError, memory_of

# Where Linux tells the limits of a container.
GROUP = Path("/sys/fs/cgroup")


def split_devices(count: int, asked: Sequence[str]) -> None:
    """Splits every GPU into `count` devices, or the CPU where there is none or it is asked for.

    Args:
        count: of each.
        asked: as for `find_devices`.

    Raises:
        PlacementError: TensorFlow runs already, or a device has another form.
    """
    on_cpu = any(name.lower().removeprefix("/device:").startswith("cpu") for name in asked)
    if on_cpu or not tf.config.list_physical_devices("GPU"):
        split_cpu(count)
    else:
        devicess(count)


def split_cpu(count: int) -> None:
    """Splits the CPU into `count` devices, `CPU:0` and on, so that anyone can try several.

    Raises:
        PlacementError: TensorFlow runs already, with another number of them.
    """
    physical = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(physical, logical)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise PlacementError(
                f"the CPU cannot be split into {count} devices: TensorFlow runs already"
            ) from error


def find_devices(asked: Sequence[str]) -> tuple[str, ...]:
    """The devices to use, in order.

    Args:
        asked: names such as `gpu:0`, or `auto` alone: every GPU, or where there is none every
            CPU device.

    Raises:
        PlacementError: a name cannot be read, is given twice, or is not on this machine.
    """
    known = [
        f"{device.device_type}:{device.name.rpartition(':')[2]}"
        for device in tf.config.list_logical_devices()
    ]
    if tuple(asked) == ("auto",):
        gpus = tuple(name for name in known if name.startswith("GPU:"))
        return gpus or tuple(name for name in known if name.startswith("CPU:"))
    try:
        names = tuple(map(canonical, asked))
    except ValueError as error:
        raise PlacementError(str(error)) from error
    for index, name in enumerate(names):
        if name not in known:
            why = why_no_gpu() if name.startswith("GPU") else None
            here = f"there is no device {name}; this machine has {', '.join(known)}"
            raise PlacementError(f"{here}: {why}" if why else here)
        if name in names[:index]:
            raise PlacementError(f"device {name} is given twice")
    return names


def free_bytes(devices: Sequence[str]) -> dict[str, int]:
    """Bytes that can still be used on each device, by the name that `memory_of` gives it."""
    on_gpus = any(name.startswith("GPU:") for name in devices)
    limits = free_bytes_of_gpus() if on_gpus else {}
    # All devices of the CPU have the machine's memory.
    return {
        memory: limits[memory] if memory in limits else _free_memory()
        for memory in map(memory_of, devices)
    }


def _free_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = GROUP) -> int:
    """Bytes of the machine that can be had, or of this process's container if that has less."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    assert found, "this is a bug: Linux has told it since 3.14"
    free = int(found[1]) << 10
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        # Files read lately, which make room when it is asked for.
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["inactive_file"]))
    except (OSError, ValueError):
        # No such file, or "max": no limit.
        return free


def share_cores(num_layers: int) -> None:
    """Lets layers work side by side on the CPU's cores.

    That uses them better than threads that share one small product, which mostly wait for each
    other; so operations share the cores only where there are more cores than layers. It can be set
    only before TensorFlow's first use; later it changes nothing.
    """
    cores = available_cores()
    with suppress(RuntimeError):
        # One pool for all operations of the process.
        tf.config.threading.set_intra_op_parallelism_threads(1 if cores <= num_layers else cores)
        tf.config.threading.set_inter_op_parallelism_threads(max(cores, num_layers))


def available_cores(quota_file: Path = GROUP / "cpu.max") -> int:
    """Cores that this process may use: its affinity, or its container's quota if that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
        return min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        # No such file, or "max": no quota.
        return cores
