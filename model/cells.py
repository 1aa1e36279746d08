"""The recurrent cells and the dropout around them. Used by `rnn.py` only.

A cell is one layer at one time step: `step(inputs, state) -> (output, next_state)`. A state is a
tuple of float32 tensors `[B, H]`, in the order of the cell's `state_names`.
"""

from typing import Protocol

import keras
import tensorflow as tf

from model.config import CellKind, LayerConfig

State = tuple[tf.Tensor, ...]


class Cell(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """One layer at one time step.

    Its weights are `kernel [I, G*H]`, `recurrent_kernel [H, G*H]` and `bias`, for G gates.
    """

    state_names: tuple[str, ...] = ("h",)
    num_gates = 1

    def __init__(self, config: LayerConfig, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = config.units
        self.config = config

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `[B, I]`: Glorot for inputs, orthogonal for the state."""
        width = self.num_gates * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer="glorot_uniform"
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer="orthogonal"
        )
        self._add_bias(width)

    def _add_bias(self, width: int) -> None:
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")

    def step(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """Advances by one time step.

        Args:
            inputs: float32 `[B, I]`.
            state: of the time step before.

        Returns:
            The output, float32 `[B, H]`, and the next state.
        """
        raise AssertionError("this is a bug: every kind of cell has a step of its own")


class RNNCell(Cell):
    """h' = act(x W + h U + b), with act tanh or relu (Elman 1990)."""

    def step(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """See `Cell.step`."""
        (h,) = state
        total = tf.matmul(inputs, self.kernel) + tf.matmul(h, self.recurrent_kernel) + self.bias
        h = tf.nn.relu(total) if self.config.activation == "relu" else tf.tanh(total)
        return h, (h,)


class LSTMCell(Cell):
    """The LSTM with forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Gates in the order i, f, g, o along the columns of the weights:
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g);  h' = sigmoid(o) * tanh(c').
    """

    state_names = ("h", "c")
    num_gates = 4

    def _add_bias(self, width: int) -> None:
        def forget_at_first(shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
            # A bias of 1 for the forget gate lets gradients through from the start
            # (Jozefowicz et al. 2015).
            ones = tf.ones(self.units, dtype)
            return tf.concat([0 * ones, ones, 0 * ones, 0 * ones], axis=0)

        self.bias = self.add_weight(name="bias", shape=(width,), initializer=forget_at_first)

    def step(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """See `Cell.step`."""
        h, c = state
        gates = tf.matmul(inputs, self.kernel) + tf.matmul(h, self.recurrent_kernel) + self.bias
        i, f, g, o = tf.split(gates, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return h, (h, c)


class GRUCell(Cell):
    """The GRU whose reset gate acts after the product (cuDNN's form of Cho et al. 2014).

    Gates in the order z, r, n along the columns; the bias is `[2, 3H]`, of inputs and of state:
    n = tanh(x Wn + bn + sigmoid(r) * (h Un + un));  h' = z * h + (1 - z) * n.
    """

    num_gates = 3

    def _add_bias(self, width: int) -> None:
        self.bias = self.add_weight(name="bias", shape=(2, width), initializer="zeros")

    def step(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """See `Cell.step`."""
        (h,) = state
        xz, xr, xn = tf.split(tf.matmul(inputs, self.kernel) + self.bias[0], 3, axis=1)
        hz, hr, hn = tf.split(tf.matmul(h, self.recurrent_kernel) + self.bias[1], 3, axis=1)
        z = tf.sigmoid(xz + hz)
        n = tf.tanh(xn + tf.sigmoid(xr + hr) * hn)
        h = z * h + (1.0 - z) * n
        return h, (h,)


CELLS: dict[CellKind, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


class Stepper(Protocol):
    """What a stack calls at each time step: a cell, with or without dropout around it."""

    def step(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """See `Cell.step`."""
        ...


class Dropout:
    """A cell with dropout on its inputs, outputs and state, for one time step of training.

    Survivors are scaled by 1 / keep probability, so that inference needs no change.

    Args:
        cell: the cell inside.
        seed: int32 `[2]`. Equal seeds draw equal masks: a seed that differs at every time step
            gives fresh masks, one that does not gives variational dropout.
    """

    def __init__(self, cell: Cell, seed: tf.Tensor) -> None:
        self.cell = cell
        self.seed = seed

    def step(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """See `Cell.step`. State dropout acts on `h` as the next time step sees it."""
        config = self.cell.config
        output, state = self.cell.step(self._drop(inputs, config.input_keep_prob, 0), state)
        state = (self._drop(state[0], config.state_keep_prob, 1), *state[1:])
        return self._drop(output, config.output_keep_prob, 2), state

    def _drop(self, values: tf.Tensor, keep_prob: float, which: int) -> tf.Tensor:
        if keep_prob == 1.0:
            return values
        seed = tf.random.experimental.stateless_fold_in(self.seed, which)
        noise = tf.random.stateless_uniform(tf.shape(values), seed)
        return tf.where(noise < keep_prob, values / keep_prob, 0.0)
