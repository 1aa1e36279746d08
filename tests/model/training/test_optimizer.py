"""The gradient's norm is held, and at the largest limit left alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.training.optimizer import clip

GRADIENTS = [np.array([3.0, 0.0], np.float32), np.array([[4.0]], np.float32)]


@pytest.mark.parametrize(("limit", "scale"), [(1.0, 0.2), (5.0, 1.0), (1e9, 1.0)])
def test_gradients_are_scaled_to_the_limit_of_their_global_norm(limit: float, scale: float) -> None:
    """It is 5."""
    variables = [keras.Variable(np.zeros_like(gradient)) for gradient in GRADIENTS]
    clipped = clip([tf.constant(gradient) for gradient in GRADIENTS], variables, limit)
    for found, gradient in zip(clipped, GRADIENTS, strict=True):
        np.testing.assert_allclose(found, scale * gradient, rtol=1e-6)  # float32
