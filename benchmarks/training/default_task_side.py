"""The default task, trained by Unroll or Keras.

`python -m benchmarks.training.default_task_side NAME` runs it.

A side. Its TensorFlow is set up by its environment.
"""

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.processes.side import answer

# It switches oneDNN on, but here TensorFlow is imported already: a side is given what it has.
from model.data import dataset
from model.placement.devices import share_cores
from model.preparation import build_model
from model.tasks.task import load_task
from model.train_config import TrainConfig
from model.training.recipe import choose_recipe
from model.training.trainer import Trainer, masked_error
from model.transforms import encode_features

BATCHES = 12

Burst = Callable[[], dict[str, Any]]


class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no type information
    """When each batch of a `fit` ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called by `fit`."""
        self.ends.append(time.perf_counter())

    def median(self) -> float:
        """Seconds of a batch."""
        return statistics.median(np.diff(self.ends))


def _learns(trainer: Trainer) -> Burst:
    def burst() -> dict[str, Any]:
        ends = []
        for _ in range(BATCHES + 1):
            trainer.update()
            ends.append(time.perf_counter())
        return {"seconds": statistics.median(np.diff(ends))}

    return burst


def _fits(model: keras.Model, batches: tf.data.Dataset) -> Burst:
    def burst() -> dict[str, Any]:
        clock = Clock()
        model.fit(batches.take(BATCHES + 1), callbacks=[clock], verbose=0, shuffle=False)
        return {"seconds": clock.median()}

    return burst


def _default_trainer() -> Trainer:
    """What `python -m model.train` trains with without options."""
    task = load_task(TrainConfig().task)
    splits = dataset.load(task)
    recipe = choose_recipe(TrainConfig(), splits, task.season_steps)
    return Trainer(build_model(task, recipe, splits["train"]), splits, recipe)


def unroll() -> Burst:
    """Unroll's default training, dropout and all."""
    share_cores(len(TrainConfig().layers))
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    return _learns(_default_trainer())


def plain_keras() -> Burst:
    """The same layers of Keras' own, without dropout, on the same windows, `fit` as it comes."""
    trainer = _default_trainer()
    config, model, batches = trainer.recipe, trainer.model, trainer.batches
    scale = np.array([output.transform.std for output in model.outputs_spec], np.float32)
    units = [layer.units for layer in config.layer_configs()]
    theirs = keras.Sequential(
        [
            keras.Input((config.window_steps, model.config.num_inputs)),
            *(keras.layers.LSTM(count, return_sequences=True) for count in units),
            keras.layers.Dense(model.config.num_outputs),
        ]
    )
    theirs.compile(
        optimizer=keras.optimizers.AdamW(config.learning_rate, global_clipnorm=config.clip_norm),
        loss=masked_error(scale),
    )
    steps, width = config.window_steps, model.config.num_inputs

    def encoded() -> Iterator[tuple[tf.Tensor, np.ndarray]]:
        for number in itertools.count():
            batch = batches.batch(number)
            yield encode_features(tf.constant(batch.sequences), model.features), batch.targets

    shapes = (
        tf.TensorSpec([None, steps, width], tf.float32),
        tf.TensorSpec([None, steps, model.config.num_outputs], tf.float32),
    )
    dataset_of = tf.data.Dataset.from_generator(encoded, output_signature=shapes)
    return _fits(theirs, dataset_of.prefetch(2))


SIDES: dict[str, Callable[[], Burst]] = {
    "unroll": unroll,
    "keras": plain_keras,
}


def main() -> None:
    """Answers until there are no more questions."""
    burst = SIDES[sys.argv[1]]()
    burst()
    answer({}, {"burst": burst})


if __name__ == "__main__":
    main()
