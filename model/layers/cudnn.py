"""One layer over a chunk of time steps by cuDNN: a call forward, a call backward. For GPUs.

The same interface and the same numbers as `Recurrence`, whose loops cost a GPU some kernels and a
condition for every time step. TensorFlow has the calls as `CudnnRNNV3` and `CudnnRNNBackpropV3`.

cuDNN wants a layer's weights as one flat array, `pack`: the matrices of the inputs, those of the
state, the biases of the inputs, those of the state, each gate after gate, each matrix transposed
(cuDNN's `cudnnGetRNNWeightParams`).

All arrays are time-major: `[C, B, ...]`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from model.cell_spec import CellKind
from model.layers.cells import Cell, State, Weights
from model.network_config import LayerConfig

# The cells that cuDNN has, each with its gates in cuDNN's order.
GATES: Mapping[CellKind, tuple[str, ...]] = {
    "rnn": ("new",),
    "lstm": ("input", "forget", "new", "output"),
    "gru": ("reset", "update", "new"),
}


class Packed(NamedTuple):
    """A layer's weights, or their gradient, as cuDNN takes them.

    Attributes:
        params: float32 `[G*H*(I + H) + 2*G*H]`.
    """

    params: tf.Tensor


class CudnnKept(NamedTuple):
    """What a chunk keeps for its gradient: what the call took and gave.

    Attributes:
        inputs: float32 `[C+1, B, I]`.
        before, after: the state around the chunk as cuDNN has it, each `[1, B, H]`.
        outputs: float32 `[C+1, B, H]`.
        reserve: what cuDNN keeps, on the device.
        host_reserve: what TensorFlow keeps, on the host.
    """

    inputs: tf.Tensor
    before: State
    outputs: tf.Tensor
    after: State
    reserve: tf.Tensor
    host_reserve: tf.Tensor


class CudnnRecurrence:
    """A layer over time. See `Recurrence`, whose interface it has.

    Nothing is dropped between time steps: that is inside cuDNN's call. A batch has at least a row.

    Args:
        cell: built, or to be built.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._mode = mode(cell.config)

    def prepare(self, weights: Weights) -> Packed:
        """The weights as `forward` and `backward` take them; once a batch."""
        return Packed(pack(self._cell.config, weights))

    def restore(self, gradient: Packed) -> Weights:
        """The gradient of the weights from that of `prepare`'s."""
        return unpack(self._cell.config, gradient.params, self._cell.kernel.shape[0])

    def forward(
        self,
        inputs: tf.Tensor,
        weights: Packed,
        state: State,
        lengths: tf.Tensor,
        drop: tf.Tensor | None = None,
        keep: bool = False,
    ) -> tuple[tf.Tensor, State, CudnnKept | None]:
        """Computes a chunk; see `Recurrence.forward`. Outputs beyond a row's length are zero."""
        assert drop is None, "this is a bug: cuDNN cannot drop between time steps"
        padded = _one_more(inputs)
        before = tuple(part[tf.newaxis] for part in state)
        outputs, *after, reserve, host_reserve = tf.raw_ops.CudnnRNNV3(
            input=padded,
            input_h=before[0],
            input_c=_memory(before),
            params=weights.params,
            sequence_lengths=_counts(inputs, lengths),
            rnn_mode=self._mode,
            is_training=keep,
        )
        after = tuple(after[: len(state)])
        running = _running(lengths)
        final = tuple(
            tf.where(running, tf.ensure_shape(new[0], old.shape), old)
            for new, old in zip(after, state, strict=True)
        )
        kept = CudnnKept(padded, before, outputs, after, reserve, host_reserve) if keep else None
        return outputs[:-1], final, kept

    def backward(
        self,
        kept: CudnnKept,
        weights: Packed,
        lengths: tf.Tensor,
        drop: tf.Tensor | None,
        d_outputs: tf.Tensor,
        d_state: State,
    ) -> tuple[tf.Tensor, State, Packed]:
        """The gradient of a chunk; see `Recurrence.backward`."""
        assert drop is None, "this is a bug: cuDNN cannot drop between time steps"
        running = _running(lengths)
        d_after = tuple(tf.where(running, d, 0.0)[tf.newaxis] for d in d_state)
        d_inputs, *d_before, d_params = tf.raw_ops.CudnnRNNBackpropV3(
            input=kept.inputs,
            input_h=kept.before[0],
            input_c=_memory(kept.before),
            params=weights.params,
            sequence_lengths=_counts(d_outputs, lengths),
            output=kept.outputs,
            output_h=kept.after[0],
            output_c=_memory(kept.after),
            output_backprop=_one_more(d_outputs),
            output_h_backprop=d_after[0],
            output_c_backprop=_memory(d_after),
            reserve_space=kept.reserve,
            host_reserved=kept.host_reserve,
            rnn_mode=self._mode,
        )
        # A row that had ended handed its state on as it was.
        d_begin = tuple(
            tf.where(running, tf.ensure_shape(new[0], old.shape), old)
            for new, old in zip(d_before, d_state, strict=False)
        )
        return d_inputs[:-1], d_begin, Packed(d_params)


