"""`python -m benchmarks.training`: measures training, and layers on several devices.

Writes docs/benchmarks-training.md and the timeline beside it; takes about 5 minutes. Sides take
turns: a burst of batches each, so that a slow phase of the machine meets all of them.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.paths import BUILD, ROOT
from benchmarks.processes.side import Side
from benchmarks.report.machine import commit, machine
from benchmarks.report.markdown import ratio, table
from benchmarks.training.case import PIPELINED, SERIAL, WAYS
from benchmarks.training.placed import measure_serving
from benchmarks.training.timeline import draw

ROUNDS = 5
CLIENTS, SERVING_S = 64, 4.0
PAGE = ROOT / "docs" / "benchmarks-training.md"
PICTURE = "devices-timeline.png"
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
# Compiling the schedules takes the longest.
START_TIMEOUT_S = 300.0
Seconds = dict[str, list[float]]


@contextmanager
def started(sides: Mapping[str, tuple[str, Mapping[str, str]]]) -> Iterator[dict[str, Side]]:
    """Sides by the names they have in a table, ready."""
    with ExitStack() as stack:
        found = {}
        for name, (side, environment) in sides.items():
            log = BUILD / "logs" / f"training-{side}.log"
            found[name] = Side("benchmarks.training.side", [side], environment, log)
            stack.callback(found[name].close)
            found[name].wait(START_TIMEOUT_S)
        yield found


def measure_default() -> Seconds:
    """The default task, beside Keras' own layers."""
    sides = {
        "Unroll": ("unroll", ONEDNN),
        "Keras": ("keras", {}),
        "Keras, TF_ENABLE_ONEDNN_OPTS=1": ("keras", ONEDNN),
    }
    found: Seconds = {name: [] for name in sides}
    with started(sides) as running:
        for _ in range(ROUNDS):
            for name, side in running.items():
                found[name].append(side.ask("burst")["seconds"])
    return found


def measure_stages(name: str, folder: Path | None = None) -> Seconds:
    """Two devices, in each of `WAYS`; they take turns in their process, batch by batch."""
    environment = ONEDNN | ({"BENCH_TRACES": str(folder)} if folder else {})
    found: Seconds = {way: [] for way in WAYS}
    with started({name: (name, environment)}) as running:
        for _ in range(ROUNDS):
            for way, seconds in running[name].ask("burst").items():
                found[way].append(seconds)
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
    measured = commit()  # before what this writes
    with tempfile.TemporaryDirectory() as name:
        train = measure_stages("stages_train", Path(name))
        draw(Path(name), (PIPELINED, SERIAL), PAGE.parent / PICTURE)
    infer = measure_stages("stages_infer")
    default = measure_default()
    serving = measure_serving(CLIENTS, ROUNDS, SERVING_S)
    PAGE.write_text(page(default, train, infer, serving, machine(), measured))
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
