"""One layer over a chunk of time steps as loops, forward and backward; `cudnn.py` is for GPUs.

The product of the inputs and the gradients of the weights are one large product each, over all time
steps; only what follows from the time step before is in the loop. The gradient is written out and
not left to a tape: so a chunk needs nothing but what `Kept` holds, every operation is where
`network/pipeline.py` puts it, and both loops can be compiled.

All arrays are time-major: `[C, B, ...]`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import tensorflow as tf

from model.cell_spec import Activation, CellKind
from model.layers.cells import CELLS, Cell, State, Weights
from model.network_config import LayerConfig


class Kept(NamedTuple):
    """What a chunk keeps for its gradient.

    Attributes:
        inputs: float32 `[C, B, I]`.
        sums: float32 `[C, B, num_sums*H]`, what the cell's activations took.
        before: the state before each time step, parts `[C, B, H]`.
    """

    inputs: tf.Tensor
    sums: tf.Tensor
    before: State


class Loops(NamedTuple):
    """The loops forward and backward of a kind of cell, which all layers of the kind share."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


class Recurrence:
    """A layer over time.

    Args:
        cell: built, or to be built.
        compiled: whether the loops are compiled with XLA by themselves.
    """

    def __init__(self, cell: Cell, compiled: bool) -> None:
        self._cell = cell
        layer = cell.config
        self._loops = loops(layer.cell, layer.units, layer.activation, compiled)

    def prepare(self, weights: Weights) -> Weights:
        """The weights as `forward` and `backward` take them."""
        return weights

    def restore(self, gradient: Weights) -> Weights:
        """The gradient of the weights from that of `prepare`'s."""
        return gradient

    def forward(
        self,
        inputs: tf.Tensor,
        weights: Weights,
        state: State,
        lengths: tf.Tensor,
        drop: tf.Tensor | None = None,
        keep: bool = False,
    ) -> tuple[tf.Tensor, State, Kept | None]:
        """Computes a chunk.

        Args:
            inputs: float32 `[C, B, I]`.
            weights: by `prepare`.
            state: before the first time step.
            lengths: int32 `[B]`, time steps of each row that are still to come; may be negative
                or above C.
            drop: what `h` is multiplied by between time steps, float32 `[C or 1, B, H]`.
            keep: whether a gradient will be asked for.

        Returns:
            The outputs, float32 `[C, B, H]`, arbitrary beyond a row's length; the state behind
            each row's last time step in the chunk; and what `backward` needs, if it was to be kept.
        """
        cell = self._cell
        x_gates = _each_time_step(inputs, lambda rows: cell.x_gates(rows, weights))
        outputs, state, sums, before = self._loops.forward(
            x_gates, weights, state, lengths, drop, keep
        )
        return outputs, state, Kept(inputs, sums, before) if keep else None

    def backward(
        self,
        kept: Kept,
        weights: Weights,
        lengths: tf.Tensor,
        drop: tf.Tensor | None,
        d_outputs: tf.Tensor,
        d_state: State,
    ) -> tuple[tf.Tensor, State, Weights]:
        """The gradient of a chunk, by that of what it gave.

        Args:
            kept: by `forward`, which was given the same `weights`, `lengths` and `drop`.
            weights, lengths, drop: see `forward`.
            d_outputs: float32 `[C, B, H]`; zero beyond a row's length.
            d_state: of the state behind the chunk.

        Returns:
            The gradients of the inputs, `[C, B, I]`, of the state before the chunk, and of the
            weights, for `restore`.
        """
        cell = self._cell
        d_sums, d_state = self._loops.backward(kept, weights, lengths, drop, d_outputs, d_state)
        d_x_gates, d_h_gates = cell.unjoin(_rows(d_sums))
        gradient = Weights(
            kernel=tf.matmul(_rows(kept.inputs), d_x_gates, transpose_a=True),
            recurrent_kernel=tf.matmul(_rows(kept.before[0]), d_h_gates, transpose_a=True),
            bias=cell.bias_gradient(d_x_gates, d_h_gates),
        )
        d_inputs = tf.matmul(d_x_gates, weights.kernel, transpose_b=True)
        return tf.reshape(d_inputs, tf.shape(kept.inputs)), d_state, gradient


@cache
def loops(kind: CellKind, units: int, activation: Activation, compiled: bool) -> Loops:
    """The loops of a kind of cell: one for all layers, so that each is compiled once."""
    cell = CELLS[kind](LayerConfig(cell=kind, units=units, activation=activation))

    def forward(*arguments: Any) -> Any:
        return _forward(cell, *arguments)

    def backward(*arguments: Any) -> Any:
        return _backward(cell, *arguments)

    if not compiled:
        return Loops(forward, backward)
    return Loops(
        tf.function(forward, autograph=False, jit_compile=True),
        tf.function(backward, autograph=False, jit_compile=True),
    )


