"""The training loop: loss, optimizer, early stopping."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from model.data import dataset
from model.network.sequence_model import SequenceModel
from model.train_config import TrainConfig
from model.training.optimizer import PlacedAdamW


def masked_error(scale: np.ndarray) -> Any:
    """Mean absolute error over known targets, each output in units of its own spread.

    The absolute error is what the skill table reports, and a storm's large error does not outweigh
    a week of small ones.

    Args:
        scale: float32 `[O]`, the spread of each output.
    """

    def loss(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        known = tf.math.is_finite(targets)
        error = tf.abs(tf.where(known, targets, 0.0) - outputs) / scale
        total = tf.reduce_sum(tf.where(known, error, 0.0))
        return total / tf.maximum(tf.reduce_sum(tf.cast(known, tf.float32)), 1.0)

    return loss


def fit(
    model: SequenceModel, splits: dict[str, dataset.Split], config: TrainConfig, verbose: str | int
) -> dict[str, list[float]]:
    """Trains until the validation error stops falling and keeps the best weights.

    Returns:
        Loss by epoch, `loss` and `val_loss`.
    """
    steps, stride = config.window_steps, config.stride_steps
    train = dataset.batches(
        splits["train"],
        dataset.windows(splits["train"], steps, stride),
        steps,
        config.batch_size,
        shuffle_seed=config.seed,
    )
    # Windows half a window apart: each hour is forecast with little and with much behind it.
    validation = dataset.batches(
        splits["validation"],
        dataset.windows(splits["validation"], steps, steps // 2),
        steps,
        config.batch_size,
    )
    model.compile(
        optimizer=make_optimizer(config, config.epochs * train.cardinality().numpy()),
        loss=masked_error(np.array([o.transform.std for o in model.outputs_spec], np.float32)),
        # Each layer's loops are compiled by themselves: XLA cannot compile across devices.
        jit_compile=False,
    )
    callbacks = [keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True)]
    if config.average_momentum > 0:
        # First, so that early stopping keeps the average that was validated.
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    history = model.fit(
        train,
        validation_data=validation,
        epochs=config.epochs,
        callbacks=callbacks,
        shuffle=False,  # the batches are shuffled already
        verbose=verbose,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def make_optimizer(config: TrainConfig, num_batches: int) -> PlacedAdamW:
    """AdamW whose learning rate rises, then falls along a cosine, over `num_batches`."""
    warmup = int(config.warmup_fraction * num_batches)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        num_batches - warmup,
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
