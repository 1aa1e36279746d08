"""Unroll's app without a kernel, to measure its HTTP and JSON alone.

`python -m benchmarks.servers.without_kernel` serves as `python -m app` does. Everything is Unroll's
own, its worker processes included, but the engine, which completes a request at once with random
numbers, as long to print as real ones.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI

import app.__main__ as command
import app.registry.engine_factory as warm_engine
import app.workers.worker_app as worker
from app.engine.cost_model import Cost
from app.engine.engine import Engine
from app.engine.sequence import Admission, Done, Sequence
from app.manifest import Manifest

SEED = 20131225
MAX_STEPS = 10_000


class NoRunner:
    """A kernel of the model's sizes that is never asked. See `ModelRunner`."""

    kernel = "none"
    compilations = 0
    devices = ("CPU:0",)

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.num_outputs = len(manifest.outputs)
        self.state_size = sum(layer.units for layer in manifest.layers for _ in layer.states)

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """Nothing to warm."""
        return Cost(1e-3, 1e-5, 1e-5)

    def run(self, *chunk: Any) -> Any:
        """Never."""
        raise AssertionError("this is a bug: nothing is computed here")


class InstantEngine(Engine):
    """An engine whose every request is complete when it is begun."""

    def __init__(self, runner: Any, *sizes: Any, **named: Any) -> None:
        super().__init__(runner, *sizes, **named)
        random = np.random.default_rng(SEED)
        shape = (MAX_STEPS, runner.num_outputs)
        self._outputs = random.uniform(-1, 1, shape).astype(np.float32)
        self._state = random.uniform(-1, 1, runner.state_size).astype(np.float32)

    def begin(
        self, sequences: list[Sequence], done: Done, admission: Admission | None = None
    ) -> None:
        """Completes the sequences; `done` is called when this has returned, as `Engine` has it."""
        for sequence in sequences:
            sequence.outputs = self._outputs[: len(sequence.inputs)]
            sequence.cursor = len(sequence.inputs)
            sequence.state = self._state
        asyncio.get_running_loop().call_soon(done, None)


class InstantWorker(worker.Worker):
    """A worker without a kernel. What it replaces, it replaces in the process that serves."""

    def __call__(self) -> FastAPI:
        """See `Worker`."""
        vars(warm_engine)["Engine"] = InstantEngine
        vars(worker)["KernelLoader"] = _no_loader
        return super().__call__()


def _no_loader(*_: Any) -> Callable[[Path, Manifest], NoRunner]:
    return NoRunner


def main() -> int:
    """Serves as `python -m app` does."""
    vars(command)["Worker"] = InstantWorker
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
