"""The sections of a run: each measures one thing and gives what goes into `results.json`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from statistics import median
from typing import Any

from benchmarks.kernels.work import ROWS
from benchmarks.load import open_loop as openloop
from benchmarks.load import streams
from benchmarks.load.workloads import make
from benchmarks.models.prepare import ensure_model
from benchmarks.sections import bound, fairness, formats, lines, memory
from benchmarks.sections.plan import PROCESSES, Plan
from benchmarks.servers.kinds import KINDS, ServerKind
from benchmarks.servers.rounds import Cell, awake, check_together, measure, running, say

OPEN_WARM_UP_S = 1.0

Results = dict[str, Any]


def closed_loop(
    plan: Plan,
    servers: Sequence[str],
    clients: Mapping[str, Sequence[int]],
    units: int,
    seconds: Callable[[str, int], float],
) -> list[dict[str, Any]]:
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
            cells += measure(some, workloads[name], number, plan.rounds_of, long)
        check_together(started, model, list(workloads.values()))
    return [cell.document() for cell in cells]


def closed(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """The closed loop."""
    return closed_loop(plan, plan.servers, plan.clients, plan.units, plan.seconds_of)


def kernels(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """The frameworks with ONNX Runtime as their kernel."""
    clients = {"fixed": (64,), "mixed": (64,)}
    return closed_loop(plan, plan.other_kernels, clients, plan.units, plan.seconds_of)


def large(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """The model of 512 units."""
    clients = {"mixed": plan.large_clients}
    seconds = plan.large_seconds
    return closed_loop(plan, plan.large_servers, clients, 512, lambda *_: seconds)


def peak_of_peers(
    cells: Sequence[dict[str, Any]], workload: str, but: Sequence[str] = ()
) -> tuple[str, float]:
    """The peer that answers most, and its requests/s.

    Args:
        cells: of the closed loop.
        workload: of the requests.
        but: peers that do not count.

    Raises:
        ValueError: no peer was measured.
    """
    peers = [
        (cell["per_second"], cell["server"])
        for cell in cells
        if cell["workload"] == workload
        and cell["server"] not in but
        and not cell["server"].startswith("unroll")
    ]
    if not peers:
        raise ValueError(f"no peer was measured with {workload!r} yet: run the section 'closed'")
    per_second, name = max(peers)
    return name, per_second


def open_loop(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Every server at half of the peak rate of the strongest peer, and of the strongest that is
    not that peer with a process a core."""
    peaks = dict(peak_of_peers(results["closed"], "mixed", but) for but in ((), (PROCESSES,)))
    loads: dict[tuple[str, str], list[openloop.OpenLoad]] = {}
    for number in range(min(plan.rounds, plan.open_rounds)):
        for name in plan.servers:
            if number < plan.rounds_of(name):
                for strongest, peak in peaks.items():
                    load = _open_round(plan, KINDS[name], peak / 2)
                    loads.setdefault((strongest, name), []).append(load)
    return [
        {
            "rate": peak / 2,
            "strongest": strongest,
            "rows": [_open_row(name, loads[strongest, name]) for name in plan.servers],
        }
        for strongest, peak in peaks.items()
    ]


def _open_row(name: str, loads: Sequence[openloop.OpenLoad]) -> dict[str, Any]:
    row: dict[str, Any] = {"server": name}
    row["requests"] = sum(load.requests for load in loads)
    row["errors"] = sum(load.errors for load in loads)
    for part in ("achieved", "p50_ms", "p99_ms", "max_ms"):
        row[part] = median(getattr(load, part) for load in loads)
    say(f"open loop {row}")
    return row


def _open_round(plan: Plan, kind: ServerKind, rate: float) -> openloop.OpenLoad:
    """One round of a server that has the machine to itself.

    Others that are stopped keep thousands of connections of those they could not answer, which
    lengthens everybody's tail; and what they left undone would go on at the next rate.
    """
    with running([kind], ensure_model(plan.units), [make("mixed")]) as (server,), awake(server):
        return openloop.drive_elsewhere(
            server.port, "mixed", rate, plan.open_seconds, OPEN_WARM_UP_S, kind.wrap
        )


def find_bound(plan: Plan, results: Results) -> dict[str, Any]:
    """The bound of `fixed`, with the kernels of the section `kernel`.

    Raises:
        ValueError: that has not been measured.
    """
    found = [each for each in results.get("kernel", []) if each["units"] == plan.units]
    if not found:
        raise ValueError("the bound needs the section 'kernel': measure that first")
    model = ensure_model(plan.units)
    return asdict(bound.find_bound(model, plan.rounds, plan.seconds, found[0]))


def kernel(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """The kernels alone."""
    for units in plan.kernel_units:
        ensure_model(units)
    return [bound.measure_kernels(units, ROWS, plan.rounds) for units in plan.kernel_units]


def fair(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """One long sequence among short ones."""
    names = [name for name in plan.large_servers if name in plan.servers]
    return fairness.measure(names, plan.units, plan.rounds, plan.seconds)


def as_bytes(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """The same requests as JSON and as bytes."""
    return formats.measure(plan.units, formats.CLIENTS, plan.rounds, plan.seconds)


def by_lines(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """Long sequences line by line."""
    return lines.measure(plan.units, lines.TIME_STEPS, lines.ROUNDS)


def streaming(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """Open streams."""
    return streams.measure(plan.units, plan.streams, streams.INTERVAL_S, streams.SECONDS)


def grow(plan: Plan, _: Results) -> list[dict[str, Any]]:
    """Memory over many requests."""
    return memory.measure(plan.units, plan.requests)


RUN: dict[str, Callable[[Plan, Results], Any]] = {
    "closed": closed,
    "kernels": kernels,
    "large": large,
    "open": open_loop,
    "bound": find_bound,
    "kernel": kernel,
    "fairness": fair,
    "formats": as_bytes,
    "lines": by_lines,
    "streams": streaming,
    "memory": grow,
}
