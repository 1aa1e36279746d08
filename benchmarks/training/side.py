"""What is compared, each in a process of its own: `python -m benchmarks.training.side NAME`.

A side computes a burst of batches when it is asked, and answers with seconds. So sides whose
TensorFlow is set up differently take turns.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.processes.side import answer
from benchmarks.training.case import ONE_CHUNK, PIPELINED, SERIAL, Case
from benchmarks.training.networks import make_batch, make_model, network_of
from benchmarks.training.schedules import layer_after_layer

# It switches oneDNN on, but here TensorFlow is imported already: a side is given what it has.
from model import train
from model.config import TrainConfig
from model.data import dataset
from model.network.sequence_model import SequenceModel
from model.placement.devices import find_devices, share_cores, split_cpu
from model.placement.plan import plan_replicas
from model.tasks.task import load_task
from model.training.fit import make_optimizer, masked_error
from model.transforms import encode_features

BATCHES = 12
# Of the comparison of schedules.
CASE = Case(layers=4, units=256, rows=64, steps=64, inputs=8, outputs=1)

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


def _fits(model: keras.Model, batches: tf.data.Dataset) -> Burst:
    def burst() -> dict[str, Any]:
        clock = Clock()
        model.fit(batches.take(BATCHES + 1), callbacks=[clock], verbose=0, shuffle=False)
        return {"seconds": clock.median()}

    return burst


def _default_task() -> tuple[TrainConfig, SequenceModel, tf.data.Dataset, np.ndarray]:
    """The model that `python -m model.train` trains without options, and its batches."""
    config = TrainConfig()
    task = load_task(config.task)
    split = dataset.load(task)["train"]
    model = train.build_model(task, config, split)
    places = dataset.windows(split, config.window_steps, config.stride_steps)
    batches = dataset.batches(split, places, config.window_steps, config.batch_size, shuffle_seed=0)
    scale = np.array([output.transform.std for output in model.outputs_spec], np.float32)
    return config, model, batches, scale


def unroll() -> Burst:
    """Unroll's default training, dropout and all."""
    share_cores(len(TrainConfig().layers))
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    config, model, batches, scale = _default_task()
    model.compile(
        optimizer=make_optimizer(config, 1000), loss=masked_error(scale), jit_compile=False
    )
    return _fits(model, batches)


def plain_keras() -> Burst:
    """The same layers of Keras' own, without dropout, on the same windows, `fit` as it comes."""
    config, model, batches, scale = _default_task()
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
    features = model.features
    encoded = batches.map(lambda x, y: (encode_features(x["sequences"], features), y))
    return _fits(theirs, encoded)


def _stages(trains: bool) -> Burst:
    """Four layers on two devices of one thread each: pipelined, and in less clever ways."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    split_cpu(2)
    calls = {PIPELINED: _call(trains, None), ONE_CHUNK: _call(trains, CASE.steps)}
    with layer_after_layer():
        calls[SERIAL] = _call(trains, CASE.steps)

    def burst() -> dict[str, Any]:
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(BATCHES):
            for name, each in calls.items():
                started = time.perf_counter()
                each()
                found[name].append(time.perf_counter() - started)
        return {name: statistics.median(seconds) for name, seconds in found.items()}

    if folder := os.environ.get("BENCH_TRACES"):
        burst()
        for name, each in calls.items():
            with tf.profiler.experimental.Profile(str(Path(folder) / name)):
                each()
    return burst


def _call(trains: bool, chunk_steps: int | None) -> Callable[[], Any]:
    """One batch of a model made for it."""
    placements = plan_replicas(network_of(CASE, 1.0), find_devices(("auto",)), 1)
    model = make_model(CASE, 1.0, placements=placements, chunk_steps=chunk_steps, averages=True)
    inputs, targets = make_batch(CASE)
    given = {name: tf.constant(value) for name, value in inputs.items()}
    if not trains:
        predict = tf.function(model.predict_sequences, autograph=False)
        run = predict.get_concrete_function(**given, form="compiled")
        return lambda: run(**given)[0].numpy()
    step = tf.function(model.train_step, autograph=False)
    batch = (given, tf.constant(targets))
    train_batch = step.get_concrete_function(batch)
    return lambda: train_batch(batch)["loss"].numpy()


SIDES: dict[str, Callable[[], Burst]] = {
    "unroll": unroll,
    "keras": plain_keras,
    "stages_train": lambda: _stages(trains=True),
    "stages_infer": lambda: _stages(trains=False),
}


def main() -> None:
    """Answers until there are no more questions."""
    burst = SIDES[sys.argv[1]]()
    burst()
    answer({}, {"burst": burst})


if __name__ == "__main__":
    main()
