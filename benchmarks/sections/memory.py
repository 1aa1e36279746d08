"""`python -m benchmarks.sections.memory`: does the service grow, or compile, while it serves?

Sends many `mixed` requests and reads memory and counters now and then.
"""

import argparse
import sys
import urllib.request
from typing import Any

from benchmarks.load.workloads import make
from benchmarks.models.prepare import ensure_model
from benchmarks.report import tables
from benchmarks.servers.kinds import KINDS, UNROLL, Server
from benchmarks.servers.rounds import awake, running, say

REQUESTS = 300_000
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


def measure(units: int, requests: int, name: str = UNROLL) -> list[dict[str, Any]]:
    """Rows of `requests` answered so far, `memory_bytes`, `errors` and counters; the first at 0.

    Args:
        units: of the model's layers.
        requests: to send; a few more are sent, since `wrk` counts seconds.
        name: of a variant of Unroll.
    """
    workload = make("mixed")
    part = requests / PARTS
    rows: list[dict[str, Any]] = []
    with running([KINDS[name]], ensure_model(units), [workload]) as (server,), awake(server):
        sent, errors = 0, 0
        rate = server.load(workload, CLIENTS, 2).per_second
        while True:
            memory = server.process.memory_bytes()
            rows.append({"requests": sent, "memory_bytes": memory, "errors": errors})
            rows[-1] |= compilations(server)
            say(f"memory {sent:7} requests  {memory / 1e6:7.1f} MB")
            if sent >= requests:
                return rows
            load = server.load(workload, CLIENTS, part / rate)
            sent, errors = sent + load.requests, errors + load.errors
            rate = load.per_second


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sections.memory", description=__doc__
    )
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--server", default=UNROLL, choices=list(KINDS))
    options = parser.parse_args()
    rows = measure(options.model, options.requests, options.server)
    for row in rows:
        print(row)
    print(f"growth after the first {rows[1]['requests']} requests: {tables.growth(rows):+.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
