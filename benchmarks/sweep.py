"""`python -m benchmarks.sweep`: finds the best settings of the strongest peer of one process.

The settings kept in `peers/fastapi_onnxruntime.py` are those of the best row. `BENCH_KERNEL`,
`BENCH_THREADS` and the like reach the peer through its environment.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import tables
from benchmarks.prepare import ensure_model
from benchmarks.rounds import Cell, measure, running
from benchmarks.servers import KINDS, STRONGEST
from benchmarks.workloads import make

# One change at a time from the plainest, then the changes that could help each other.
SETTINGS: dict[str, dict[str, str]] = {
    "1 worker": {},
    "1 worker, 2 threads": {"BENCH_THREADS": "2"},
    "1 worker, 2 threads that do not spin": {"BENCH_THREADS": "2", "BENCH_SPIN": "0"},
    "2 workers": {"BENCH_WORKERS": "2"},
    "wait 1 ms": {"BENCH_WAIT_S": "0.001"},
    "batch 128": {"BENCH_MAX_BATCH": "128"},
    "batch 32": {"BENCH_MAX_BATCH": "32"},
    "2 workers, batch 32": {"BENCH_WORKERS": "2", "BENCH_MAX_BATCH": "32"},
    "2 workers, batch 16": {"BENCH_WORKERS": "2", "BENCH_MAX_BATCH": "16"},
    "2 workers, batch 32, switch 0.5 ms": {
        "BENCH_WORKERS": "2",
        "BENCH_MAX_BATCH": "32",
        "BENCH_SWITCH_INTERVAL_S": "0.0005",
    },
    **{
        f"2 workers, batch {batch}, buckets of {bucket} and {rows} rows": {
            "BENCH_WORKERS": "2",
            "BENCH_MAX_BATCH": batch,
            "BENCH_BUCKET": bucket,
            "BENCH_MIN_ROWS": rows,
        }
        for batch, bucket, rows in (
            ("32", "0.7", "8"),
            ("64", "0.7", "8"),
            ("64", "0.7", "4"),
            ("64", "0.5", "8"),
        )
    },
}
LOADS = (("fixed", 64), ("mixed", 64))


def sweep(
    units: int,
    rounds: int,
    seconds: float,
    names: Sequence[str],
    loads: Sequence[tuple[str, int]] = LOADS,
) -> list[Cell]:
    """Measures the strongest peer with each of the named settings.

    Args:
        units: of the model's layers.
        rounds: interleaved.
        seconds: of a round.
        names: of `SETTINGS`; each starts from the plainest, whatever is the default.
        loads: workloads and numbers of clients.
    """
    plainest = {
        "BENCH_MAX_BATCH": "64",
        "BENCH_WAIT_S": "0",
        "BENCH_WORKERS": "1",
        "BENCH_BUCKET": "0",
        "BENCH_THREADS": "1",
    }
    kinds = [
        replace(KINDS[STRONGEST], name=name, environment={**plainest, **SETTINGS[name]})
        for name in names
    ]
    workloads = {name: make(name) for name, _ in loads}
    with running(kinds, ensure_model(units), list(workloads.values())) as servers:
        return [
            cell
            for name, clients in loads
            for cell in measure(servers, workloads[name], clients, rounds, seconds)
        ]


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    options = parser.parse_args()
    cells = sweep(options.model, options.rounds, options.seconds, options.settings)
    print(tables.sweep([cell.document() for cell in cells]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
