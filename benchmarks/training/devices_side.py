"""Layers on several devices, each way: `python -m benchmarks.training.devices_side 2 CASE`.

A side. The devices are parts of the one GPU, or of the processor where there is none.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import keras
import tensorflow as tf

from benchmarks.processes.side import Answer, answer
from benchmarks.training import trace
from benchmarks.training.case import PIPELINED, SERIAL, Case
from benchmarks.training.networks import make_batch, make_model, network_of
from benchmarks.training.sequential_layers import layer_after_layer
from model.network.sequence_model import SequenceModel
from model.placement.devices import find_devices, split_devices
from model.placement.plan import plan_replicas

Call = Callable[[], Any]


class Schedule:
    """A model on the devices of this process, and one batch of it.

    Args:
        case: what is computed.
        way: of `WAYS`.
        trains: whether it trains; else it predicts.
    """

    def __init__(self, case: Case, way: str, trains: bool) -> None:
        placements = plan_replicas(network_of(case, 1.0), find_devices(("auto",)), 1)
        self.devices = placements[0].devices
        steps = None if way == PIPELINED else case.steps
        model = make_model(case, 1.0, placements=placements, chunk_steps=steps, averages=True)
        make_call = _training if trains else _prediction
        with layer_after_layer() if way == SERIAL else nullcontext():
            self._call = make_call(model, case)
        self.timed()

    def timed(self) -> float:
        """Seconds of a batch, until its results are there."""
        started = time.perf_counter()
        self._call().numpy()
        if tf.config.list_logical_devices("GPU"):
            tf.test.experimental.sync_devices()
        return time.perf_counter() - started


def _training(model: SequenceModel, case: Case) -> Call:
    inputs, targets = make_batch(case)
    batch = ({name: tf.constant(value) for name, value in inputs.items()}, tf.constant(targets))
    step = tf.function(model.train_step, autograph=False).get_concrete_function(batch)
    return lambda: step(batch)["loss"]


def _prediction(model: SequenceModel, case: Case) -> Call:
    given = {name: tf.constant(value) for name, value in make_batch(case)[0].items()}
    predict = tf.function(model.predict_sequences, autograph=False)
    run = predict.get_concrete_function(**given, form="compiled")
    return lambda: run(**given)[0]


class Questions:
    """What this side can be asked.

    Args:
        case: what is computed.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._schedules: dict[str, Schedule] = {}

    def prepare(self, way: str, trains: bool) -> Answer:
        """Makes and traces a schedule; tells the device of each layer."""
        schedule = self._schedules[way] = Schedule(self._case, way, trains)
        return {"devices": list(schedule.devices)}

    def burst(self, way: str, batches: int) -> Answer:
        """Seconds of a batch, the median of a few."""
        return {"seconds": median(self._schedules[way].timed() for _ in range(batches))}

    def trace(self, way: str, folder: str) -> Answer:
        """How long each device was busy in a batch, and both at once, in ms; keeps the trace."""
        schedule = self._schedules[way]
        with tf.profiler.experimental.Profile(folder):
            seconds = schedule.timed()
        space = trace.read(Path(folder))
        events = trace.card_events(space)
        source = "streams of the card" if events else "threads of the host"
        found = trace.by_device(
            events or trace.host_events(space), dict(enumerate(schedule.devices))
        )
        first, *others = found.values()
        return {
            "source": source,
            "batch_ms": 1e3 * seconds,
            "busy_ms": {device: trace.length(each) for device, each in found.items()},
            "both_ms": trace.common(first, others[0]) if others else 0.0,
        }


def main() -> None:
    """Answers until there are no more questions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.devices_side")
    parser.add_argument("devices", type=int, help="that the GPU or the processor is split into")
    parser.add_argument("case", help="as JSON")
    parser.add_argument("--one-thread", action="store_true", help="for each device")
    parser.add_argument("--deterministic", action="store_true", help="as `model.train` is")
    given = parser.parse_args()
    if given.one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(given.devices)
    split_devices(given.devices, ("auto",))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if given.deterministic:
        keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
    questions = Questions(Case(**json.loads(given.case)))
    names = ("prepare", "burst", "trace")
    answer({}, {name: getattr(questions, name) for name in names})


if __name__ == "__main__":
    main()
