"""How many `fixed` requests a second these cores could answer at all.

It is cores / (core-seconds of HTTP and JSON alone + core-seconds of the kernel at its
best batch). Both are measured: the first on Unroll's own app without a kernel, the second on its
kernels, one thread. The load generator's share of the cores is not taken off.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.kernels.work import BFLOAT16
from benchmarks.load.workloads import make
from benchmarks.model_files import BenchModel
from benchmarks.models.ensure_model import ensure_model
from benchmarks.processes.process import available_cores
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import measure as measure_cells
from benchmarks.servers.interleaving import running
from benchmarks.servers.kinds import WITHOUT_KERNEL

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


def measure(plan: Plan, results: dict[str, Any]) -> dict[str, Any]:
    """See `Section`. The kernels are those of the section `kernel`.

    Raises:
        ValueError: that has not been measured.
    """
    found = [each for each in results.get("kernel", []) if each["units"] == plan.units]
    if not found:
        raise ValueError("the bound needs the section 'kernel': measure that first")
    return asdict(find_bound(ensure_model(plan.units), plan.rounds, plan.seconds, found[0]))


def find_bound(model: BenchModel, rounds: int, seconds: float, kernels: dict[str, Any]) -> Bound:
    """Measures HTTP and JSON alone and puts both together.

    Args:
        model: to serve.
        rounds: of the app without a kernel.
        seconds: of a round.
        kernels: as the section `kernel` has them.
    """
    with running([WITHOUT_KERNEL], model, []) as servers:
        cells = [
            cell
            for clients in CLIENTS
            for cell in measure_cells(servers, make("fixed"), clients, rounds, seconds)
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


def write(found: dict[str, Any], results: dict[str, Any], _: Path) -> str:
    """See `Section`."""
    total_us = 1e6 * (found["http_core_s"] + found["kernel_core_s"])
    lines = f"""## The bound

How many `fixed` requests these cores could answer if they did nothing but Unroll's own HTTP, JSON
and kernel. It is no law of nature: these are added up as they are, and another server may need
less. HTTP and JSON alone take {1e6 * found["http_core_s"]:.1f} us of a core per request (Unroll's
app with an engine that answers at once), the kernel {1e6 * found["kernel_core_s"]:.1f} us per
sequence at its best batch ({found["kernel"]}, {found["rows"]} rows, one thread).

    bound = {found["cores"]} cores / {total_us:.1f} us = {found["per_second"]:,.0f} requests/s

The load generator's share of the cores is not taken off."""
    own = [
        cell
        for cell in results.get("closed", [])
        if cell["workload"] == "fixed" and cell["server"].startswith("unroll")
    ]
    if own:
        best = max(own, key=lambda cell: cell["per_second"])
        part = best["per_second"] / found["per_second"]
        lines += (
            f"\n\nUnroll reaches {best['per_second']:,.0f} requests/s ({best['server']}, "
            f"{best['clients']} clients): {part:.0%} of it."
        )
    return lines
