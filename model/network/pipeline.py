"""Carries out a placement: a grid of chunks of time and layers, each on its layer's device.

                 chunk 0   chunk 1   chunk 2
    layer 2         3         4         5       on device 1
    layer 1         2         3         4       on device 0
    layer 0         1         2         3       on device 0

What has the same number can be computed at the same time: a layer's chunk needs the chunk before of
its own, for the state, and the same chunk of the layer below, for its inputs. TensorFlow runs what
is ready, so devices overlap without a scheduler of ours. Backward is the same grid from its end.

Only activations and their gradients pass between devices, once a chunk. Weights are read, and their
gradients are summed up, where they are.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from model.layers.cells import Cell, State, Weights
from model.layers.cudnn import CudnnKept, Packed
from model.layers.dropout import Masks, drop
from model.layers.implementations import Form, is_gpu, layer_over_time
from model.layers.recurrence import Kept
from model.network.pipeline_chunks import Chunk
from model.placement.devices import available_cores

StackState = tuple[State, ...]
# A layer's weights as its form takes them, or their gradient.
Prepared = Weights | Packed


def on(device: str | None) -> AbstractContextManager[None]:
    """A scope for what sits on a device such as `GPU:0`; None leaves it to TensorFlow."""
    scope: AbstractContextManager[None] = nullcontext()
    return scope if device is None else tf.device(f"/device:{device}")


@dataclass
class Trace:
    """A forward run through the layers, and what its gradient needs.

    Attributes:
        tops: outputs of the top layer, float32 `[C, B, H]` a chunk.
        final_state: of each layer, of each row at its own last time step.
        chunks: where time was cut.
        lengths: int32 `[B]`.
        weights, masks: of each layer; the weights as its form takes them.
        kept: for the gradient, by chunk and layer.
        d_inputs: gradient of the inputs, float32 `[C, B, I]` a chunk; `backward` puts it here.
    """

    tops: list[tf.Tensor]
    final_state: StackState
    chunks: Sequence[Chunk]
    lengths: tf.Tensor
    weights: list[Prepared]
    masks: Sequence[Masks]
    kept: dict[tuple[int, int], Kept | CudnnKept] = field(default_factory=dict)
    d_inputs: list[tf.Tensor] = field(default_factory=list)


class Pipeline:
    """The layers, each on its device.

    Args:
        cells: first layer first.
        devices: of each layer; None leaves a layer where TensorFlow puts it.
        form: how each layer runs over time.
        training: whether dropout acts.

    Attributes:
        devices: as given.
    """

    def __init__(
        self, cells: Sequence[Cell], devices: Sequence[str | None], form: Form, training: bool
    ) -> None:
        self._cells = cells
        self.devices = devices
        # Each has the types of its own form: none sees what another made.
        self._layers: list[Any] = [
            layer_over_time(cell, device, form, training)
            for cell, device in zip(cells, devices, strict=True)
        ]

    @property
    def num_stages(self) -> int:
        """How many layers can work at the same time."""
        used = set(self.devices)
        if len(used) > 1 or is_gpu(self.devices[0]):
            return len(used)
        # The layers of one CPU device share its cores.
        return min(len(self._layers), available_cores())

    def forward(
        self,
        inputs: tf.Tensor,
        state: StackState,
        lengths: tf.Tensor,
        chunks: Sequence[Chunk],
        masks: Sequence[Masks],
        keep: bool,
    ) -> Trace:
        """Runs all chunks through all layers.

        Args:
            inputs: float32 `[T, B, I]`.
            state: of each layer, before the first time step.
            lengths: int32 `[B]`, valid time steps of each row.
            chunks: start and end of each chunk, in order, over all of T.
            masks: of each layer.
            keep: whether `backward` will be asked.
        """
        weights = [self._weights_of(layer) for layer in range(len(self._cells))]
        states = list(state)
        trace = Trace([], (), chunks, lengths, weights, masks)
        for index, (start, stop) in enumerate(chunks):
            with on(self.devices[0]):
                rows = inputs[start:stop]
            for layer, recurrence in enumerate(self._layers):
                with on(self.devices[layer]), tf.name_scope(f"layer_{layer}_chunk_{index}"):
                    mask = masks[layer].during(start, stop)
                    outputs, states[layer], kept = recurrence.forward(
                        drop(rows, mask.inputs),
                        weights[layer],
                        states[layer],
                        lengths - start,
                        mask.state,
                        keep,
                    )
                    rows = drop(outputs, mask.outputs)
                if kept is not None:
                    trace.kept[index, layer] = kept
            trace.tops.append(rows)
        trace.final_state = tuple(states)
        return trace

    def backward(self, trace: Trace, d_tops: Sequence[tf.Tensor]) -> list[Weights]:
        """The gradients of each layer's weights, each on its layer's device.

        Args:
            trace: by `forward`, with `keep`.
            d_tops: gradient of each of `trace.tops`; zero beyond a row's length.
        """
        d_states = []
        for layer, state in enumerate(trace.final_state):
            with on(self.devices[layer]):
                d_states.append(tuple(tf.zeros_like(part) for part in state))
        gradients: list[Prepared | None] = [None] * len(self._layers)
        for index in reversed(range(len(trace.chunks))):
            start, stop = trace.chunks[index]
            d_rows = d_tops[index]
            for layer in reversed(range(len(self._layers))):
                scope = f"layer_{layer}_chunk_{index}_gradient"
                with on(self.devices[layer]), tf.name_scope(scope):
                    mask = trace.masks[layer].during(start, stop)
                    d_rows, d_states[layer], gradient = self._layers[layer].backward(
                        trace.kept[index, layer],
                        trace.weights[layer],
                        trace.lengths - start,
                        mask.state,
                        drop(d_rows, mask.outputs),
                        d_states[layer],
                    )
                    d_rows = drop(d_rows, mask.inputs)
                    gradients[layer] = _plus(gradients[layer], gradient)
            trace.d_inputs.insert(0, d_rows)
        return [self._restored(layer, gradient) for layer, gradient in enumerate(gradients)]

    def _weights_of(self, layer: int) -> Prepared:
        weights = self._cells[layer].read()
        with on(self.devices[layer]):
            # A copy where a replica's layer is on another device than the variables.
            copied = Weights(*(tf.identity(part) for part in weights))
            prepared: Prepared = self._layers[layer].prepare(copied)
            return prepared

    def _restored(self, layer: int, gradient: Prepared | None) -> Weights:
        assert gradient is not None, "this is a bug: there is at least one chunk"
        with on(self.devices[layer]), tf.name_scope(f"layer_{layer}_gradient"):
            restored: Weights = self._layers[layer].restore(gradient)
            return restored


def _plus(total: Prepared | None, more: Prepared) -> Prepared:
    """The sum of two gradients of the same form."""
    if total is None:
        return more
    return type(more)(*(a + b for a, b in zip(total, more, strict=True)))
