"""`python -m benchmarks.serving`: measures Unroll beside its peers and writes the results."""

import argparse
import json
import sys

from benchmarks.places import BUILD
from benchmarks.prepare import ensure_model
from benchmarks.processes import ServerFailed
from benchmarks.rounds import Cell, measure, ratios, running
from benchmarks.servers import KINDS, STRONGEST, UNROLL
from benchmarks.workloads import WORKLOADS, make
from benchmarks.wrk import WrkFailed


def parse_arguments() -> argparse.Namespace:
    """The command's options."""

    def names(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = parser.add_argument
    add("--servers", type=names, default=[UNROLL, STRONGEST], help=",".join(KINDS))
    add("--workloads", type=names, default=["fixed", "mixed"], help=",".join(WORKLOADS))
    add("--clients", type=numbers, default=[1, 64], help="such as 1,16,64,128")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=3.0, help="of each round")
    add("--model", type=int, default=100, help="units of each layer: 100 or 512")
    return parser.parse_args()


def closed_loop(options: argparse.Namespace) -> list[Cell]:
    """Every cell that the options ask for."""
    model = ensure_model(options.model)
    workloads = [make(name) for name in options.workloads]
    cells = []
    with running([KINDS[name] for name in options.servers], model, workloads) as servers:
        for workload in workloads:
            for clients in options.clients:
                cells += measure(servers, workload, clients, options.rounds, options.seconds)
    return cells


def main() -> int:
    """The command; returns the exit status."""
    options = parse_arguments()
    try:
        cells = closed_loop(options)
    except (ServerFailed, WrkFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for field in ("per_second", "p50_ms", "p99_ms"):
        for (server, workload, clients), ratio in ratios(cells, UNROLL, field).items():
            print(f"{workload:7} {clients:4} clients  {field:10} unroll / {server}: {ratio:.2f}")
    (BUILD / "results.json").write_text(json.dumps([cell.document() for cell in cells], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
