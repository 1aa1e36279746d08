"""A lone caller: his sequences have the whole machine, if the server can use it."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.workloads import SEED, Workload, make, sensor_rows, workload_of
from benchmarks.model_files import BenchModel
from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import BUILD, ROOT
from benchmarks.report.markdown import number, table, times
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import measure as measure_cells
from benchmarks.servers.interleaving import running
from benchmarks.servers.kinds import FASTAPI_THREADS, GRANIAN, KINDS, ONE_THREAD_ALONE, UNROLL

# Units, and the lengths that are sent.
LENGTHS = {100: (50, 240, 1000, 5000), 512: (50, 240)}
REQUESTS = 64
SERVERS = (UNROLL, FASTAPI_THREADS, GRANIAN)
# Of small layers: a model without the parts of its graph has one thread.
SMALL = min(LENGTHS)


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`."""
    return [_measure(units, plan.rounds, plan.seconds) for units in LENGTHS]


def _measure(units: int, rounds: int, seconds: float) -> dict[str, Any]:
    model = ensure_model(units)
    workloads = [_of_length(steps) for steps in LENGTHS[units]]
    if units == SMALL:
        workloads.append(make("mixed"))
    command = [sys.executable, "-m", "benchmarks.kernels.alone", str(units)]
    steps = ",".join(str(steps) for steps in LENGTHS[units] if steps <= 1000)
    done = subprocess.run([*command, steps], check=True, stdout=subprocess.PIPE, cwd=ROOT)
    cells = []
    slow = [KINDS[ONE_THREAD_ALONE]] if units == SMALL else []
    with (
        running([KINDS[name] for name in SERVERS], model, []) as servers,
        running(slow, _without_parts(model), []) as others,
    ):
        for workload in workloads:
            cells += measure_cells([*servers, *others], workload, 1, rounds, seconds)
    return {
        "units": units,
        "kernel": json.loads(done.stdout.splitlines()[-1])["rows"],
        "cells": [cell.document() for cell in cells],
    }


def _of_length(steps: int) -> Workload:
    random = np.random.default_rng([SEED, steps])
    drawn = [[sensor_rows(steps, random)] for _ in range(REQUESTS)]
    return workload_of(f"{steps} time steps", drawn)


def _without_parts(model: BenchModel) -> BenchModel:
    """The model as it was exported before its graph had parts: Unroll serves it with one thread."""
    copy = replace(model, home=BUILD / f"{model.home.name}-one-thread")
    shutil.rmtree(copy.home, ignore_errors=True)
    shutil.copytree(model.home, copy.home)
    manifest = json.loads((copy.folder / "manifest.json").read_text())
    for part in copy.folder.glob("layer-*.onnx"):
        part.unlink()
        del manifest["files"][part.name]
    text = json.dumps(manifest)
    (copy.folder / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (copy.folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    return copy


def write(found: Sequence[dict[str, Any]], _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    parts = [
        "## A lone caller",
        "One client, one sequence a request. First the kernel: what two independent one-thread "
        "kernels compute side by side over one; from it the bound, the best that a pipeline of "
        "three layers, cut in so many parts, can do on two cores, or with 1 part the best of two "
        "threads that share each product; what Unroll's kernel does; and two threads inside one "
        "call of ONNX Runtime. All are times as fast as one thread. Then the service, beside "
        "itself with one thread (100 units: the same model without the parts of its graph) and "
        "two peers: half of the requests take at most so many ms.",
    ]
    for each in found:
        parts += [f"### {each['units']} units", _kernel(each["kernel"]), _latency(each["cells"])]
    return "\n\n".join(parts)


def _kernel(rows: Sequence[dict[str, Any]]) -> str:
    head = ["time steps", "one thread, ms", "side by side", "parts", "bound", "Unroll", "threads"]
    return table(
        head,
        [
            [
                str(row["steps"]),
                number(row["ms"]),
                times(row["side_by_side"]),
                str(row["parts"] or "-"),
                times(row["bound"]),
                times(row["pipeline"]),
                times(row["threads"]),
            ]
            for row in rows
        ],
    )


def _latency(cells: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(cell["workload"] for cell in cells))
    of = {(cell["server"], cell["workload"]): cell for cell in cells}
    servers = dict.fromkeys(cell["server"] for cell in cells)
    rows = [[server, *(number(of[server, name]["p50_ms"]) for name in names)] for server in servers]
    return table(["server", *names], rows)
