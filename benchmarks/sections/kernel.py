"""The kernels alone, without a server."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.kernels.table import ERROR_SAMPLE, kernel_table
from benchmarks.kernels.work import ROWS
from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import ROOT
from benchmarks.report import plots
from benchmarks.report.markdown import rounded_up
from benchmarks.sections.plan import Plan


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`."""
    for units in plan.kernel_units:
        ensure_model(units)
    return [_measure(units, plan.rounds) for units in plan.kernel_units]


def _measure(units: int, rounds: int) -> dict[str, Any]:
    """In a process of its own, whose libraries have one thread."""
    command = [sys.executable, "-m", "benchmarks.kernels", "--json", "--model", str(units)]
    numbers = ["--rounds", str(rounds), "--rows", *map(str, ROWS)]
    done = subprocess.run(
        command + numbers, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write(found: Sequence[dict[str, Any]], _: dict[str, Any], folder: Path) -> str:
    """See `Section`."""
    peaks = ", ".join(f"{r['peak_gflops']:.0f} GFLOP/s ({r['units']} units)" for r in found)
    errors = ", ".join(f"{rounded_up(r['bfloat16_error'], 3)} ({r['units']} units)" for r in found)
    parts = [
        "## The kernels alone",
        "`python -m benchmarks.kernels`: calls with B sequences of 50 time steps, one thread each. "
        "The peak is that of a float32 product of two matrices of 1024 x 1024 in the same run: "
        f"{peaks}. Outputs in bfloat16 are off by up to {errors} of their standard deviation in a "
        f"sample ({ERROR_SAMPLE}); all others compute in float32. Bfloat16 is for processors that "
        "multiply such numbers, and faster than float32: so it may exceed that peak.",
        *map(kernel_table, found),
        plots.kernel(found, folder),
    ]
    return "\n\n".join(parts)
