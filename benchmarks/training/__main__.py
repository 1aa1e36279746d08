"""`python -m benchmarks.training`: measures training, and layers on several devices.

Writes docs/benchmarks-training.md and the timeline beside it; takes about 5 minutes. Sides take
turns: a burst of batches each, so that a slow phase of the machine meets all of them.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.models.ensure_model import ON_PROCESSOR
from benchmarks.paths import BUILD, ROOT
from benchmarks.processes.side import Side
from benchmarks.report.machine import commit, machine
from benchmarks.report.markdown import ratio, table
from benchmarks.servers.pipeline_parallel_serving import measure_serving
from benchmarks.training.case import PIPELINED, SERIAL, WAYS, Case
from benchmarks.training.timeline import draw

ROUNDS = 5
CLIENTS, SERVING_S = 64, 4.0
PAGE = ROOT / "docs" / "benchmarks-training.md"
PICTURE = "devices-timeline.png"
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
CASE = Case(layers=4, units=256, rows=64, steps=64, inputs=8, outputs=1)
# Of a turn of a schedule.
BATCHES = 12
# Compiling a schedule takes the longest.
PREPARE_TIMEOUT_S = 300.0
Seconds = dict[str, list[float]]


@contextmanager
def started(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Side]:
    """A side, ready. All are on the processor, whatever else there is."""
    log = BUILD / "logs" / f"training-{name}.log"
    side = Side(f"benchmarks.training.{name}", arguments, {**environment, **ON_PROCESSOR}, log)
    try:
        side.wait(PREPARE_TIMEOUT_S)
        yield side
    finally:
        side.close()


def measure_default() -> Seconds:
    """The default task, beside Keras' own layers."""
    sides: dict[str, tuple[str, Mapping[str, str]]] = {
        "Unroll": ("unroll", ONEDNN),
        "Keras": ("keras", {}),
        "Keras, TF_ENABLE_ONEDNN_OPTS=1": ("keras", ONEDNN),
    }
    found: Seconds = {name: [] for name in sides}
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(started("default_side", [side], environment))
            for name, (side, environment) in sides.items()
        }
        for _ in range(ROUNDS):
            for name, each in running.items():
                found[name].append(each.ask("burst")["seconds"])
    return found


def measure_stages(trains: bool, traces: Path | None = None) -> Seconds:
    """Two devices, in each of `WAYS`; they take turns in their process.

    Args:
        trains: whether batches are trained on; else they are predicted.
        traces: folder that gets a trace of each way.
    """
    found: Seconds = {way: [] for way in WAYS}
    arguments = ["2", json.dumps(asdict(CASE)), "--one-thread"]
    with started("stages_side", arguments, ONEDNN) as side:
        for way in WAYS:
            side.ask("prepare", PREPARE_TIMEOUT_S, way=way, trains=trains)
        for _ in range(ROUNDS):
            for way in WAYS:
                found[way].append(side.ask("burst", way=way, batches=BATCHES)["seconds"])
        if traces:
            for way in WAYS:
                side.ask("trace", way=way, folder=str(traces / way))
    return found


def training_table(found: Seconds, what: str) -> str:
    """A row for each side; the first is what the others are compared with."""
    first = next(iter(found))
    rows = [
        [name, f"{1e3 * median(seconds):.0f}", _ratio(seconds, found[first], name == first)]
        for name, seconds in found.items()
    ]
    return table([what, "ms a batch", f"{first} is so many times as fast"], rows)


def serving_table(cells: list[dict[str, Any]]) -> str:
    """A row for each server; the first is what the others are compared with."""
    rounds = cells[0]["rounds"]
    rows = [
        [
            cell["server"],
            *(f"{cell[name]:.0f}" for name in ("per_second", "p50_ms", "p99_ms")),
            _ratio(rounds, cell["rounds"], cell is cells[0]),
        ]
        for cell in cells
    ]
    return table(["", "requests/s", "p50 ms", "p99 ms", "the first / it"], rows)


def _ratio(values: Sequence[float], to: Sequence[float], is_first: bool) -> str:
    return "" if is_first else f"{ratio(values, to):.2f}"


def page(
    default: Seconds,
    train: Seconds,
    infer: Seconds,
    serving: list[dict[str, Any]],
    about: dict[str, Any],
    measured: str,
) -> str:
    """The Markdown; `measured` is the commit."""
    return f"""# Benchmarks of training

Written by `python -m benchmarks.training` from commit `{measured}`, on
{about["cores"]} cores of {about["cpu"]}. Medians of {ROUNDS} rounds in which the sides
take turns; ratios are medians of the rounds' own.

## The default task

Batches of the default training (`python -m model.train`: 3 x LSTM 100, 128 windows of 72 hours).
Keras is `keras.layers.LSTM` x 3 and `fit` on the same windows, without dropout; Unroll has its
dropout and noise, a running average of weights and reproducible operations. Unroll switches
oneDNN on, which TensorFlow does by itself on some processors only; so the last row does too.

{training_table(default, "training")}

## Layers on two devices

4 x LSTM 256, batches of 64 rows and 64 time steps, the CPU split into two devices, two threads in
all. *Pipelined* is what Unroll does: time is cut into chunks, and a layer begins with its first
chunk. *One chunk* is the same without the cut; there, the gradients of a layer's weights can still
be computed beside the layer below. *Layer after layer* lets nothing overlap: a layer begins when
its neighbour has ended, with its gradients too.

{training_table(train, "training")}

{training_table(infer, "inference")}

![Which device computes what and when]({PICTURE})

## Serving a model on two devices

The same layers in the service (`UNROLL_LOGICAL_DEVICES=2`, TensorFlow's kernel), `mixed` requests
from {CLIENTS} clients.

{serving_table(serving)}
"""


def main() -> int:
    """The command; returns the exit status."""
    argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__).parse_args()
    measured = commit()  # before what this writes
    with tempfile.TemporaryDirectory() as name:
        train = measure_stages(trains=True, traces=Path(name))
        draw(Path(name), (PIPELINED, SERIAL), PAGE.parent / PICTURE)
    infer = measure_stages(trains=False)
    default = measure_default()
    serving = measure_serving(CLIENTS, ROUNDS, SERVING_S)
    PAGE.write_text(page(default, train, infer, serving, machine(), measured))
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
