"""Dropout masks of a layer: drawn once for a batch, before its chunks are computed.

A mask is what numbers are multiplied by: 0, or 1 / keep probability, so that inference needs no
change. Drawn for all time steps together, it does not depend on where chunks are cut.
"""

from typing import NamedTuple

import tensorflow as tf

from model.network_config import LayerConfig


class Masks(NamedTuple):
    """The masks of one layer, float32 `[T, B, width]`, or `[1, B, width]` for all time steps.

    None where nothing is dropped.
    """

    inputs: tf.Tensor | None = None
    state: tf.Tensor | None = None
    outputs: tf.Tensor | None = None

    def during(self, start: int | tf.Tensor, stop: int | tf.Tensor) -> "Masks":
        """The masks of the time steps from `start` to before `stop`."""
        return Masks(*(m if m is None or m.shape[0] == 1 else m[start:stop] for m in self))


def draw_masks(
    layer: LayerConfig, num_inputs: int, steps: tf.Tensor, batch_size: tf.Tensor, seed: tf.Tensor
) -> Masks:
    """Draws the masks of a layer.

    Args:
        layer: its keep probabilities. State dropout acts on `h` as the next time step sees it.
        num_inputs: numbers of an input row.
        steps: T; 1 for variational dropout, the same mask at every time step (Gal and Ghahramani
            2016).
        batch_size: B.
        seed: int32 `[2]`; equal seeds draw equal masks.
    """

    def draw(which: int, keep_prob: float, width: int) -> tf.Tensor | None:
        if keep_prob == 1.0:
            return None
        own = tf.random.experimental.stateless_fold_in(seed, which)
        noise = tf.random.stateless_uniform([steps, batch_size, width], own)
        return tf.where(noise < keep_prob, 1.0 / keep_prob, 0.0)

    return Masks(
        draw(0, layer.input_keep_prob, num_inputs),
        draw(1, layer.state_keep_prob, layer.units),
        draw(2, layer.output_keep_prob, layer.units),
    )


def drop(values: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Values, or their gradient, behind a mask."""
    return values if mask is None else values * mask
