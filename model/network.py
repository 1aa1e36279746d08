"""The model that is trained and exported: raw columns in, real units out, a `DeepRNN` between."""

import keras
import tensorflow as tf

from model.config import RNNConfig
from model.rnn import DeepRNN, StackState
from model.transforms import Feature, Output, decode_outputs, encode_features


class SequenceModel(keras.Model):  # type: ignore[misc]  # keras has no type information
    """A `DeepRNN` with its transforms inside.

    Args:
        config: the stack.
        features: the raw input columns, in order.
        outputs: the outputs, in order.
        seed: of the dropout masks.
    """

    def __init__(
        self,
        config: RNNConfig,
        features: tuple[Feature, ...],
        outputs: tuple[Output, ...],
        seed: int = 0,
    ) -> None:
        super().__init__(name="sequence_model")
        width = sum(feature.num_inputs for feature in features)
        if (width, len(outputs)) != (config.num_inputs, config.num_outputs):
            raise ValueError(
                f"the transforms give {width} inputs and {len(outputs)} outputs, but the network "
                f"has {config.num_inputs} and {config.num_outputs}"
            )
        self.config = config
        self.features = features
        self.outputs_spec = outputs
        self.rnn = DeepRNN(config, seed=seed)
        self.rnn.build()
        self.built = True

    def predict_sequences(
        self,
        sequences: tf.Tensor,
        lengths: tf.Tensor,
        initial_state: StackState | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, StackState]:
        """Outputs of every time step and the final state of every layer.

        Args:
            sequences: float32 `[B, T, F]`, raw; NaN where a feature that may be missing is.
            lengths: int32 `[B]`, valid time steps of each row.
            initial_state: as of `DeepRNN.unroll`.
            training: whether dropout is active.

        Returns:
            Outputs in real units, float32 `[B, T, O]`, zero beyond a row's length; and the final
            state.
        """
        inputs = encode_features(sequences, self.features)
        standardized, final_state = self.rnn.unroll(inputs, initial_state, lengths, training)
        outputs = decode_outputs(standardized, sequences, self.outputs_spec, self.features)
        valid = tf.sequence_mask(lengths, tf.shape(sequences)[1])[..., tf.newaxis]
        return tf.where(valid, outputs, 0.0), final_state

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Keras' entry: `{"sequences", "lengths"}` to outputs, as `predict_sequences`."""
        outputs, _ = self.predict_sequences(
            inputs["sequences"], inputs["lengths"], training=bool(training)
        )
        return outputs
