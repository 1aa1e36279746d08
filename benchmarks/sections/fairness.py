"""What a client with long sequences does to 63 with short ones.

And what they do to it: a server that starves or refuses the long one would look best else.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.load import wrk
from benchmarks.load.workloads import SEED, Workload, make, sensor_rows, workload_of
from benchmarks.models.ensure_model import ensure_model
from benchmarks.progress import say
from benchmarks.report.markdown import NOT_KNOWN, number, table
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import WARM_UP_S, awake, running
from benchmarks.servers.kinds import KINDS
from benchmarks.servers.server import Server

SHORT_CLIENTS = 63
SHORT_STEPS, LONG_STEPS = 10, 500
BODIES = 32


def workload(name: str, steps: int) -> Workload:
    """Requests of one sequence of `steps` time steps."""
    random = np.random.default_rng([SEED, steps])
    drawn = [[sensor_rows(steps, random)] for _ in range(BODIES)]
    return workload_of(name, drawn)


@dataclass(frozen=True)
class Round:
    """What the clients saw.

    Attributes:
        alone: the short ones, with nobody beside them.
        beside: the short ones, beside the long one.
        long: the long one.
    """

    alone: wrk.Load
    beside: wrk.Load
    long: wrk.Load


def drive(server: Server, seconds: float) -> Round:
    """The short ones alone, then beside one client that sends long ones all the time.

    Each begins with a warm-up, not counted.
    """
    short = workload("short", SHORT_STEPS)
    server.load(short, SHORT_CLIENTS, WARM_UP_S)
    alone = server.load(short, SHORT_CLIENTS, seconds)
    _both(server, WARM_UP_S)
    beside, long = _both(server, seconds)
    return Round(alone, beside, long)


def _both(server: Server, seconds: float) -> tuple[wrk.Load, wrk.Load]:
    """The short ones and the long one, for as long: alone, one would look better than beside."""
    short, long = workload("short", SHORT_STEPS), workload("long", LONG_STEPS)
    with ThreadPoolExecutor(1) as other:
        sending = other.submit(server.load, long, 1, seconds)
        return server.load(short, SHORT_CLIENTS, seconds), sending.result()


def latency_ms(loads: Sequence[wrk.Load], field: str) -> float | None:
    """The median of rounds, of good answers only: `wrk` tells no latency without those of errors.

    Args:
        loads: of the rounds.
        field: `p50_ms` or `p99_ms`.

    Returns:
        None if no round is free of errors, or without an answer.
    """
    good = [getattr(load, field) for load in loads if load.requests and not load.errors]
    return median(good) if good else None


def row_of(name: str, rounds: Sequence[Round]) -> dict[str, Any]:
    """A server's row.

    Returns:
        `p50_ms` and `p99_ms` of the short ones alone, `..._beside` the long one, `..._ratio` of
        both, None where there is none; `long_per_second`, good answers to the long one, and its
        `long_p50_ms`; `errors` and `long_errors` of all rounds.
    """
    row: dict[str, Any] = {"server": name}
    for field in ("p50_ms", "p99_ms"):
        alone = latency_ms([each.alone for each in rounds], field)
        beside = latency_ms([each.beside for each in rounds], field)
        ratio = beside / alone if alone and beside else None
        row |= {field: alone, f"{field}_beside": beside, f"{field}_ratio": ratio}
    long = [each.long for each in rounds]
    row["long_per_second"] = median(load.per_second for load in long)
    row["long_p50_ms"] = latency_ms(long, "p50_ms")
    row["errors"] = sum(each.alone.errors + each.beside.errors for each in rounds)
    row["long_errors"] = sum(load.errors for load in long)
    return row


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`: a row a server, see `row_of`; from rounds in turn.

    Raises:
        ServerFailed: one does not start, or answers wrong.
    """
    names = [name for name in plan.large_servers if name in plan.servers]
    found: dict[str, list[Round]] = {name: [] for name in names}
    # Its lengths are as different as those of the clients here.
    checked = [make("mixed")]
    with running([KINDS[name] for name in names], ensure_model(plan.units), checked) as servers:
        for _round in range(plan.rounds):
            for server in servers:
                with awake(server):
                    found[server.kind.name].append(drive(server, plan.seconds))
    rows = [row_of(name, each) for name, each in found.items()]
    for row in rows:
        say(f"fairness {row}")
    return rows


def write(rows: Sequence[dict[str, Any]], _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    return f"""## A long sequence among short ones

63 clients send sequences of 10 time steps, alone and beside one client that sends 500 time steps
all the time. Latency of the short ones in ms, then what the long one gets meanwhile: good answers a
second and its latency. Latencies are of rounds without errors.

{fairness_table(rows)}"""


def fairness_table(rows: Sequence[dict[str, Any]]) -> str:
    """Latency of the short ones, without and with the long one; what the long one got."""
    head = ["server", "p50 alone", "p50 beside", "ratio", "p99 alone", "p99 beside", "ratio"]
    head += ["errors", "long: answered/s", "p50 ms", "errors"]
    cells = []
    for row in rows:
        cell = [row["server"]]
        for part in ("p50_ms", "p99_ms"):
            ratio = row[f"{part}_ratio"]
            cell += [number(row[part]), number(row[f"{part}_beside"])]
            cell.append(NOT_KNOWN if ratio is None else f"{ratio:.2f}")
        cell += [str(row["errors"]), number(row["long_per_second"]), number(row["long_p50_ms"])]
        cells.append([*cell, str(row["long_errors"])])
    return table(head, cells)
