"""The open loop: requests at random moments, whether or not answers keep up."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import open_loop
from benchmarks.load.timed_sending import OpenLoad
from benchmarks.load.workloads import make
from benchmarks.models.ensure_model import ensure_model
from benchmarks.progress import say
from benchmarks.report import plots
from benchmarks.report.markdown import number, table
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import awake, running
from benchmarks.servers.kinds import FASTAPI_PROCESSES, GRANIAN, KINDS, ServerKind

WARM_UP_S = 1.0
# With a process a core.
PROCESS_A_CORE = (FASTAPI_PROCESSES, GRANIAN)

Row = dict[str, Any]


def peak_of_peers(
    cells: Sequence[Row], workload: str, but: Sequence[str] = ()
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


def measure(plan: Plan, results: dict[str, Any]) -> list[Row]:
    """See `Section`: every server at half of the peak rate of the strongest peer, and of the
    strongest without a process a core."""
    closed = results["closed"]
    peaks = dict(peak_of_peers(closed, "mixed", but) for but in ((), PROCESS_A_CORE))
    loads: dict[tuple[str, str], list[OpenLoad]] = {}
    for round_number in range(min(plan.rounds, plan.open_rounds)):
        for name in plan.servers:
            if round_number < plan.rounds_of(name):
                for strongest, peak in peaks.items():
                    load = _round(plan, KINDS[name], peak / 2)
                    loads.setdefault((strongest, name), []).append(load)
    return [
        {
            "rate": peak / 2,
            "strongest": strongest,
            "rows": [_row(name, loads[strongest, name]) for name in plan.servers],
        }
        for strongest, peak in peaks.items()
    ]


def _row(name: str, loads: Sequence[OpenLoad]) -> Row:
    row: Row = {"server": name}
    row["requests"] = sum(load.requests for load in loads)
    row["errors"] = sum(load.errors for load in loads)
    for part in ("achieved", "p50_ms", "p99_ms", "max_ms"):
        row[part] = median(getattr(load, part) for load in loads)
    say(f"open loop {row}")
    return row


def _round(plan: Plan, kind: ServerKind, rate: float) -> OpenLoad:
    """One round of a server that has the machine to itself.

    Others that are stopped keep thousands of connections of those they could not answer, which
    lengthens everybody's tail; and what they left undone would go on at the next rate.
    """
    with running([kind], ensure_model(plan.units), [make("mixed")]) as (server,), awake(server):
        return open_loop.drive_elsewhere(
            server.port, "mixed", rate, plan.open_seconds, WARM_UP_S, kind.wrap
        )


def write(found: list[Row], _: dict[str, Any], folder: Path) -> str:
    """See `Section`."""
    parts = [
        f"""## Open loop

`mixed` requests at random moments (Poisson), at half of the most that the strongest peer answers,
then at half of that of the strongest peer with one process. Each server is started anew for each
rate and round and is alone on the machine. Latency counts from the moment a request was due; of a
request without a good answer, until the measurement ended: beside errors, percentiles are lower
bounds. Answered are those with a good answer before the last request was due. A server is
overloaded if more than {plots.MANY_ERRORS:.0%} of its requests got no good answer."""
    ]
    for each in found:
        parts.append(
            f"{each['rate']:,.0f} requests a second, half the peak of {each['strongest']}:"
        )
        parts.append(open_table(each["rows"]))
    return "\n\n".join([*parts, plots.open_loop(found, folder)])


def open_table(rows: Sequence[Row]) -> str:
    """What each server did at the same rate; no percentiles of those that could not."""

    def latencies(row: Row) -> list[str]:
        if plots.overloaded(row):
            return ["overloaded", "", ""]
        return [number(row[name]) for name in ("p50_ms", "p99_ms", "max_ms")]

    return table(
        ["server", "answered/s", "p50 ms", "p99 ms", "longest ms", "errors"],
        [
            [
                row["server"],
                number(row["achieved"]),
                *latencies(row),
                f"{row['errors']:,} of {row['requests']:,}",
            ]
            for row in rows
        ],
    )
