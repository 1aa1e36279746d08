"""Chooses the form in which a layer runs over time: plain loops, compiled loops, or cuDNN."""

from typing import Literal

import tensorflow as tf

from model.layers.cells import Cell
from model.layers.cudnn import GATES, CudnnRecurrence
from model.layers.recurrence import Recurrence
from model.network_config import LayerConfig

# How a run of the stack is wanted. `plain`: loops that TensorFlow runs anywhere. `compiled`: loops
# that XLA compiles. `fastest`: what the layer's device does best; not for a graph that is exported.
Form = Literal["plain", "compiled", "fastest"]
OverTime = Recurrence | CudnnRecurrence


def layer_over_time(cell: Cell, device: str | None, form: Form, training: bool) -> OverTime:
    """A layer in the form that is wanted, where its device and its dropout allow it.

    Args:
        cell: of the layer.
        device: of the layer; None where TensorFlow puts it.
        form: wanted.
        training: whether dropout acts.
    """
    if form == "fastest" and takes_cudnn(cell.config, device, training):
        return CudnnRecurrence(cell)
    return Recurrence(cell, compiled=form != "plain")


def takes_cudnn(layer: LayerConfig, device: str | None, training: bool) -> bool:
    """Whether cuDNN computes a layer: a cell that it has, without dropout between time steps."""
    drops_state = training and layer.state_keep_prob < 1.0
    known = layer.cell in GATES and not drops_state
    return known and is_gpu(device) and tf.test.is_built_with_cuda()


def is_gpu(device: str | None) -> bool:
    """Whether a layer's device is a GPU; None is the first one where there is any."""
    if device is None:
        return bool(tf.config.list_logical_devices("GPU"))
    return device.startswith("GPU")
