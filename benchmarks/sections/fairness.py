"""`python -m benchmarks.sections.fairness`: what a client with long sequences does to 63 with short ones.

And what they do to it: a server that starves or refuses the long one would look best else.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import orjson

from benchmarks.load import wrk
from benchmarks.load.workloads import SEED, Workload, make, sensor_rows
from benchmarks.models.prepare import ensure_model
from benchmarks.servers.kinds import KINDS, STRONGEST, UNROLL, Server
from benchmarks.servers.rounds import WARM_UP_S, awake, running, say

SHORT_CLIENTS = 63
SHORT_STEPS, LONG_STEPS = 10, 500
BODIES = 32


def workload(name: str, steps: int) -> Workload:
    """Requests of one sequence of `steps` time steps."""
    random = np.random.default_rng([SEED, steps])
    drawn = [sensor_rows(steps, random) for _ in range(BODIES)]
    return Workload(
        name,
        tuple((rows.astype(np.float32),) for rows in drawn),
        tuple(
            orjson.dumps({"sequences": [rows]}, option=orjson.OPT_SERIALIZE_NUMPY) for rows in drawn
        ),
    )


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


def measure(names: Sequence[str], units: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """A row a server, see `row_of`; from rounds in turn.

    Raises:
        ServerFailed: one does not start, or answers wrong.
    """
    found: dict[str, list[Round]] = {name: [] for name in names}
    # Its lengths are as different as those of the clients here.
    checked = [make("mixed")]
    with running([KINDS[name] for name in names], ensure_model(units), checked) as servers:
        for _ in range(rounds):
            for server in servers:
                with awake(server):
                    found[server.kind.name].append(drive(server, seconds))
    rows = [row_of(name, each) for name, each in found.items()]
    for row in rows:
        say(f"fairness {row}")
    return rows


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sections.fairness", description=__doc__
    )
    parser.add_argument("--servers", nargs="+", choices=list(KINDS), default=[UNROLL, STRONGEST])
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    options = parser.parse_args()
    for row in measure(options.servers, options.model, options.rounds, options.seconds):
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