def mode(layer: LayerConfig) -> str:
    """cuDNN's name of a cell, such as `rnn_relu`."""
    return f"rnn_{layer.activation}" if layer.cell == "rnn" else layer.cell


def pack(layer: LayerConfig, weights: Weights) -> tf.Tensor:
    """A layer's weights as cuDNN takes them, float32 `[N]`.

    A cell with one bias gives it to the inputs; that of the state is zero.
    """
    bias = weights.bias
    if bias.shape.rank == 1:
        bias = tf.stack([bias, tf.zeros_like(bias)])
    places = layer.spec.places(GATES[layer.cell])
    matrices = [
        _in_order(tf.transpose(part), places) for part in (weights.kernel, weights.recurrent_kernel)
    ]
    biases = [_in_order(part, places) for part in tf.unstack(bias)]
    return tf.concat([tf.reshape(part, [-1]) for part in (*matrices, *biases)], axis=0)


def unpack(layer: LayerConfig, params: tf.Tensor, num_inputs: int) -> Weights:
    """The inverse of `pack`, of the weights or of their gradient.

    Args:
        layer: of the weights.
        params: float32 `[N]`.
        num_inputs: I.
    """
    spec = layer.spec
    # Where each of our gates stands among cuDNN's.
    ours = tuple(GATES[layer.cell].index(gate) for gate in spec.gates)
    width = spec.num_columns(layer.units)
    sizes = [width * num_inputs, width * layer.units, width, width]
    kernel, recurrent, of_inputs, of_state = tf.split(params, sizes)
    biases = [_in_order(part, ours) for part in (of_inputs, of_state)]
    return Weights(
        kernel=tf.transpose(_in_order(tf.reshape(kernel, [width, num_inputs]), ours)),
        recurrent_kernel=tf.transpose(_in_order(tf.reshape(recurrent, [width, layer.units]), ours)),
        bias=tf.stack(biases) if spec.num_biases == 2 else biases[0],
    )


def _in_order(rows: tf.Tensor, gates: tuple[int, ...]) -> tf.Tensor:
    """Rows of gates `[G*H, ...]` in another order of gates."""
    if gates == tuple(sorted(gates)):
        return rows
    parts = tf.split(rows, len(gates))
    return tf.concat([parts[gate] for gate in gates], axis=0)


def _one_more(rows: tf.Tensor) -> tf.Tensor:
    """`[C, B, N]` with a time step of zeros behind it.

    Where all rows are as long as the array, TensorFlow has cuDNN read it without padding, and
    remembers that for every later call of the same shape, whatever its lengths. So no row ever is.
    """
    return tf.pad(rows, [[0, 1], [0, 0], [0, 0]])


def _counts(rows: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Time steps of each row in the chunk; cuDNN wants at least one, on the host."""
    num_steps = tf.shape(rows)[0]
    with tf.device("/device:CPU:0"), tf.name_scope("on_host"):
        return tf.clip_by_value(lengths, 1, tf.maximum(num_steps, 1))


def _running(lengths: tf.Tensor) -> tf.Tensor:
    """Which rows have a time step in the chunk, bool `[B, 1]`."""
    return (lengths > 0)[:, tf.newaxis]


def _memory(state: State) -> tf.Tensor:
    """An LSTM's c; for other cells cuDNN looks at none."""
    return state[1] if len(state) > 1 else tf.constant(0.0)
