"""The benchmark model of Keras' own layers: the SavedModel that a TensorFlow user would deploy."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.model_files import NUM_FEATURES, NUM_LAYERS, STATES


class KerasForm(tf.Module):  # type: ignore[misc]  # tensorflow has no type information
    """Three `keras.layers.LSTM` and a `Dense`.

    Args:
        units: of each layer.
        weights: as in `weights.npz`.
    """

    def __init__(self, units: int, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.layers = [
            keras.layers.LSTM(units, return_sequences=True, return_state=True)
            for _ in range(NUM_LAYERS)
        ]
        self.head = keras.layers.Dense(1)
        width = NUM_FEATURES
        for index, layer in enumerate(self.layers):
            layer.build((None, None, width))
            layer.set_weights(
                [weights[f"layer_{index}/{n}"] for n in ("kernel", "recurrent_kernel", "bias")]
            )
            width = units
        self.head.build((None, None, width))
        self.head.set_weights([weights["head/kernel"], weights["head/bias"]])
        state = tf.TensorSpec([None, units], tf.float32)
        sequences = tf.TensorSpec([None, None, NUM_FEATURES], tf.float32, "sequences")
        states = {name: tf.TensorSpec(state.shape, tf.float32, name) for name in STATES}
        self.plain = tf.function(self._plain).get_concrete_function(sequences=sequences, **states)
        self.masked = tf.function(self._masked).get_concrete_function(
            sequences=sequences, lengths=tf.TensorSpec([None], tf.int32, "lengths"), **states
        )

    def _plain(self, sequences: tf.Tensor, **states: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._unroll(sequences, None, states)

    def _masked(
        self, sequences: tf.Tensor, lengths: tf.Tensor, **states: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        mask = tf.sequence_mask(lengths, tf.shape(sequences)[1])
        return self._unroll(sequences, mask, states)

    def _unroll(
        self, x: tf.Tensor, mask: tf.Tensor | None, states: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = {}
        for i, layer in enumerate(self.layers):
            x, h, c = layer(x, mask=mask, initial_state=[states[f"h_{i}"], states[f"c_{i}"]])
            found |= {f"next_h_{i}": h, f"next_c_{i}": c}
        return {"outputs": self.head(x), **found}


def save(folder: Path, units: int, weights: dict[str, np.ndarray]) -> None:
    """Writes the SavedModel.

    Its signatures: `plain` (rows of one length) and `masked` (with `lengths`), both with the
    initial states `h_<i>` and `c_<i>`, giving `outputs` and `next_h_<i>`, `next_c_<i>`.
    A mask costs Keras time at every time step, so who does not pad is spared it.
    """
    form: Any = KerasForm(units, weights)
    tf.saved_model.save(form, str(folder), signatures={"plain": form.plain, "masked": form.masked})
