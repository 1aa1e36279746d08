"""The model that is trained and exported: raw columns in, real units out, a `DeepRNN` between."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import keras
import tensorflow as tf

from model.layers.implementations import Form
from model.network.deep_rnn import DeepRNN, Run
from model.network.pipeline import StackState, on
from model.network_config import RNNConfig
from model.placement.plan import Placement
from model.transforms import (
    Embedding,
    Feature,
    Output,
    codes_of,
    decode_outputs,
    encode_features,
    num_inputs,
)

# Of the numbers in an embedding when training begins: other inputs have a spread of 1.
TABLE_SPREAD = 0.3


class Share(NamedTuple):
    """The rows of a batch that a replica takes: from `start` on, `size` of them, None for all."""

    start: int | tf.Tensor
    size: tf.Tensor | None

    def own(self, outputs: tf.Tensor) -> tf.Tensor:
        """What a replica computed of its own rows."""
        return outputs if self.size is None else outputs[: self.size]


class OwnRun(NamedTuple):
    """A replica's run, and the raw rows `[B, T, F]` and lengths `[B]` that it is of."""

    run: Run
    sequences: tf.Tensor
    lengths: tf.Tensor


class SequenceModel(keras.Model):  # type: ignore[misc]  # keras has no type information
    """A `DeepRNN` with its transforms inside.

    Args:
        config: the stack.
        features: the raw input columns, in order.
        outputs: the outputs, in order.
        placements, chunk_steps, seed: see `DeepRNN`.
        form: how layers run over time in training and evaluation.
    """

    def __init__(
        self,
        config: RNNConfig,
        features: tuple[Feature, ...],
        outputs: tuple[Output, ...],
        placements: Sequence[Placement] = (),
        chunk_steps: int | None = None,
        seed: int = 0,
        form: Form = "fastest",
    ) -> None:
        super().__init__(name="sequence_model")
        width = num_inputs(features)
        if (width, len(outputs)) != (config.num_inputs, config.num_outputs):
            raise ValueError(
                f"the transforms give {width} inputs and {len(outputs)} outputs, but the network "
                f"has {config.num_inputs} and {config.num_outputs}"
            )
        self.config = config
        self.features = features
        self.outputs_spec = outputs
        self.form: Form = form
        self.rnn = DeepRNN(config, placements, chunk_steps, seed)
        self.rnn.build()
        with on(self.rnn.devices()[0]):
            self._tables = [
                self._make_table(index, feature.transform, seed)
                for index, feature in enumerate(features)
                if isinstance(feature.transform, Embedding)
            ]
        self.built = True

    def _make_table(self, index: int, transform: Embedding, seed: int) -> keras.Variable:
        draw = keras.initializers.RandomNormal(stddev=TABLE_SPREAD, seed=seed + index)
        shape = len(transform.values), transform.size
        return self.add_weight(shape=shape, initializer=draw, name=f"embedding_{index}")

    @property
    def embeddings(self) -> dict[int, keras.Variable]:
        """The table of each embedding, float32 `[V, size]`, by its feature's place."""
        kinds = [feature.transform for feature in self.features]
        places = [index for index, kind in enumerate(kinds) if isinstance(kind, Embedding)]
        return dict(zip(places, self._tables, strict=True))

    def predict_sequences(
        self,
        sequences: tf.Tensor,
        lengths: tf.Tensor,
        initial_state: StackState | None = None,
        form: Form = "plain",
    ) -> tuple[tf.Tensor, StackState]:
        """Outputs of every time step and the final state of every layer, without dropout.

        Args:
            sequences: float32 `[B, T, F]`, raw; NaN where a feature that may be missing is.
            lengths: int32 `[B]`, valid time steps of each row.
            initial_state: before the first time step; zeros when None.
            form: how each layer runs over time.

        Returns:
            Outputs in real units, float32 `[B, T, O]`, zero beyond a row's length; and the final
            state.
        """
        standardized, final_state = self.rnn.unroll(
            self._encode(sequences), initial_state, lengths, form=form
        )
        return self._decode(standardized, sequences, lengths), final_state

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Keras' entry for evaluation: `{"sequences", "lengths"}` to outputs."""
        assert not training, "this is a bug: train_step does not come here"
        outputs, _ = self.predict_sequences(inputs["sequences"], inputs["lengths"], form=self.form)
        return outputs

    def train_step(self, data: tuple[dict[str, tf.Tensor], tf.Tensor]) -> dict[str, tf.Tensor]:
        """One batch, as Keras' `fit` calls it: every replica takes a part of its rows."""
        inputs, targets = data
        sequences, lengths = inputs["sequences"], inputs["lengths"]
        shares = self._shares(tf.shape(sequences)[0])
        runs = [
            self._run_replica(replica, share, sequences, lengths)
            for replica, share in enumerate(shares)
        ]
        computed = [each.run.outputs for each in runs]
        with on(self.rnn.devices()[-1]):
            with tf.GradientTape() as tape:
                tape.watch(computed)
                rows = [share.own(part) for share, part in zip(shares, computed, strict=True)]
                outputs = self._decode(tf.concat(rows, axis=0), sequences, lengths)
                loss = self.compute_loss(inputs, targets, outputs, training=True)
            d_outputs = tape.gradient(loss, computed)
        parts = [self._gradients(each, d) for each, d in zip(runs, d_outputs, strict=True)]
        for part in parts:
            _check_paired(part, self.trainable_variables)
        self.optimizer.apply(_sums(parts, self.trainable_variables), self.trainable_variables)
        (mean_loss,) = (metric for metric in self.metrics if metric.name == "loss")
        mean_loss.update_state(loss, sample_weight=tf.shape(sequences)[0])
        return {"loss": mean_loss.result()}

    def _shares(self, batch_size: tf.Tensor) -> list[Share]:
        """Which rows of a batch each replica takes. One of a lone replica is the whole batch."""
        count = self.rnn.num_replicas
        if count == 1:
            return [Share(0, None)]
        ends = [batch_size * replica // count for replica in range(count + 1)]
        return [Share(start, stop - start) for start, stop in pairwise(ends)]

    def _run_replica(
        self, replica: int, share: Share, sequences: tf.Tensor, lengths: tf.Tensor
    ) -> OwnRun:
        with on(self.rnn.devices(replica)[0]):
            if share.size is not None:
                # cuDNN wants a row: who has none computes another's, which has no time steps then.
                start = tf.minimum(share.start, tf.shape(sequences)[0] - 1)
                rows = slice(start, start + tf.maximum(share.size, 1))
                sequences, lengths = sequences[rows], lengths[rows]
                lengths = tf.where(share.size > 0, lengths, 0)
            inputs = self._encode(sequences, replica)
        run = self.rnn.run(
            inputs, None, lengths, training=True, keep=True, form=self.form, replica=replica
        )
        return OwnRun(run, sequences, lengths)

    def _gradients(self, own: OwnRun, d_outputs: tf.Tensor) -> list[tf.Tensor]:
        """The gradient of every weight, in the order of `trainable_variables`."""
        of_layers = self.rnn.gradients(own.run, d_outputs)
        return [*self._table_gradients(own), *of_layers] if self._tables else of_layers

    def _table_gradients(self, own: OwnRun) -> list[tf.Tensor]:
        """Those of the embeddings: of each row of a table the sum over the time steps that took it.

        The layers' come first: with them comes that of the inputs.
        """
        found, end = [], 0
        with on(own.run.pipeline.devices[0]):
            d_inputs = self.rnn.input_gradient(own.run)
            valid = tf.sequence_mask(own.lengths, tf.shape(d_inputs)[1])[..., tf.newaxis]
            d_inputs = tf.where(valid, d_inputs, 0.0)
            for index, feature in enumerate(self.features):
                start, end = end, end + feature.num_inputs
                kind = feature.transform
                if isinstance(kind, Embedding):
                    codes = codes_of(own.sequences[..., index], kind)
                    d_rows = d_inputs[..., start : start + kind.size]
                    sums = tf.math.unsorted_segment_sum(d_rows, codes, 1 + len(kind.values))
                    found.append(sums[1:])
        return found

    def _encode(self, sequences: tf.Tensor, replica: int = 0) -> tf.Tensor:
        with on(self.rnn.devices(replica)[0]):
            tables = {self.features[i].name: t.value for i, t in self.embeddings.items()}
            return encode_features(sequences, self.features, tables)

    def _decode(
        self, standardized: tf.Tensor, sequences: tf.Tensor, lengths: tf.Tensor
    ) -> tf.Tensor:
        with on(self.rnn.devices()[-1]):
            outputs = decode_outputs(standardized, sequences, self.outputs_spec, self.features)
            valid = tf.sequence_mask(lengths, tf.shape(sequences)[1])[..., tf.newaxis]
            return tf.where(valid, outputs, 0.0)


def _check_paired(
    gradients: Sequence[tf.Tensor | None], variables: Sequence[keras.Variable]
) -> None:
    """Each variable has a gradient of its shape at its position.

    Keras passes over variables whose gradient is None, and pairs the others by position.
    """
    assert len(gradients) == len(variables), (
        f"this is a bug: {len(gradients)} gradients for {len(variables)} variables"
    )
    for gradient, variable in zip(gradients, variables, strict=True):
        fits = gradient is not None and gradient.shape.is_compatible_with(variable.shape)
        assert fits, f"this is a bug: {variable.path} has no gradient of its shape"


def _sums(
    parts: Sequence[Sequence[tf.Tensor]], variables: Sequence[keras.Variable]
) -> list[tf.Tensor]:
    """The gradients of all replicas together, each on the device of its variable."""
    if len(parts) == 1:
        return list(parts[0])
    sums = []
    for variable, *gradients in zip(variables, *parts, strict=True):
        with tf.device(variable.value.device):
            sums.append(tf.add_n(gradients))
    return sums
