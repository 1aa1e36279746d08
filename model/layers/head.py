"""The dense layer on top of the stack, with its gradient."""

from typing import NamedTuple

import keras
import tensorflow as tf


class HeadWeights(NamedTuple):
    """The head's weights, a copy of them, or their gradient: `[H, O]` and `[O]`."""

    kernel: tf.Tensor
    bias: tf.Tensor


class Head(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """outputs = tops K + b, at every time step.

    Args:
        num_outputs: O.
    """

    def __init__(self, num_outputs: int) -> None:
        super().__init__(name="head")
        self._num_outputs = num_outputs

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `[N, H]`."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self._num_outputs),
            # A small head begins near zero, which for a standardised change is "as now".
            initializer=keras.initializers.VarianceScaling(0.01, "fan_avg"),
        )
        self.bias = self.add_weight(name="bias", shape=(self._num_outputs,), initializer="zeros")

    def read(self) -> HeadWeights:
        """The weights as they are now."""
        return HeadWeights(tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias))

    def forward(self, tops: tf.Tensor, weights: HeadWeights) -> tf.Tensor:
        """Outputs `[B, T, O]` from the top layer's `[B, T, H]`."""
        return tf.matmul(tops, weights.kernel) + weights.bias

    def backward(
        self, tops: tf.Tensor, weights: HeadWeights, d_outputs: tf.Tensor
    ) -> tuple[tf.Tensor, HeadWeights]:
        """The gradients of the tops, `[B, T, H]`, and of the weights."""
        rows = tf.reshape(d_outputs, [-1, self._num_outputs])
        kernel = tf.matmul(tf.reshape(tops, [-1, tops.shape[-1]]), rows, transpose_a=True)
        d_tops = tf.matmul(d_outputs, weights.kernel, transpose_b=True)
        return d_tops, HeadWeights(kernel, tf.reduce_sum(rows, axis=0))
