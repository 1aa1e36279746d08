"""A lone caller: his sequences have the whole machine, if the server can use it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.load import open_loop, wrk
from benchmarks.load.timed_sending import OpenLoad
from benchmarks.load.workloads import SEED, Workload, make, sensor_rows, workload_of
from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import ROOT
from benchmarks.progress import say
from benchmarks.report.markdown import number, table, times
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import WARM_UP_S, awake, running
from benchmarks.servers.interleaving import measure as measure_cells
from benchmarks.servers.kinds import FASTAPI_THREADS, GRANIAN, KINDS, ONE_THREAD_ALONE, UNROLL
from benchmarks.servers.server import Server

# Units, and the lengths that are sent.
LENGTHS = {100: (50, 240, 1000, 5000), 512: (50, 240)}
# Of them those whose kernel is timed, and the length beside which others begin.
MOST_TIMED, LONG = 1000, 1000
REQUESTS = 64
SERVERS = (UNROLL, ONE_THREAD_ALONE, FASTAPI_THREADS, GRANIAN)
# Others begin so many times a second: most of them when the long caller has all cores again.
BEGIN_PER_S = 8.0
# Their requests are few, so their rounds are so many times as long.
LONGER = 5

Row = dict[str, Any]


def measure(plan: Plan, _: dict[str, Any]) -> list[Row]:
    """See `Section`."""
    return [_measure(units, plan.rounds, plan.seconds) for units in LENGTHS]


def _measure(units: int, rounds: int, seconds: float) -> Row:
    model = ensure_model(units)
    workloads = [_of_length(steps) for steps in LENGTHS[units]] + [make("mixed")]
    command = [sys.executable, "-m", "benchmarks.kernels.alone", str(units)]
    steps = ",".join(str(steps) for steps in LENGTHS[units] if steps <= MOST_TIMED)
    done = subprocess.run([*command, steps], check=True, stdout=subprocess.PIPE, cwd=ROOT)
    cells = []
    with running([KINDS[name] for name in SERVERS], model, []) as servers:
        for workload in workloads:
            cells += measure_cells(servers, workload, 1, rounds, seconds)
        unrolls = servers[: SERVERS.index(FASTAPI_THREADS)]
        beside = _beside(unrolls, rounds, LONGER * seconds)
    return {
        "units": units,
        "kernel": json.loads(done.stdout.splitlines()[-1])["rows"],
        "cells": [cell.document() for cell in cells],
        "beside": beside,
    }


def _of_length(steps: int) -> Workload:
    random = np.random.default_rng([SEED, steps])
    drawn = [[sensor_rows(steps, random)] for _ in range(REQUESTS)]
    return workload_of(f"{steps} time steps", drawn)


def _beside(servers: Sequence[Server], rounds: int, seconds: float) -> list[Row]:
    """What others wait who begin beside a client that sends long sequences all the time."""
    found: dict[str, list[tuple[OpenLoad, wrk.Load]]] = {each.kind.name: [] for each in servers}
    for _ in range(rounds):
        for server in servers:
            with awake(server), ThreadPoolExecutor(1) as other:
                long_s = seconds + 2 * WARM_UP_S
                sending = other.submit(server.load, _of_length(LONG), 1, long_s)
                load = open_loop.drive_elsewhere(
                    server.port, "mixed", BEGIN_PER_S, seconds, WARM_UP_S
                )
                found[server.kind.name].append((load, sending.result()))
    return [_row(name, loads) for name, loads in found.items()]


def _row(name: str, loads: Sequence[tuple[OpenLoad, wrk.Load]]) -> Row:
    row = {
        "server": name,
        "p50_ms": median(others.p50_ms for others, _ in loads),
        "p99_ms": median(others.p99_ms for others, _ in loads),
        "long_p50_ms": median(long.p50_ms for _, long in loads),
        "errors": sum(others.errors + long.errors for others, long in loads),
    }
    say(f"beside a long sequence {row}")
    return row


def write(found: Sequence[Row], _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    parts = [
        "## A lone caller",
        "One client, one sequence a request. First the kernel: what two independent one-thread "
        "kernels compute side by side over one; from it the bound, the best that a pipeline of "
        "three layers, cut in so many parts, can do on two cores, or with 1 part the best of two "
        "threads that share each product; what Unroll's kernel does; and two threads inside one "
        "call of ONNX Runtime. All are times as fast as one thread. Then the service, beside "
        "itself with one thread and two peers: half of the requests take at most so many ms, 99 "
        f"of 100 so many. Last, others who send `mixed` at random moments, {BEGIN_PER_S:.0f} a "
        f"second, beside a client that sends {LONG:,} time steps all the time.",
    ]
    for each in found:
        parts += [f"### {each['units']} units", kernel_table(each["kernel"])]
        parts += [latency_table(each["cells"]), beside_table(each["beside"])]
    return "\n\n".join(parts)


def kernel_table(rows: Sequence[Row]) -> str:
    """The kernel beside the bound, a row a length."""
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


def latency_table(cells: Sequence[Row]) -> str:
    """Of each server and workload: half of the requests, and 99 of 100."""
    names = list(dict.fromkeys(cell["workload"] for cell in cells))
    of = {
        (cell["server"], cell["workload"]): f"{number(cell['p50_ms'])} / {number(cell['p99_ms'])}"
        for cell in cells
    }
    servers = dict.fromkeys(cell["server"] for cell in cells)
    return table(
        ["ms", *names], [[server, *(of[server, name] for name in names)] for server in servers]
    )


def beside_table(rows: Sequence[Row]) -> str:
    """What others wait beside the long one, and what it waits."""
    head = ["server", "others: p50 ms", "p99 ms", "the long one: p50 ms", "errors"]
    names = ("p50_ms", "p99_ms", "long_p50_ms")
    cells = [[r["server"], *(number(r[name]) for name in names), str(r["errors"])] for r in rows]
    return table(head, cells)
