"""The devices that an option asks for: set up, filled with layers, and checked before training."""

import sys

import tensorflow as tf

from model.network_config import RNNConfig
from model.placement.devices import find_devices, free_bytes, share_cores, split_devices
from model.placement.gpus import check_usable, full_name, take_memory_as_needed, why_no_gpu
from model.placement.plan import Placement, check_memory, memory_needed, plan_replicas
from model.train_config import AUTO, Recipe, TrainConfig


def prepare_devices(config: TrainConfig) -> None:
    """Sets up TensorFlow's devices and threads, which can be done before its first use only.

    Raises:
        PlacementError: it is too late to split the devices.
    """
    take_memory_as_needed()
    # Of `auto` the largest stack has three.
    share_cores(3 if config.layers == AUTO else len(config.layers))
    tf.config.experimental.enable_tensor_float_32_execution(config.tensor_float_32)
    if config.logical_devices > 1:
        split_devices(config.logical_devices, config.devices)
    if config.devices == ("auto",) and (why := why_no_gpu()):
        print(f"note: {why}; the CPU trains", file=sys.stderr, flush=True)


def place(network: RNNConfig, config: Recipe) -> tuple[Placement, ...]:
    """Where the layers go on this machine.

    Raises:
        PlacementError: not as asked, there is too little memory, or a GPU does not compute.
    """
    devices = find_devices(config.devices)
    placements = plan_replicas(network, devices, config.replicas)
    check_memory(placements, free_bytes(devices), config.batch_size, config.window_steps)
    for device in devices:
        if device.startswith("GPU:"):
            check_usable(device)
    return placements


def memory_table(network: RNNConfig, config: Recipe) -> str:
    """What training takes of each device's memory, a line each."""
    devices = find_devices(config.devices)
    placements = plan_replicas(network, devices, config.replicas)
    free = free_bytes(devices)
    needed = memory_needed(placements, config.batch_size, config.window_steps)
    return "\n".join(
        f"{full_name(memory)}: takes at least {size / 2**30:.3g} GiB of "
        f"{free[memory] / 2**30:.3g} GiB free"
        for memory, size in needed.items()
    )


def needed(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
    """None for a plan that is what TensorFlow does by itself.

    The graph that is exported then asks for no device.
    """
    used = {device for placement in placements for device in placement.devices}
    return () if used == {find_devices(("auto",))[0]} else placements
