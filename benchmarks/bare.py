"""`python -m benchmarks.bare`: Unroll's app without a kernel, to measure its HTTP and JSON alone.

The one place that reaches into `app`: everything is Unroll's own but the engine, which completes a
request at once with random numbers, as long to print as real ones.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

import app.__main__ as command
import app.main as wiring
import app.registry as registry
from app.engine.cost import Cost
from app.engine.engine import Engine
from app.engine.sequence import Sequence
from app.manifest import Manifest

SEED = 20131225
MAX_STEPS = 10_000


class NoRunner:
    """A kernel of the model's sizes that is never asked. See `ModelRunner`."""

    compilations = 0

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
    """An engine whose every request is complete when it is submitted."""

    def __init__(self, runner: Any, *sizes: Any, **named: Any) -> None:
        super().__init__(runner, *sizes, **named)
        random = np.random.default_rng(SEED)
        shape = (MAX_STEPS, runner.num_outputs)
        self._outputs = random.uniform(-1, 1, shape).astype(np.float32)
        self._state = random.uniform(-1, 1, runner.state_size).astype(np.float32)

    async def submit(self, sequences: list[Sequence]) -> None:
        """Completes the sequences."""
        for sequence in sequences:
            sequence.outputs = self._outputs[: len(sequence.inputs)]
            sequence.cursor = len(sequence.inputs)
            sequence.state = self._state


def main() -> int:
    """Serves as `python -m app` does."""
    vars(registry)["Engine"] = InstantEngine
    vars(wiring)["kernel_loader"] = lambda settings: NoRunner
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
