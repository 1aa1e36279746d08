"""`python -m benchmarks.fairness`: what a client with long sequences does to 63 with short ones."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import orjson

from benchmarks import wrk
from benchmarks.prepare import ensure_model
from benchmarks.rounds import WARM_UP_S, awake, running, say
from benchmarks.servers import KINDS, STRONGEST, UNROLL, Server
from benchmarks.workloads import SEED, Workload, sensor_rows

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


def short_load(server: Server, with_long: bool, seconds: float) -> wrk.Load:
    """What the short ones see, alone or beside one client that sends long ones all the time."""
    short, long = workload("short", SHORT_STEPS), workload("long", LONG_STEPS)
    if not with_long:
        return server.load(short, SHORT_CLIENTS, seconds)
    with ThreadPoolExecutor(1) as other:
        # A second longer, so that the short ones are never alone.
        beside = other.submit(server.load, long, 1, seconds + 1)
        load = server.load(short, SHORT_CLIENTS, seconds)
        beside.result()
    return load


def measure(names: Sequence[str], units: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """A row a server: p50 and p99 of the short ones in ms, both ways, and their ratios."""
    rows = []
    with running([KINDS[name] for name in names], ensure_model(units), []) as servers:
        loads: dict[tuple[str, bool], list[wrk.Load]] = {}
        for _ in range(rounds):
            for server in servers:
                for with_long in (False, True):
                    with awake(server):
                        short_load(server, with_long, WARM_UP_S)
                        load = short_load(server, with_long, seconds)
                    loads.setdefault((server.kind.name, with_long), []).append(load)
        for name in names:
            row: dict[str, Any] = {"server": name}
            for field in ("p50_ms", "p99_ms"):
                alone, beside = (
                    median(getattr(load, field) for load in loads[name, with_long])
                    for with_long in (False, True)
                )
                row |= {field: alone, f"{field}_beside": beside, f"{field}_ratio": beside / alone}
            rows.append(row)
            say(f"fairness {row}")
    return rows


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
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
