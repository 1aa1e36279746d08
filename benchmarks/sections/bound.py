"""`python -m benchmarks.sections.bound`: how many requests a second these cores could answer at all.

For `fixed` it is cores / (core-seconds of HTTP and JSON alone + core-seconds of the kernel at its
best batch). Both are measured: the first on Unroll's own app without a kernel, the second on its
kernels, one thread. The load generator's share of the cores is not taken off.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.kernels.work import BFLOAT16, ROWS
from benchmarks.load.workloads import make
from benchmarks.models.files import ROOT, BenchModel
from benchmarks.models.prepare import ensure_model
from benchmarks.servers.kinds import BARE, available_cores
from benchmarks.servers.rounds import WARM_UP_S, measure, running, say

CLIENTS = (16, 64)


@dataclass(frozen=True)
class Bound:
    """What was measured, and what follows.

    Attributes:
        cores: that the servers may use.
        http_core_s: of a request without a kernel.
        kernel_core_s: of a sequence at the best batch.
        kernel, rows: the best batch and its kernel.
        per_second: requests/s at most.
        http_per_second: requests/s of the app without a kernel, beside the load generator.
    """

    cores: int
    http_core_s: float
    kernel_core_s: float
    kernel: str
    rows: int
    per_second: float
    http_per_second: float


def bound_of(cores: int, http_core_s: float, kernel_core_s: float) -> float:
    """Requests/s at most: every core always busy with work that cannot be left out."""
    return cores / (http_core_s + kernel_core_s)


def best_kernel(kernels: dict[str, Any]) -> dict[str, Any]:
    """The row of `kernel.measure` with the least time a sequence, of Unroll's float32 kernels."""
    own = [
        row
        for row in kernels["rows"]
        if row["form"].startswith("Unroll") and row["form"] != BFLOAT16
    ]
    return dict(min(own, key=lambda row: row["ms"] / row["rows"]))


def measure_kernels(units: int, rows: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """`kernel.measure` in a process of its own, whose libraries have one thread."""
    command = [sys.executable, "-m", "benchmarks.kernels", "--json", "--model", str(units)]
    numbers = ["--rounds", str(rounds), "--rows", *map(str, rows)]
    done = subprocess.run(
        command + numbers, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def find_bound(model: BenchModel, rounds: int, seconds: float, kernels: dict[str, Any]) -> Bound:
    """Measures HTTP and JSON alone and puts both together.

    Args:
        model: to serve.
        rounds: of the app without a kernel.
        seconds: of a round.
        kernels: from `measure_kernels`.
    """
    with running([BARE], model, []) as servers:
        cells = [
            cell
            for clients in CLIENTS
            for cell in measure(servers, make("fixed"), clients, rounds, seconds)
        ]
    http = min(cells, key=lambda cell: cell.core_s)
    best = best_kernel(kernels)
    kernel_core_s = 1e-3 * best["ms"] / best["rows"]
    cores = available_cores()
    return Bound(
        cores=cores,
        http_core_s=http.core_s,
        kernel_core_s=kernel_core_s,
        kernel=best["form"],
        rows=best["rows"],
        per_second=bound_of(cores, http.core_s, kernel_core_s),
        http_per_second=max(cell.per_second for cell in cells),
    )


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sections.bound", description=__doc__
    )
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help=f"after {WARM_UP_S:.0f} s")
    options = parser.parse_args()
    model = ensure_model(options.model)
    kernels = measure_kernels(options.model, ROWS, options.rounds)
    found = find_bound(model, options.rounds, options.seconds, kernels)
    say("")
    print(json.dumps(asdict(found), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
