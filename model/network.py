"""The model that is trained and exported: raw columns in, real units out, a `DeepRNN` between."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from model.config import RNNConfig
from model.pipeline import StackState, on
from model.placement import Placement
from model.rnn import DeepRNN, Run
from model.transforms import Feature, Output, decode_outputs, encode_features, num_inputs


class SequenceModel(keras.Model):  # type: ignore[misc]  # keras has no type information
    """A `DeepRNN` with its transforms inside.

    Args:
        config: the stack.
        features: the raw input columns, in order.
        outputs: the outputs, in order.
        placements, chunk_steps, seed: see `DeepRNN`.
    """

    def __init__(
        self,
        config: RNNConfig,
        features: tuple[Feature, ...],
        outputs: tuple[Output, ...],
        placements: Sequence[Placement] = (),
        chunk_steps: int | None = None,
        seed: int = 0,
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
        self.rnn = DeepRNN(config, placements, chunk_steps, seed)
        self.rnn.build()
        self.built = True

    def predict_sequences(
        self,
        sequences: tf.Tensor,
        lengths: tf.Tensor,
        initial_state: StackState | None = None,
        compiled: bool = False,
    ) -> tuple[tf.Tensor, StackState]:
        """Outputs of every time step and the final state of every layer, without dropout.

        Args:
            sequences: float32 `[B, T, F]`, raw; NaN where a feature that may be missing is.
            lengths: int32 `[B]`, valid time steps of each row.
            initial_state: before the first time step; zeros when None.
            compiled: whether each layer's loops are compiled with XLA.

        Returns:
            Outputs in real units, float32 `[B, T, O]`, zero beyond a row's length; and the final
            state.
        """
        standardized, final_state = self.rnn.unroll(
            self._encode(sequences), initial_state, lengths, compiled=compiled
        )
        return self._decode(standardized, sequences, lengths), final_state

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Keras' entry for evaluation: `{"sequences", "lengths"}` to outputs."""
        assert not training, "this is a bug: train_step does not come here"
        outputs, _ = self.predict_sequences(inputs["sequences"], inputs["lengths"], compiled=True)
        return outputs

    def train_step(self, data: tuple[dict[str, tf.Tensor], tf.Tensor]) -> dict[str, tf.Tensor]:
        """One batch, as Keras' `fit` calls it: every replica takes a part of its rows."""
        inputs, targets = data
        sequences, lengths = inputs["sequences"], inputs["lengths"]
        runs = [
            self._run_replica(replica, sequences, lengths)
            for replica in range(self.rnn.num_replicas)
        ]
        standardized = [run.outputs for run in runs]
        with on(self.rnn.devices()[-1]):
            with tf.GradientTape() as tape:
                tape.watch(standardized)
                outputs = self._decode(tf.concat(standardized, axis=0), sequences, lengths)
                loss = self.compute_loss(inputs, targets, outputs, training=True)
            d_outputs = tape.gradient(loss, standardized)
        parts = [self.rnn.gradients(run, d) for run, d in zip(runs, d_outputs, strict=True)]
        self.optimizer.apply(_sums(parts, self.trainable_variables), self.trainable_variables)
        (mean_loss,) = (metric for metric in self.metrics if metric.name == "loss")
        mean_loss.update_state(loss, sample_weight=tf.shape(sequences)[0])
        return {"loss": mean_loss.result()}

    def _run_replica(self, replica: int, sequences: tf.Tensor, lengths: tf.Tensor) -> Run:
        count, batch_size = self.rnn.num_replicas, tf.shape(sequences)[0]
        rows = slice(batch_size * replica // count, batch_size * (replica + 1) // count)
        with on(self.rnn.devices(replica)[0]):
            inputs = self._encode(sequences[rows], replica)
            lengths = lengths[rows]
        return self.rnn.run(
            inputs, None, lengths, training=True, keep=True, compiled=True, replica=replica
        )

    def _encode(self, sequences: tf.Tensor, replica: int = 0) -> tf.Tensor:
        with on(self.rnn.devices(replica)[0]):
            return encode_features(sequences, self.features)

    def _decode(
        self, standardized: tf.Tensor, sequences: tf.Tensor, lengths: tf.Tensor
    ) -> tf.Tensor:
        with on(self.rnn.devices()[-1]):
            outputs = decode_outputs(standardized, sequences, self.outputs_spec, self.features)
            valid = tf.sequence_mask(lengths, tf.shape(sequences)[1])[..., tf.newaxis]
            return tf.where(valid, outputs, 0.0)


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
