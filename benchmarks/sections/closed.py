"""The closed loop: so many clients, each with one request at a time."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.load.workloads import (
    MAX_STEPS,
    MEDIAN_STEPS,
    SIGMA,
    STREAM_PIECES,
    STREAM_STEPS,
    make,
)
from benchmarks.models.ensure_model import ensure_model
from benchmarks.report import plots
from benchmarks.report import result_tables as tables
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import Cell, check_together, running
from benchmarks.servers.interleaving import measure as measure_cells
from benchmarks.servers.kinds import KINDS

WORKLOADS = {
    "fixed": "one sequence of 50 time steps a request",
    "mixed": f"one sequence; lengths are log-normal with median {MEDIAN_STEPS}, sigma {SIGMA} and "
    f"at most {MAX_STEPS}",
    "many": "16 sequences a request, lengths as in `mixed`",
    "stream": f"one sequence of {STREAM_STEPS} time steps with the states of an earlier answer; "
    f"each {STREAM_PIECES}th request starts anew",
}
LATENCY = "Latency in ms, half of the requests / 99 of 100:"

Cells = list[dict[str, Any]]


def closed_loop(
    plan: Plan,
    servers: Sequence[str],
    clients: Mapping[str, Sequence[int]],
    units: int,
    seconds: Callable[[str, int], float],
) -> Cells:
    """Cells of every server, workload and number of clients.

    Light loads come first: a server that learns how long to wait for a batch forgets slowly what it
    learned under a heavy one.
    """
    workloads = {name: make(name) for name in clients}
    kinds = [KINDS[name] for name in servers]
    model = ensure_model(units)
    cells: list[Cell] = []
    with running(kinds, model, list(workloads.values())) as started:
        for number, name in sorted(
            ((number, name) for name, numbers in clients.items() for number in numbers),
            key=itemgetter(0),
        ):
            some = [server for server in started if plan.has(server.kind.name, name)]
            long = seconds(name, number)
            cells += measure_cells(some, workloads[name], number, plan.rounds_of, long)
        check_together(started, model, list(workloads.values()))
    return [cell.document() for cell in cells]


def measure(plan: Plan, _: dict[str, Any]) -> Cells:
    """See `Section`."""
    return closed_loop(plan, plan.servers, plan.clients, plan.units, plan.seconds_of)


def write(cells: Cells, _: dict[str, Any], folder: Path) -> str:
    """See `Section`."""
    parts = [
        "## Closed loop",
        "So many clients, each with one request at a time. `x` is how many times as many requests "
        "Unroll answers." + _waits(cells),
    ]
    for name, found in by_workload(cells).items():
        parts += [f"### `{name}`: {WORKLOADS[name]}", rates_and_latencies(found)]
    return "\n\n".join([*parts, plots.throughput(cells, folder), plots.latency(cells, folder)])


def by_workload(cells: Cells) -> dict[str, Cells]:
    """The cells of each workload."""
    found: dict[str, Cells] = {}
    for cell in cells:
        found.setdefault(cell["workload"], []).append(cell)
    return found


def rates_and_latencies(cells: Cells) -> str:
    """The two tables of a workload."""
    return "\n\n".join([tables.throughput(cells), LATENCY, tables.latency(cells)])


def _waits(cells: Cells) -> str:
    """Which servers let a lone client wait for others, if any."""
    servers = dict.fromkeys(cell["server"] for cell in cells)
    settings = {name: KINDS[name].environment.get("BENCH_WAIT_S", "0") for name in servers}
    waits = [
        f"{name} ({1e3 * float(wait):.0f} ms)" for name, wait in settings.items() if float(wait) > 0
    ]
    if not waits:
        return ""
    return (
        f" Some wait for more requests to fill a batch: {', '.join(waits)}. With one client that "
        "wait is most of what they take for a request of one sequence."
    )
