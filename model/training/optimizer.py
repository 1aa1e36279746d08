"""AdamW whose every variable and operation is on the device of the weight that it belongs to.

Left alone, Keras makes the moments and averages of all weights on the first device, and computes
every update there.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from model.train_config import Recipe


class PlacedAdamW(keras.optimizers.AdamW):  # type: ignore[misc]  # keras has no type information
    """See `keras.optimizers.AdamW` (Loshchilov and Hutter 2019).

    Args:
        clip_norm: largest global norm of the gradient (Pascanu et al. 2013).
        options: of `AdamW`.
    """

    def __init__(self, *, clip_norm: float, **options: Any) -> None:
        super().__init__(**options)
        self.clip_norm = clip_norm

    def add_variable_from_reference(
        self, reference_variable: Any, *given: Any, **named: Any
    ) -> Any:
        """Makes a moment or an average of a weight; see `keras.optimizers.Optimizer`."""
        with tf.device(reference_variable.value.device):
            return super().add_variable_from_reference(reference_variable, *given, **named)

    def apply(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any] | None = None
    ) -> None:
        """Updates the variables; see `keras.optimizers.Optimizer.apply`."""
        variables = trainable_variables or self._trainable_variables
        super().apply(clip(grads, variables, self.clip_norm), trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Any) -> None:
        """Updates one variable; see `keras.optimizers.Optimizer.update_step`."""
        # Named after its variable, so that a trace can tell whose update it is.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        scope = tf.name_scope(f"{path}_update")
        with tf.device(variable.device), scope:
            super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        for variable in variables:
            with tf.device(variable.value.device):
                super()._apply_weight_decay([variable])

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        # As Keras does: the first batch starts the average.
        keep = tf.where(self.iterations == 0, 0.0, self.ema_momentum)
        averages = self._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            with tf.device(variable.value.device):
                average.assign(keep * average + (1.0 - keep) * variable)


def clip(
    gradients: Sequence[tf.Tensor], variables: Sequence[Any], clip_norm: float
) -> list[tf.Tensor]:
    """Gradients scaled so that their global norm is at most `clip_norm`; only numbers pass."""
    squares = []
    for gradient, variable in zip(gradients, variables, strict=True):
        with tf.device(variable.value.device):
            squares.append(tf.reduce_sum(tf.square(gradient)))
    scale = clip_norm / tf.maximum(tf.sqrt(tf.add_n(squares)), clip_norm)
    clipped = []
    for gradient, variable in zip(gradients, variables, strict=True):
        with tf.device(variable.value.device):
            clipped.append(gradient * scale)
    return clipped


def make_optimizer(config: Recipe) -> PlacedAdamW:
    """AdamW whose learning rate rises, then falls along a cosine, over all updates."""
    warmup = int(config.warmup_fraction * config.updates)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        config.updates - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = PlacedAdamW(
        learning_rate=schedule,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        use_ema=config.average_momentum > 0,
        ema_momentum=config.average_momentum or 0.99,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer
