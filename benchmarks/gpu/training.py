"""The section `training`: a batch of Unroll, Keras and PyTorch, in turns.

`python -m benchmarks.gpu.training RESULTS PLAN`, in a process of its own.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import TrainingPlan, load_training
from benchmarks.gpu.recorder import Recorder
from benchmarks.paths import BUILD
from benchmarks.processes.side import Side, SideFailed
from benchmarks.progress import say
from benchmarks.training.case import Case

# Unroll's own.
KEEP = 0.6
TENSORFLOW, TORCH = "benchmarks.gpu.tensorflow_side", "benchmarks.gpu.torch_side"
GROWTH = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
TF32 = "--tensor-float-32"
# Compiling the loops of a large model takes the longest.
PREPARE_TIMEOUT_S = 60.0
PROCESSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "unroll": (TENSORFLOW, ("--deterministic",)),
    # A process of its own: what XLA needs a minute for costs the others nothing.
    "loops": (TENSORFLOW, ("--deterministic",)),
    "keras": (TENSORFLOW, ()),
    "torch": (TORCH, ()),
    "unroll TF32": (TENSORFLOW, ("--deterministic", TF32)),
    "torch TF32": (TORCH, (TF32,)),
}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: of the line.
        process: of `PROCESSES`, that computes it.
        name: what it computes there.
        keep: chance to keep an output of a layer.
        group: rows that are compared with each other.
    """

    label: str
    process: str
    name: str
    keep: float = 1.0
    group: str = "plain"


PLAIN = (
    Row("Unroll, cuDNN", "unroll", "fastest"),
    Row("Unroll, loops", "loops", "compiled"),
    Row("Keras", "keras", "keras"),
    Row("PyTorch", "torch", "torch"),
)
GROUPS = {
    "plain": PLAIN,
    "dropout": tuple(replace(row, keep=KEEP, group="dropout") for row in PLAIN),
    "TF32": (
        Row("Unroll, cuDNN", "unroll TF32", "fastest", group="TF32"),
        Row("PyTorch", "torch TF32", "torch", group="TF32"),
    ),
}


class Section:
    """Sides, rows, and what was found so far.

    Args:
        plan: what to measure.
        recorder: gets it after each round.
        log: folder of the sides' logs.
    """

    def __init__(self, plan: TrainingPlan, recorder: Recorder, log: Path) -> None:
        self._plan, self._recorder, self._log = plan, recorder, log
        self._rows = [row for group in plan.groups for row in GROUPS[group]]
        self._sides: dict[str, Side] = {}
        self._results: dict[str, Any] = {"sides": {}, "cells": []}

    def run(self) -> None:
        """Measures all cases."""
        with ExitStack() as stack:
            for name in dict.fromkeys(row.process for row in self._rows):
                module, arguments = PROCESSES[name]
                log = self._log / f"gpu-{name.replace(' ', '-')}.log"
                self._sides[name] = Side(module, arguments, GROWTH, log)
                stack.callback(self._sides[name].close)
            for name, side in list(self._sides.items()):
                try:
                    self._results["sides"][name] = side.wait()
                except SideFailed as error:
                    self._lose(name, str(error))
            for case in self._plan.cases:
                self._measure(self._prepared(case))

    def _lose(self, name: str, error: str) -> None:
        say(f"training: {name}: {error}")
        self._results["sides"][name] = {"error": error}
        self._sides.pop(name, None)

    def _prepared(self, case: Case) -> list[dict[str, Any]]:
        """Cells of a case, each made and warm; sides prepare at the same time."""
        cells = [
            {**asdict(row), "case": asdict(case), "title": case.name, "seconds": []}
            for row in self._rows
        ]
        self._results["cells"] += cells
        with ThreadPoolExecutor() as threads:
            of_each = [[c for c in cells if c["process"] == name] for name in PROCESSES]
            list(threads.map(self._prepare, of_each))
        self._recorder.write(self._results)
        return cells

    def _prepare(self, cells: Sequence[dict[str, Any]]) -> None:
        for cell in cells:
            self._ask(cell, "prepare", PREPARE_TIMEOUT_S)

    def _measure(self, cells: Sequence[dict[str, Any]]) -> None:
        """Rounds of all cells, while there is time for one more."""
        for _ in range(self._plan.rounds):
            started = time.monotonic()
            for cell in cells:
                if found := self._ask(cell, "burst", burst_s=self._plan.burst_s):
                    cell["seconds"].append(found["seconds"])
            self._recorder.write(self._results)
            if not self._recorder.fits(time.monotonic() - started):
                break

    def _ask(
        self, cell: dict[str, Any], question: str, timeout_s: float = 30.0, **details: Any
    ) -> dict[str, Any] | None:
        """What a cell's side answers; None where it cannot, which the cell then tells."""
        side = self._sides.get(cell["process"])
        if side is None:
            cell.setdefault("error", self._results["sides"][cell["process"]]["error"])
        if side is None or "error" in cell:
            return None
        named = {name: cell[name] for name in ("name", "case", "keep")}
        try:
            found = side.ask(question, timeout_s, **named, **details)
        except SideFailed as error:
            cell["error"] = str(error)
            say(f"training: {cell['label']}, {cell['title']}: {error}")
            return None
        cell.update({name: found[name] for name in found if name != "seconds"})
        return found


def main() -> None:
    """The process of the section."""
    plan = load_training(sys.argv[2])
    Section(plan, Recorder(Path(sys.argv[1]), plan.limit_s), BUILD / "logs").run()


if __name__ == "__main__":
    main()
