"""`DeepRNN`: the stack of recurrent layers and its unroll over time.

Training, export and the tests all go through the one `unroll` here.
"""

import keras
import tensorflow as tf

from model.cells import CELLS, Cell, Dropout, State, Stepper
from model.config import RNNConfig

StackState = tuple[State, ...]


class DeepRNN(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """Recurrent layers on top of each other, below a dense head.

    States are a tuple with one entry a layer, each a tuple of float32 `[B, H]`: `(h, c)` of an
    LSTM layer, `(h,)` of the others.

    Args:
        config: the layers and the numbers of inputs and outputs.
        seed: of the dropout masks.
    """

    def __init__(self, config: RNNConfig, seed: int = 0) -> None:
        super().__init__(name="deep_rnn")
        self.config = config
        self.cells: list[Cell] = [
            CELLS[layer.cell](layer, name=f"layer_{i}_{layer.cell}")
            for i, layer in enumerate(config.layers)
        ]
        # A small head begins near zero, which for a standardised change is "as now".
        self.head = keras.layers.Dense(
            config.num_outputs,
            kernel_initializer=keras.initializers.VarianceScaling(0.01, "fan_avg"),
            name="head",
        )
        self.seeds = keras.random.SeedGenerator(seed)

    def build(self, input_shape: object = None) -> None:
        """Makes the weights of every layer; the shape is known from the configuration."""
        width = self.config.num_inputs
        for cell in self.cells:
            cell.build((None, width))
            width = cell.units
        self.head.build((None, None, width))

    def initial_state(self, batch_size: tf.Tensor) -> StackState:
        """The state before the first time step: zeros, for `batch_size` rows."""
        return tuple(
            tuple(tf.zeros([batch_size, cell.units]) for _ in cell.state_names)
            for cell in self.cells
        )

    def step(
        self, inputs: tf.Tensor, state: StackState, seed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, StackState]:
        """Advances every layer by one time step.

        Args:
            inputs: float32 `[B, I]`.
            state: of the time step before.
            seed: int32 `[2]` of this time step's dropout masks; None for no dropout.

        Returns:
            The top layer's output, float32 `[B, H]`, and the next state.
        """
        next_state = []
        for index, (cell, entry) in enumerate(zip(self.cells, state, strict=True)):
            stepper: Stepper = cell
            if seed is not None:
                stepper = Dropout(cell, tf.random.experimental.stateless_fold_in(seed, index))
            inputs, entry = stepper.step(inputs, entry)
            next_state.append(entry)
        return inputs, tuple(next_state)

    def unroll(
        self,
        inputs: tf.Tensor,
        initial_state: StackState | None = None,
        lengths: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, StackState]:
        """Runs the stack over time.

        The loop ends with the longest row, not with T, so that padding costs nothing.

        Args:
            inputs: float32 `[B, T, I]`.
            initial_state: state before the first time step; zeros when None.
            lengths: int32 `[B]`, valid time steps of each row, 0 to T; T when None.
            training: whether dropout and noise are active.

        Returns:
            The outputs, float32 `[B, T, O]`, arbitrary beyond a row's length; and the final
            state: of each row, the state at its own last valid time step.
        """
        seed = self.seeds.next() if training else None
        if seed is not None and self.config.input_noise > 0:
            inputs += self.config.input_noise * tf.random.stateless_normal(tf.shape(inputs), seed)
        batch_size, num_steps = tf.shape(inputs)[0], tf.shape(inputs)[1]
        if initial_state is None:
            initial_state = self.initial_state(batch_size)
        if lengths is None:
            lengths = tf.fill([batch_size], num_steps)
        # At least one time step: a TensorArray that nothing was written to has no shape.
        longest = tf.maximum(tf.reduce_max(lengths), 1)
        rows = tf.TensorArray(tf.float32, size=num_steps).unstack(tf.transpose(inputs, [1, 0, 2]))
        tops = tf.TensorArray(
            tf.float32, size=num_steps, element_shape=[inputs.shape[0], self.cells[-1].units]
        )

        def advance(
            time: tf.Tensor, state: StackState, tops: tf.TensorArray
        ) -> tuple[tf.Tensor, StackState, tf.TensorArray]:
            top, next_state = self.step(rows.read(time), state, self._seed_at(seed, time))
            running = (time < lengths)[:, tf.newaxis]
            next_state = tf.nest.map_structure(
                lambda new, old: tf.where(running, new, old), next_state, state
            )
            return time + 1, next_state, tops.write(time, top)

        _, final_state, tops = tf.while_loop(
            lambda time, *_: time < longest,
            advance,
            (0, initial_state, tops),
            maximum_iterations=num_steps,
        )
        return self.head(tf.transpose(tops.stack(), [1, 0, 2])), final_state

    def _seed_at(self, seed: tf.Tensor | None, time: tf.Tensor) -> tf.Tensor | None:
        if seed is None or self.config.variational_dropout:
            return seed
        return tf.random.experimental.stateless_fold_in(seed, time)
