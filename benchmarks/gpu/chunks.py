"""The section `chunks`: chunks of serving by each kernel, and where the time of cuDNN's goes.

`python -m benchmarks.gpu.chunks RESULTS PLAN`, in a process of its own.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from app.engine.runner_interface import ModelRunner
from benchmarks.gpu.plan import ChunksPlan
from benchmarks.gpu.recorder import Recorder
from benchmarks.kernels import unroll_kernels
from benchmarks.model_files import NUM_FEATURES, bench_model
from benchmarks.processes.failure_line import one_line
from benchmarks.progress import say
from benchmarks.training import trace

CUDNN, TENSORFLOW, CPU = "cuDNN", "TensorFlow", "ONNX Runtime, one core"
# Of which the trace's figures are the mean.
TRACED = 8
COPIES = 15
# What a trace takes, about.
TRACE_S = 2.0

Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]
Cell = dict[str, Any]
# A kernel by its name, or in one line why there is none.
Runners = Mapping[str, ModelRunner | str]
Measure = Callable[[Cell, ModelRunner], None]


# By the names of their columns.
KERNELS = {
    CUDNN: unroll_kernels.CUDNN,
    TENSORFLOW: unroll_kernels.TENSORFLOW,
    CPU: unroll_kernels.ONNXRUNTIME,
}


class Section:
    """Cells, one a kernel and size of a chunk.

    Args:
        plan: what to measure.
        recorder: gets it after each model and round.
    """

    def __init__(self, plan: ChunksPlan, recorder: Recorder) -> None:
        self._plan, self._recorder = plan, recorder
        self._results: dict[str, Any] = {"cells": []}

    def run(self) -> None:
        """Measures the chunks of each model."""
        measured: list[tuple[list[Cell], dict[str, ModelRunner | str]]] = []
        for units in self._plan.units:
            loaded = self._load(bench_model(units).folder)
            cells = [
                {"units": units, "rows": rows, "steps": steps, "kernel": name, "seconds": []}
                for rows in self._plan.rows
                for steps in self._plan.steps
                for name in KERNELS
            ]
            self._results["cells"] += cells
            for cell in cells:
                _guarded(self._prepare, cell, loaded)
            self._recorder.write(self._results)
            self._rounds(cells, loaded)
            measured.append((cells, loaded))
        # Last: where a profiler fails, it may take the process along.
        for cells, loaded in measured:
            for cell in cells:
                if cell["kernel"] == CUDNN and self._recorder.fits(TRACE_S):
                    _guarded(split, cell, loaded)
                    self._recorder.write(self._results)

    def _load(self, folder: Path) -> dict[str, ModelRunner | str]:
        """Each kernel, or in one line why there is none."""
        found: dict[str, ModelRunner | str] = {}
        for name, kernel in KERNELS.items():
            try:
                runner = unroll_kernels.load_runner(kernel, folder)
                runner.set_limits(max(self._plan.rows), max(self._plan.steps))
                found[name] = runner
            except Exception as error:
                found[name] = one_line(error)
                say(f"chunks: {name}: {found[name]}")
        return found

    def _prepare(self, cell: Cell, runner: ModelRunner) -> None:
        """Compiles the call, and finds out how long it takes and how far it is off."""
        if cell["kernel"] == CPU and _predicted(self._results["cells"], cell) > self._plan.cpu_s:
            raise TimeoutError(f"more than {self._plan.cpu_s:.0f} s a call")
        chunk = chunk_of(cell, runner)
        outputs, _ = runner.run(*chunk)
        started = time.perf_counter()
        runner.run(*chunk)
        cell["once_s"] = time.perf_counter() - started
        cell["sample"] = outputs[0, :, 0].tolist()

    def _rounds(self, cells: list[Cell], loaded: Runners) -> None:
        for _ in range(self._plan.rounds):
            started = time.monotonic()
            for cell in cells:
                _guarded(self._burst, cell, loaded)
            self._recorder.write(self._results)
            if not self._recorder.fits(time.monotonic() - started):
                break

    def _burst(self, cell: Cell, runner: ModelRunner) -> None:
        chunk = chunk_of(cell, runner)
        count = max(1, round(self._plan.burst_s / cell["once_s"]))
        cell["seconds"].append(median(_seconds(lambda: runner.run(*chunk)) for _ in range(count)))


def _guarded(measure: Measure, cell: Cell, loaded: Runners) -> None:
    """Measures, or notes in the cell in one line why not."""
    runner = loaded[cell["kernel"]]
    if isinstance(runner, str):
        cell.setdefault("error", runner)
    if isinstance(runner, str) or "error" in cell:
        return
    try:
        measure(cell, runner)
    except Exception as error:
        cell["error"] = one_line(error)
        say(f"chunks: {cell['kernel']}, {cell['rows']} x {cell['steps']}: {cell['error']}")


def _predicted(cells: list[Cell], cell: Cell) -> float:
    """Seconds, from the largest chunk of the same kernel and model so far; 0 without any."""
    known = [
        (each["rows"] * each["steps"], each["once_s"])
        for each in cells
        if (each["units"], each["kernel"]) == (cell["units"], cell["kernel"]) and "once_s" in each
    ]
    if not known:
        return 0.0
    size, seconds = max(known)
    predicted: float = seconds * cell["rows"] * cell["steps"] / size
    return predicted


def chunk_of(cell: Cell, runner: ModelRunner) -> Chunk:
    """Rows of full length from a state of zeros; see `ModelRunner.run`."""
    rows, steps = cell["rows"], cell["steps"]
    random = np.random.default_rng(rows * steps)
    inputs = random.normal(size=(rows, steps, NUM_FEATURES)).astype(np.float32)
    state = np.zeros((rows, runner.state_size), np.float32)
    return inputs, np.full(rows, steps, np.int32), state


def split(cell: Cell, runner: ModelRunner) -> None:
    """Where the time of a call goes: by the trace, and by copies of the same arrays alone."""
    chunk = chunk_of(cell, runner)
    cell["copies_ms"] = _copies(chunk, runner)
    with tempfile.TemporaryDirectory() as name:
        with tf.profiler.experimental.Profile(name):
            started = time.perf_counter()
            for _ in range(TRACED):
                runner.run(*chunk)
            seconds = time.perf_counter() - started
        events = trace.card_events(trace.read(Path(name)))
    cell["traced_ms"] = 1e3 * seconds / TRACED
    # Where the profiler cannot see the card there are none.
    if events:
        found = trace.milliseconds(events)
        cell["split_ms"] = {kind: each / TRACED for kind, each in found.items()}


def _copies(chunk: Chunk, runner: ModelRunner) -> dict[str, float]:
    """Milliseconds of copying a chunk to the runner's device, and its results back."""
    outputs, state = runner.run(*chunk)
    to_card, to_host = [], []
    for _ in range(COPIES):
        with tf.device(runner.devices[0]):
            started = time.perf_counter()
            moved = [tf.identity(part) for part in (chunk[0], chunk[2])]
            _synchronize()
            to_card.append(time.perf_counter() - started)
            there = [tf.identity(part) + 0.0 for part in (outputs, state)]
        _synchronize()
        started = time.perf_counter()
        for part in there:
            part.numpy()
        to_host.append(time.perf_counter() - started)
    del moved
    return {"to_card": 1e3 * median(to_card), "to_host": 1e3 * median(to_host)}


def _synchronize() -> None:
    if tf.config.list_logical_devices("GPU"):
        tf.test.experimental.sync_devices()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """The process of the section."""
    plan = ChunksPlan(**json.loads(sys.argv[2]))
    Section(plan, Recorder(Path(sys.argv[1]), plan.limit_s)).run()


if __name__ == "__main__":
    main()
