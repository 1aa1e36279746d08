"""Does the service grow, or compile, while it serves?

Sends many `mixed` requests and reads memory and counters now and then.
"""

import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.workloads import make
from benchmarks.models.ensure_model import ensure_model
from benchmarks.progress import say
from benchmarks.report import plots
from benchmarks.report.markdown import table
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import awake, running
from benchmarks.servers.kinds import KINDS, UNROLL
from benchmarks.servers.server import Server

PARTS = 10
CLIENTS = 64


def compilations(server: Server) -> dict[str, float]:
    """Counters of compilations and traces in `/metrics`, as many as there are."""
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    found = {}
    for line in lines:
        name, _, value = line.partition(" ")
        # Prometheus' clients add the moment at which a counter was made, `_created`.
        counts = name.endswith("_total") and ("compilation" in name or "trace" in name)
        if name.startswith("unroll_") and counts:
            found[name] = float(value)
    return found


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`.

    Returns:
        Rows of `requests` answered so far, `memory_bytes`, `errors` and counters; the first at 0.
        A few more are sent than planned, since `wrk` counts seconds.
    """
    workload = make("mixed")
    part = plan.requests / PARTS
    rows: list[dict[str, Any]] = []
    with running([KINDS[UNROLL]], ensure_model(plan.units), [workload]) as (server,), awake(server):
        sent, errors = 0, 0
        rate = server.load(workload, CLIENTS, 2).per_second
        while True:
            memory = server.process.memory_bytes()
            rows.append({"requests": sent, "memory_bytes": memory, "errors": errors})
            rows[-1] |= compilations(server)
            say(f"memory {sent:7} requests  {memory / 1e6:7.1f} MB")
            if sent >= plan.requests:
                return rows
            load = server.load(workload, CLIENTS, part / rate)
            sent, errors = sent + load.requests, errors + load.errors
            rate = load.per_second


def write(rows: Sequence[dict[str, Any]], _: dict[str, Any], folder: Path) -> str:
    """See `Section`."""
    return f"""## Memory

`mixed` requests from 64 clients to one Unroll, in one run. Memory and counters are those of all its
processes, what they share counted once. After the first part its memory changes by
{growth(rows):+.1%}.

{memory_table(rows)}

{plots.memory(rows, folder)}"""


def growth(rows: Sequence[dict[str, Any]]) -> float:
    """How much larger it is at the end than after the first part: 0.03 is 3%."""
    return float(rows[-1]["memory_bytes"] / rows[1]["memory_bytes"] - 1)


def memory_table(rows: Sequence[dict[str, Any]]) -> str:
    """Memory and counters over requests."""
    counters = [name for name in rows[0] if name.startswith("unroll_")]
    return table(
        ["requests", "memory MB", "errors", *counters],
        [
            [
                f"{row['requests']:,}",
                f"{row['memory_bytes'] / 1e6:.1f}",
                str(row["errors"]),
                *(f"{row[name]:.0f}" for name in counters),
            ]
            for row in rows
        ],
    )
