"""`DeepRNN`: the stack of recurrent layers and its unroll over time.

Training, export and the tests all go through the one `run` here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from model.layers.cells import CELLS, Cell
from model.layers.dropout import Masks, draw_masks
from model.layers.head import Head, HeadWeights
from model.layers.implementations import Form
from model.network.pipeline import Pipeline, StackState, Trace, on
from model.network.pipeline_chunks import cut
from model.network_config import RNNConfig
from model.placement.plan import Placement


@dataclass
class Run:
    """A forward run of a batch, and what its gradient needs.

    Attributes:
        outputs: float32 `[B, T, O]`, arbitrary beyond a row's length.
        final_state: of each row, the state at its own last valid time step.
        tops: outputs of the top layer, float32 `[B, T, H]`.
        head: the weights it was computed with.
        pipeline, trace: what computed the layers, and what that keeps.
    """

    outputs: tf.Tensor
    final_state: StackState
    tops: tf.Tensor
    head: HeadWeights
    pipeline: Pipeline
    trace: Trace


class DeepRNN(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """Recurrent layers on top of each other, below a dense head.

    States are a tuple with one entry a layer, each a tuple of float32 `[B, H]`: `(h, c)` of an
    LSTM layer, `(h,)` of the others.

    Args:
        config: the layers and the numbers of inputs and outputs.
        placements: where the layers sit, for each replica; the first one has the variables. Empty
            to leave it to TensorFlow.
        chunk_steps: time steps of a chunk; None to choose.
        seed: of the dropout masks.
    """

    def __init__(
        self,
        config: RNNConfig,
        placements: Sequence[Placement] = (),
        chunk_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(name="deep_rnn")
        self.config = config
        self.cells: list[Cell] = [
            CELLS[layer.cell](layer, name=f"layer_{i}_{layer.cell}")
            for i, layer in enumerate(config.layers)
        ]
        self.head = Head(config.num_outputs)
        self.seeds = keras.random.SeedGenerator(seed)
        self._placements = tuple(placements)
        self._chunk_steps = chunk_steps

    @property
    def num_replicas(self) -> int:
        """How many copies of the layers there are to compute with."""
        return max(1, len(self._placements))

    def devices(self, replica: int = 0) -> tuple[str | None, ...]:
        """The device of each layer; None where it is left to TensorFlow."""
        if not self._placements:
            return (None,) * len(self.cells)
        return self._placements[replica].devices

    def build(self, input_shape: object = None) -> None:
        """Makes the weights of every layer on its device.

        Here and not where the cells are made: a variable goes where it is made itself.
        """
        width = self.config.num_inputs
        for cell, device in zip(self.cells, self.devices(), strict=True):
            with on(device):
                cell.build((None, width))
            width = cell.units
        with on(self.devices()[-1]):
            self.head.build((None, width))

    def initial_state(self, batch_size: tf.Tensor, replica: int = 0) -> StackState:
        """The state before the first time step: zeros, for `batch_size` rows."""
        state = []
        for cell, device in zip(self.cells, self.devices(replica), strict=True):
            with on(device):
                state.append(tuple(tf.zeros([batch_size, cell.units]) for _ in cell.spec.states))
        return tuple(state)

    def unroll(
        self,
        inputs: tf.Tensor,
        initial_state: StackState | None = None,
        lengths: tf.Tensor | None = None,
        training: bool = False,
        form: Form = "plain",
    ) -> tuple[tf.Tensor, StackState]:
        """Runs the stack over time; see `run`. Gives the outputs and the final state."""
        run = self.run(inputs, initial_state, lengths, training, form=form)
        return run.outputs, run.final_state

    def run(
        self,
        inputs: tf.Tensor,
        initial_state: StackState | None = None,
        lengths: tf.Tensor | None = None,
        training: bool = False,
        *,
        keep: bool = False,
        form: Form = "plain",
        replica: int = 0,
    ) -> Run:
        """Runs the stack over time.

        Loops end with the longest row, not with T, so that padding costs little.

        Args:
            inputs: float32 `[B, T, I]`. Where T is known when the graph is made, time is cut into
                chunks, so that layers on several devices work at the same time.
            initial_state: state before the first time step; zeros when None.
            lengths: int32 `[B]`, valid time steps of each row, 0 to T; T when None.
            training: whether dropout and noise are active.
            keep: whether `gradients` will be asked for.
            form: how each layer runs over time; "fastest" is not for a graph that is exported.
            replica: which copy of the layers computes.
        """
        devices = self.devices(replica)
        seed = self._next_seed(replica) if training else None
        if seed is not None and self.config.input_noise > 0:
            with on(devices[0]):
                noise = tf.random.stateless_normal(tf.shape(inputs), seed)
                inputs += self.config.input_noise * noise
        batch_size, num_steps = tf.shape(inputs)[0], tf.shape(inputs)[1]
        if initial_state is None:
            initial_state = self.initial_state(batch_size, replica)
        if lengths is None:
            lengths = tf.fill([batch_size], num_steps)
        pipeline = Pipeline(self.cells, devices, form, training)
        chunks = cut(inputs.shape[1], num_steps, pipeline.num_stages, self._chunk_steps)
        masks = self._draw_masks(devices, batch_size, num_steps, seed)
        with on(devices[0]):
            rows = tf.transpose(inputs, [1, 0, 2])
        trace = pipeline.forward(rows, initial_state, lengths, chunks, masks, keep)
        with on(devices[-1]):
            tops = tf.transpose(tf.concat(trace.tops, axis=0), [1, 0, 2])
            head = self.head.read()
            outputs = self.head.forward(tops, head)
        return Run(outputs, trace.final_state, tops, head, pipeline, trace)

    def gradients(self, run: Run, d_outputs: tf.Tensor) -> list[tf.Tensor]:
        """The gradient of every weight, in the order of `trainable_weights`, where it was computed.

        Args:
            run: by `run`, with `keep`.
            d_outputs: gradient of its outputs, float32 `[B, T, O]`; zero beyond a row's length.
        """
        with on(run.pipeline.devices[-1]):
            d_tops, head = self.head.backward(run.tops, run.head, d_outputs)
            d_rows = tf.transpose(d_tops, [1, 0, 2])
            pieces = [d_rows[start:stop] for start, stop in run.trace.chunks]
        layers = run.pipeline.backward(run.trace, pieces)
        return [tensor for weights in (*layers, head) for tensor in weights]

    def input_gradient(self, run: Run) -> tf.Tensor:
        """The gradient of a run's inputs, once `gradients` has been asked for.

        Returns:
            float32 `[B, T, I]`, arbitrary beyond a row's length.
        """
        with on(run.pipeline.devices[0]):
            return tf.transpose(tf.concat(run.trace.d_inputs, axis=0), [1, 0, 2])

    def _next_seed(self, replica: int) -> tf.Tensor:
        seed = self.seeds.next()
        return tf.random.experimental.stateless_fold_in(seed, replica) if replica else seed

    def _draw_masks(
        self,
        devices: Sequence[str | None],
        batch_size: tf.Tensor,
        num_steps: tf.Tensor,
        seed: tf.Tensor | None,
    ) -> list[Masks]:
        if seed is None:
            return [Masks()] * len(self.cells)
        steps = 1 if self.config.variational_dropout else num_steps
        masks, width = [], self.config.num_inputs
        for index, (cell, device) in enumerate(zip(self.cells, devices, strict=True)):
            own = tf.random.experimental.stateless_fold_in(seed, index)
            with on(device):
                masks.append(draw_masks(cell.config, width, steps, batch_size, own))
            width = cell.units
        return masks
