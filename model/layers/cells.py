"""The recurrent cells: one layer at one time step. `recurrence.py` runs them over time.

A time step is two matrix products and element-wise operations:

    x_gates = inputs W + b        of all time steps of a chunk together
    h_gates = h U                 of one time step after the other
    next state = activate(join(x_gates, h_gates), state)

Only `join` and `activate` differ between cells. A state is a tuple of float32 tensors `[B, H]`, in
the order of its `CellSpec`; the first, `h`, is the layer's output.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from model.cell_spec import CellKind
from model.network_config import LayerConfig

State = tuple[tf.Tensor, ...]


class Weights(NamedTuple):
    """A cell's weights, or what belongs to each of them: a copy, a gradient.

    Attributes:
        kernel: float32 `[I, G*H]`, for G gates.
        recurrent_kernel: float32 `[H, G*H]`.
        bias: float32 `[G*H]`; `[2, G*H]`, of inputs and of state, where the cell has two.
    """

    kernel: tf.Tensor
    recurrent_kernel: tf.Tensor
    bias: tf.Tensor


class Cell(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """One layer at one time step. Its weights are variables; its mathematics takes tensors."""

    def __init__(self, config: LayerConfig, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = config.units
        self.config = config
        self.spec = config.spec

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `[B, I]`: Glorot for inputs, orthogonal for the state."""
        width = self.spec.num_columns(self.units)
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer="glorot_uniform"
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight(
            name="bias",
            shape=self.spec.bias_shape(self.units),
            initializer=self.initial_bias,
        )

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        """What the bias is before training: zeros."""
        return tf.zeros(shape, dtype)

    def read(self) -> Weights:
        """The weights as they are now."""
        return Weights(
            *(tf.convert_to_tensor(v) for v in (self.kernel, self.recurrent_kernel, self.bias))
        )

    def x_gates(self, inputs: tf.Tensor, weights: Weights) -> tf.Tensor:
        """What the inputs add to the gates: float32 `[N, I]` to `[N, G*H]`."""
        bias = weights.bias if self.spec.num_biases == 1 else weights.bias[0]
        return tf.matmul(inputs, weights.kernel) + bias

    def h_gates(self, h: tf.Tensor, weights: Weights) -> tf.Tensor:
        """What the state adds to the gates: float32 `[B, H]` to `[B, G*H]`."""
        product = tf.matmul(h, weights.recurrent_kernel)
        return product if self.spec.num_biases == 1 else product + weights.bias[1]

    def join(self, x_gates: tf.Tensor, h_gates: tf.Tensor) -> tf.Tensor:
        """The sums that `activate` takes, `[B, num_sums*H]`; linear."""
        return x_gates + h_gates

    def unjoin(self, d_sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The gradient of `join`: those of `x_gates` and `h_gates`."""
        return d_sums, d_sums

    def activate(self, sums: tf.Tensor, state: State) -> State:
        """The next state. Works on every number by itself.

        Args:
            sums: float32 `[B, num_sums*H]`, as `join` gives them.
            state: of the time step before.
        """
        raise AssertionError("this is a bug: every kind of cell has activations of its own")

    def bias_gradient(self, d_x_gates: tf.Tensor, d_h_gates: tf.Tensor) -> tf.Tensor:
        """The gradient of the bias, from those of the gates, `[N, G*H]`."""
        of_inputs = tf.reduce_sum(d_x_gates, axis=0)
        if self.spec.num_biases == 1:
            return of_inputs
        return tf.stack([of_inputs, tf.reduce_sum(d_h_gates, axis=0)])


class RNNCell(Cell):
    """h' = act(x W + h U + b), with act tanh or relu (Elman 1990)."""

    def activate(self, sums: tf.Tensor, state: State) -> State:
        """See `Cell.activate`."""
        return (tf.nn.relu(sums) if self.config.activation == "relu" else tf.tanh(sums),)


class LSTMCell(Cell):
    """The LSTM with forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Gates in the order i, f, g, o along the columns of the weights:
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g);  h' = sigmoid(o) * tanh(c').
    """

    def initial_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        """One for the forget gate, so that gradients pass from the start (Jozefowicz et al. 2015),
        and zero for the others."""
        ones = tf.ones(self.units, dtype)
        return tf.concat([0 * ones, ones, 0 * ones, 0 * ones], axis=0)

    def activate(self, sums: tf.Tensor, state: State) -> State:
        """See `Cell.activate`."""
        _, c = state
        i, f, g, o = tf.split(sums, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c


class GRUCell(Cell):
    """The GRU whose reset gate acts after the product (cuDNN's form of Cho et al. 2014).

    Gates in the order z, r, n along the columns; the bias is `[2, 3H]`, of inputs and of state:
    n = tanh(x Wn + bn + sigmoid(r) * (h Un + un));  h' = z * h + (1 - z) * n.
    """

    def join(self, x_gates: tf.Tensor, h_gates: tf.Tensor) -> tf.Tensor:
        """The sums of z and r, and both parts of n, which meet behind the reset gate only."""
        xz, xr, xn = tf.split(x_gates, 3, axis=1)
        hz, hr, hn = tf.split(h_gates, 3, axis=1)
        return tf.concat([xz + hz, xr + hr, xn, hn], axis=1)

    def unjoin(self, d_sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Cell.unjoin`."""
        dz, dr, dxn, dhn = tf.split(d_sums, 4, axis=1)
        return tf.concat([dz, dr, dxn], axis=1), tf.concat([dz, dr, dhn], axis=1)

    def activate(self, sums: tf.Tensor, state: State) -> State:
        """See `Cell.activate`."""
        (h,) = state
        z, r, xn, hn = tf.split(sums, 4, axis=1)
        z = tf.sigmoid(z)
        n = tf.tanh(xn + tf.sigmoid(r) * hn)
        return (z * h + (1.0 - z) * n,)


CELLS: dict[CellKind, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}