def _forward(
    cell: Cell,
    x_gates: tf.Tensor,
    weights: Weights,
    state: State,
    lengths: tf.Tensor,
    drop: tf.Tensor | None,
    keep: bool,
) -> tuple[tf.Tensor, State, tf.Tensor | None, State]:
    """See `Recurrence.forward`; gives outputs, state, and what is kept of every time step."""
    num_steps = tf.shape(x_gates)[0]

    def advance(
        time: tf.Tensor, state: State, rows: tuple[tf.TensorArray, ...]
    ) -> tuple[tf.Tensor, State, tuple[tf.TensorArray, ...]]:
        sums = cell.join(x_gates[time], cell.h_gates(state[0], weights))
        new = cell.activate(sums, state)
        written = (new[0], sums, *state) if keep else (new[0],)
        rows = tuple(a.write(time, value) for a, value in zip(rows, written, strict=True))
        if drop is not None:
            new = (new[0] * _at(drop, time), *new[1:])
        running = (time < lengths)[:, tf.newaxis]
        state = tuple(tf.where(running, a, b) for a, b in zip(new, state, strict=True))
        return time + 1, state, rows

    batch_size, units = x_gates.shape[1], cell.units
    widths = [units, cell.spec.num_sums * units, *[units] * len(state)] if keep else [units]
    rows = tuple(
        tf.TensorArray(tf.float32, size=num_steps, element_shape=[batch_size, width])
        for width in widths
    )
    _, state, rows = tf.while_loop(
        lambda time, *_: time < _end(lengths, num_steps),
        advance,
        (0, state, rows),
        maximum_iterations=num_steps,
    )
    outputs, *kept = (array.stack() for array in rows)
    return (outputs, state, kept[0], tuple(kept[1:])) if keep else (outputs, state, None, ())


def _backward(
    cell: Cell,
    kept: Kept,
    weights: Weights,
    lengths: tf.Tensor,
    drop: tf.Tensor | None,
    d_outputs: tf.Tensor,
    d_state: State,
) -> tuple[tf.Tensor, State]:
    """See `Recurrence.backward`; gives the gradients of the sums and of the state before."""
    num_steps = tf.shape(kept.sums)[0]

    def go_back(
        time: tf.Tensor, d_state: State, rows: tf.TensorArray
    ) -> tuple[tf.Tensor, State, tf.TensorArray]:
        running = (time < lengths)[:, tf.newaxis]
        d_new = [tf.where(running, d, 0.0) for d in d_state]
        if drop is not None:
            d_new[0] *= _at(drop, time)
        d_new[0] += d_outputs[time]
        before = tuple(part[time] for part in kept.before)
        d_sums, d_before = _deactivate(cell, kept.sums[time], before, d_new)
        _, d_h_gates = cell.unjoin(d_sums)
        d_h = tf.matmul(d_h_gates, weights.recurrent_kernel, transpose_b=True)
        d_before = (d_before[0] + d_h, *d_before[1:])
        # A row that had ended handed its state on as it was.
        d_state = tuple(
            d + tf.where(running, 0.0, d_after)
            for d, d_after in zip(d_before, d_state, strict=True)
        )
        return time - 1, d_state, rows.write(time, d_sums)

    rows = tf.TensorArray(
        tf.float32, size=num_steps, element_shape=[kept.sums.shape[1], kept.sums.shape[2]]
    )
    _, d_state, rows = tf.while_loop(
        lambda time, *_: time >= 0,
        go_back,
        (_end(lengths, num_steps) - 1, d_state, rows),
        maximum_iterations=num_steps,
    )
    return rows.stack(), d_state


def _deactivate(
    cell: Cell, sums: tf.Tensor, before: State, d_new: list[tf.Tensor]
) -> tuple[tf.Tensor, State]:
    """The gradient of `Cell.activate`: of the sums and of the state before."""
    # It works on every number by itself: cheaper to compute again than to keep.
    with tf.GradientTape() as tape:
        tape.watch((sums, before))
        new = cell.activate(sums, before)
    zero = tf.UnconnectedGradients.ZERO
    d_sums, d_before = tape.gradient(new, (sums, before), d_new, unconnected_gradients=zero)
    return d_sums, d_before


def _end(lengths: tf.Tensor, num_steps: tf.Tensor) -> tf.Tensor:
    """Where the loop ends: with the longest row, so that padding costs nothing.

    At least one time step: a TensorArray that nothing was written to has no shape.
    """
    return tf.clip_by_value(tf.reduce_max(lengths), 1, num_steps)


def _at(drop: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
    """The mask of a time step; one for all of them where there is only one."""
    return drop[0] if drop.shape[0] == 1 else drop[time]


def _rows(array: tf.Tensor) -> tf.Tensor:
    """`[C, B, N]` as `[C*B, N]`."""
    return tf.reshape(array, [-1, array.shape[-1]])


def _each_time_step(array: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """A function of rows `[N, I]` applied to all rows of `[C, B, I]`."""
    rows = function(_rows(array))
    shape = tf.shape(array)
    result = tf.reshape(rows, [shape[0], shape[1], rows.shape[-1]])
    return tf.ensure_shape(result, [*array.shape[:2], rows.shape[-1]])
