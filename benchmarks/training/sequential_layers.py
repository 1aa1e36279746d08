"""Layers one after the other, where they would overlap: what the pipeline is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import tensorflow as tf

from model.layers.implementations import layer_over_time


class AfterEachOther:
    """A layer over time whose neighbours wait until all of it is done: nothing overlaps."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.prepare, self.restore = layer.prepare, layer.restore

    def forward(self, *given: Any, **named: Any) -> Any:
        """See `Recurrence.forward`."""
        outputs, state, kept = self._layer.forward(*given, **named)
        with tf.control_dependencies(tf.nest.flatten((outputs, state))):
            return tf.identity(outputs), state, kept

    def backward(self, *given: Any, **named: Any) -> Any:
        """See `Recurrence.backward`."""
        d_inputs, d_state, gradient = self._layer.backward(*given, **named)
        with tf.control_dependencies(tf.nest.flatten((d_inputs, d_state, gradient))):
            return tf.identity(d_inputs), d_state, gradient


@contextmanager
def layer_after_layer() -> Iterator[None]:
    """Graphs that are made in it compute so."""
    with mock.patch(
        "model.network.pipeline.layer_over_time",
        lambda *given: AfterEachOther(layer_over_time(*given)),
    ):
        yield
