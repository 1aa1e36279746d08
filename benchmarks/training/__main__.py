"""`python -m benchmarks.training`: measures training, and layers on several devices.

Writes docs/benchmarks-training.md and the timeline beside it; takes about 5 minutes. Sides take
turns: a burst of batches each, so that a slow phase of the machine meets all of them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.models.files import ROOT
from benchmarks.report.machine import commit, machine
from benchmarks.training.placed import measure_serving
from benchmarks.training.timeline import draw

ROUNDS = 5
CLIENTS, SERVING_S = 64, 4.0
PAGE = ROOT / "docs" / "benchmarks-training.md"
PICTURE = "devices-timeline.png"
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
WAYS = ("pipelined", "one chunk", "layer after layer")
Seconds = dict[str, list[float]]


class Side:
    """A process of `training_sides.py`.

    Args:
        name: of the side.
        environment: beside this process's own.
    """

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training.sides", name],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        if self._from.readline() != "ready\n":
            raise RuntimeError(f"side {name} did not start")

    def burst(self) -> dict[str, float]:
        """Seconds of a batch, the median of a few."""
        self._to.write("\n")
        self._to.flush()
        found: dict[str, float] = json.loads(self._from.readline())
        return found

    def close(self) -> None:
        """Ends the process."""
        self._to.close()
        self._process.wait(60)


@contextmanager
def started(sides: Mapping[str, tuple[str, Mapping[str, str]]]) -> Iterator[dict[str, Side]]:
    """Sides by the names they have in a table."""
    with ExitStack() as stack:
        found = {}
        for name, (side, environment) in sides.items():
            found[name] = Side(side, environment)
            stack.callback(found[name].close)
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
                found[name].append(side.burst()["seconds"])
    return found


def measure_stages(name: str, folder: Path | None = None) -> Seconds:
    """Two devices, in each of `WAYS`; they take turns in their process, batch by batch."""
    environment = ONEDNN | ({"BENCH_TRACES": str(folder)} if folder else {})
    found: Seconds = {way: [] for way in WAYS}
    with started({name: (name, environment)}) as running:
        for _ in range(ROUNDS):
            for way, seconds in running[name].burst().items():
                found[way].append(seconds)
    return found


def ratios(found: Seconds, to: str) -> dict[str, float]:
    """How many times the seconds of `to` each takes: the median over rounds."""
    return {
        name: statistics.median(a / b for a, b in zip(values, found[to], strict=True))
        for name, values in found.items()
    }


def table(found: Seconds, what: str) -> str:
    """A row for each side; the first is what the others are compared with."""
    first = next(iter(found))
    lines = [f"| {what} | ms a batch | {first} is so many times as fast |", "|---|---:|---:|"]
    for name, ratio in ratios(found, first).items():
        shown = "" if name == first else f"{ratio:.2f}"
        lines.append(f"| {name} | {1e3 * statistics.median(found[name]):.0f} | {shown} |")
    return "\n".join(lines)


def serving_table(cells: list[dict[str, Any]]) -> str:
    """A row for each server; the first is what the others are compared with."""
    first = cells[0]
    lines = ["| | requests/s | p50 ms | p99 ms | the first / it |", "|---|---:|---:|---:|---:|"]
    for cell in cells:
        pairs = zip(first["rounds"], cell["rounds"], strict=True)
        ratio = "" if cell is first else f"{statistics.median(a / b for a, b in pairs):.2f}"
        numbers = f"{cell['per_second']:.0f} | {cell['p50_ms']:.0f} | {cell['p99_ms']:.0f}"
        lines.append(f"| {cell['server']} | {numbers} | {ratio} |")
    return "\n".join(lines)


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

{table(default, "training")}

## Layers on two devices

4 x LSTM 256, batches of 64 rows and 64 time steps, the CPU split into two devices, two threads in
all. *Pipelined* is what Unroll does: time is cut into chunks, and a layer begins with its first
chunk. *One chunk* is the same without the cut; there, the gradients of a layer's weights can still
be computed beside the layer below. *Layer after layer* lets nothing overlap: a layer begins when
its neighbour has ended, with its gradients too.

{table(train, "training")}

{table(infer, "inference")}

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
        draw(Path(name), ("pipelined", "layer after layer"), PAGE.parent / PICTURE)
    infer = measure_stages("stages_infer")
    default = measure_default()
    serving = measure_serving(CLIENTS, ROUNDS, SERVING_S)
    PAGE.write_text(page(default, train, infer, serving, machine(), measured))
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
