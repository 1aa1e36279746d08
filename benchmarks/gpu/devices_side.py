"""A side of `devices`: `python -m benchmarks.gpu.devices_side COUNT PLAN` trains on COUNT devices.

They are parts of the one card, or of the processor where there is no card.
"""

import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import keras
import tensorflow as tf

from benchmarks.gpu.plan import DevicesPlan, load_devices
from benchmarks.processes.side import Answer, answer
from benchmarks.training import trace
from benchmarks.training.case import PIPELINED, SERIAL
from benchmarks.training.networks import make_batch, make_model, network_of
from benchmarks.training.schedules import layer_after_layer
from model.placement.devices import find_devices, split_devices
from model.placement.plan import plan_replicas


class Trained:
    """A model on the devices of this process, and its train step.

    Args:
        plan: what is trained.
        way: of `plan.WAYS`.
    """

    def __init__(self, plan: DevicesPlan, way: str) -> None:
        network = network_of(plan.case, keep=1.0)
        placements = plan_replicas(network, find_devices(("auto",)), 1)
        self.devices = placements[0].devices
        chunk_steps = None if way == PIPELINED else plan.case.steps
        self.model = make_model(
            plan.case, 1.0, placements=placements, chunk_steps=chunk_steps, averages=True
        )
        self._step = tf.function(self.model.train_step, autograph=False)
        self._way = way

    def timed(self, given: Any) -> float:
        """Seconds of a batch, until its weights are there."""
        self.model.reset_metrics()
        with layer_after_layer() if self._way == SERIAL else nullcontext():
            started = time.perf_counter()
            float(self._step(given)["loss"])
        if tf.config.list_logical_devices("GPU"):
            tf.test.experimental.sync_devices()
        return time.perf_counter() - started


class Questions:
    """What this side can be asked.

    Args:
        plan: what is trained.
    """

    def __init__(self, plan: DevicesPlan) -> None:
        self._plan = plan
        self._trained: dict[str, Trained] = {}
        inputs, targets = make_batch(plan.case)
        self._batch = ({k: tf.constant(v) for k, v in inputs.items()}, tf.constant(targets))

    def prepare(self, way: str) -> Answer:
        """Makes and traces a schedule; tells the device of each layer."""
        trained = self._trained[way] = Trained(self._plan, way)
        trained.timed(self._batch)
        return {"devices": list(trained.devices)}

    def burst(self, way: str) -> Answer:
        """Seconds of a batch, the median of a few."""
        trained = self._trained[way]
        return {"seconds": median(trained.timed(self._batch) for _ in range(self._plan.burst))}

    def trace(self, way: str) -> Answer:
        """How long each device was busy in a batch, and both of them: milliseconds."""
        trained = self._trained[way]
        with tempfile.TemporaryDirectory() as name:
            with tf.profiler.experimental.Profile(name):
                seconds = trained.timed(self._batch)
            space = trace.read(Path(name))
        events = trace.card_events(space)
        source = "streams of the card" if events else "threads of the host"
        found = trace.by_device(
            events or trace.host_events(space), dict(enumerate(trained.devices))
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
    plan = load_devices(sys.argv[2])
    split_devices(int(sys.argv[1]), ("auto",))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    found = Questions(plan)
    names = ("prepare", "burst", "trace")
    answer({}, {name: getattr(found, name) for name in names})


if __name__ == "__main__":
    main()
