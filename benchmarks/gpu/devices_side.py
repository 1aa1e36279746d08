"""A side of `devices`: `python -m benchmarks.gpu.devices_side COUNT PLAN` trains on COUNT devices.

They are parts of the one card, or of the processor where there is no card.
"""

import re
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import keras
import tensorflow as tf

from benchmarks.gpu.graph import Node, cudnn_calls, executed, short
from benchmarks.gpu.plan import DevicesPlan, load_devices
from benchmarks.processes.side import Answer, answer
from benchmarks.training import trace
from benchmarks.training.case import PIPELINED, SERIAL
from benchmarks.training.networks import make_batch, make_model, network_of
from benchmarks.training.schedules import layer_after_layer
from model.placement.devices import find_devices, split_devices
from model.placement.plan import plan_replicas

# Hands numbers over, or is where its variable is.
NOT_COMPUTED = ("Const", "ReadVariableOp", "_Send", "_Recv", "_HostSend", "_HostRecv")
# Of a layer: forward and backward in `LAYER`'s scope, and the update of its weights.
SCOPES = (trace.LAYER, re.compile(r"layer_(\d+)\w*/.*_update/"))
LISTED = 8


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
        self._case, self._way = plan.case, way

    def batch(self, seed: int) -> float:
        """Trains on a batch; returns its loss."""
        inputs, targets = make_batch(self._case, seed)
        given = ({k: tf.constant(v) for k, v in inputs.items()}, tf.constant(targets))
        return self.timed(given)[1]

    def timed(self, given: Any) -> tuple[float, float]:
        """Seconds and loss of a batch, until its weights are there."""
        self.model.reset_metrics()
        with layer_after_layer() if self._way == SERIAL else nullcontext():
            started = time.perf_counter()
            loss = float(self._step(given)["loss"])
        if tf.config.list_logical_devices("GPU"):
            tf.test.experimental.sync_devices()
        return time.perf_counter() - started, loss


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

    def train(self) -> Answer:
        """Losses of the batches, and where everything was in the first of them."""
        trained = Trained(self._plan, PIPELINED)
        losses: list[float] = []
        nodes = executed(lambda: losses.append(trained.batch(0)))
        losses += [trained.batch(number) for number in range(1, self._plan.batches)]
        self._trained[PIPELINED] = trained
        return {
            "losses": losses,
            "devices": list(trained.devices),
            "cudnn": cudnn_calls(nodes),
            "placement": placement(trained, nodes),
        }

    def prepare(self, way: str) -> Answer:
        """Makes and traces a schedule."""
        if way not in self._trained:
            self._trained[way] = Trained(self._plan, way)
        self._trained[way].timed(self._batch)
        return {}

    def burst(self, way: str) -> Answer:
        """Seconds of a batch, the median of a few."""
        trained = self._trained[way]
        return {"seconds": median(trained.timed(self._batch)[0] for _ in range(self._plan.burst))}

    def trace(self, way: str) -> Answer:
        """How long each device was busy in a batch, and both of them: milliseconds."""
        trained = self._trained[way]
        with tempfile.TemporaryDirectory() as name:
            with tf.profiler.experimental.Profile(name):
                seconds, _ = trained.timed(self._batch)
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


def placement(trained: Trained, nodes: list[Node]) -> Answer:
    """What is where, read from the variables and the graph that ran: counts, and what is not."""
    layers = dict(enumerate(trained.devices))
    last = trained.devices[-1]

    def planned(path: str) -> str:
        found = re.search(r"layer_(\d+)", path)
        return layers[int(found[1])] if found else last

    weights = [(v.path, short(v.value.device)) for v in trained.model.trainable_variables]
    slots = [
        (v.path, short(v.value.device))
        for v in trained.model.optimizer.variables
        if "iteration" not in v.path and "learning_rate" not in v.path
    ]
    operations = [
        (f"{node.op} on {node.device}", node.device, layers[int(found[1])])
        for node in nodes
        if node.op not in NOT_COMPUTED and (found := _scope(node.name))
    ]
    elsewhere = Counter(text for text, device, planned_on in operations if device != planned_on)
    return {
        "weights": len(weights),
        "slots": len(slots),
        "operations": len(operations),
        "variables_elsewhere": [path for path, at in weights + slots if at != planned(path)],
        "operations_elsewhere": dict(elsewhere.most_common(LISTED)),
        "by_device": dict(Counter(device for _, device, _ in operations)),
    }


def _scope(name: str) -> re.Match[str] | None:
    return next((found for pattern in SCOPES if (found := pattern.search(name))), None)


def main() -> None:
    """Answers until there are no more questions."""
    plan = load_devices(sys.argv[2])
    split_devices(int(sys.argv[1]), ("auto",))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    found = Questions(plan)
    names = ("train", "prepare", "burst", "trace")
    answer({}, {name: getattr(found, name) for name in names})


if __name__ == "__main__":
    main()
