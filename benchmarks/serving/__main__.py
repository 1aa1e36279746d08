"""`python -m benchmarks.serving`: measures Unroll beside its peers.

With no options it measures everything (about 45 minutes) and writes docs/benchmarks.md and README's
table. With `--quick` it measures the most telling part in under 3 minutes, or with `--quick --only
SECTION` one section, and writes its page to build/bench/. With servers, workloads or clients it
prints only those, measured in a closed loop.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load.workloads import WORKLOADS
from benchmarks.load.wrk import WrkFailed
from benchmarks.paths import BUILD, ROOT
from benchmarks.processes.peers_venv import EnvironmentFailed
from benchmarks.progress import say
from benchmarks.report.machine import origin
from benchmarks.sections.all_sections import SECTIONS
from benchmarks.sections.closed import by_workload, rates_and_latencies
from benchmarks.sections.plan import FULL, QUICK, Plan
from benchmarks.servers.kinds import FASTAPI, KINDS, UNROLL
from benchmarks.servers.server import ServerFailed
from benchmarks.serving import headline, page

Results = dict[str, Any]

FAILURES = (
    ServerFailed,
    WrkFailed,
    EnvironmentFailed,
    subprocess.CalledProcessError,
    ValueError,
)


def parse_arguments() -> argparse.Namespace:
    """The command's options."""

    def some(known: tuple[str, ...]) -> Any:
        def names(text: str) -> tuple[str, ...]:
            given = tuple(text.split(","))
            for name in given:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(known)}")
            return given

        return names

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="under 3 minutes")
    add(
        "--only",
        type=some(tuple(SECTIONS)),
        help=f"measure these sections anew and keep the others' results: {','.join(SECTIONS)}",
    )
    add("--servers", type=some(tuple(KINDS)), help=",".join(KINDS))
    add("--workloads", type=some(WORKLOADS), help=",".join(WORKLOADS))
    add("--clients", type=numbers, help="such as 1,16,64,128")
    add("--rounds", type=int)
    add("--seconds", type=float, help="of each round")
    add("--model", type=int, choices=(100, 512), help="units of each layer")
    return parser.parse_args()


def plan_of(options: argparse.Namespace) -> tuple[Plan, Path, Path]:
    """The plan, the folder of its page, and the file of its results."""
    plan = QUICK if options.quick else FULL
    folder, file = (BUILD, "quick") if options.quick else (ROOT / "docs", "results")
    if options.servers or options.workloads or options.clients or options.model:
        clients = options.clients or (64,)
        plan = replace(
            plan,
            sections=("closed",),
            servers=options.servers or (UNROLL, FASTAPI),
            clients=dict.fromkeys(options.workloads or ("fixed", "mixed"), clients),
            parts={},
            slow=(),
            units=options.model or 100,
        )
        folder, file = BUILD, "part"
    if options.only:
        plan = replace(plan, sections=options.only)
    if options.rounds:
        plan = replace(plan, rounds=options.rounds)
    if options.seconds:
        plan = replace(plan, seconds=options.seconds)
    return plan, folder, BUILD / f"{file}.json"


def kept(file: Path, sections: Sequence[str], measured: Results) -> Results:
    """An earlier run's results of other sections, to stand beside those of this one.

    Args:
        file: of the earlier run.
        sections: that are measured anew.
        measured: the `origin` of this run.

    Raises:
        ValueError: they cannot stand on one page: it shows one machine and one set of versions.
    """
    results: Results = json.loads(file.read_text())
    if "measured" not in results:
        raise ValueError(f"{file} does not say where each section is from: run without --only")
    for name, earlier in results["measured"].items():
        if name in sections:
            continue
        for part, how in (("machine", "on another machine"), ("versions", "with other versions")):
            if earlier[part] != measured[part]:
                raise ValueError(f"{name!r} was measured {how}: run without --only")
    return results


def run(plan: Plan, results: Results, file: Path, measured: Results) -> None:
    """Measures each section; what is measured is on disk even if a later section fails.

    Args:
        plan: what to measure.
        results: of earlier sections; gets those of this run.
        file: to write to.
        measured: the `origin` of this run.
    """
    for name in plan.sections or SECTIONS:
        say(f"== {name}")
        started = time.monotonic()
        results[name] = SECTIONS[name].measure(plan, results)
        minutes = (time.monotonic() - started) / 60
        # Sections can be measured apart: each says where it is from.
        results.setdefault("measured", {})[name] = {**measured, "minutes": minutes}
        file.write_text(json.dumps(results, indent=1) + "\n")


def main() -> int:
    """The command; returns the exit status."""
    options = parse_arguments()
    plan, folder, file = plan_of(options)
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        measured = origin(plan.rounds)
        again = options.only and file.is_file()
        results = kept(file, plan.sections, measured) if again else {}
        run(plan, results, file, measured)
    except FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if plan.sections == ("closed",):
        print(closed_tables(results["closed"]))
    if file.stem != "part":
        target = folder / "benchmarks.md"
        target.write_text(page.render(results, folder))
        print(f"written: {target.relative_to(ROOT)}")
    if file.stem == "results" and results.keys() >= headline.SECTIONS:
        readme = ROOT / "README.md"
        readme.write_text(headline.place(readme.read_text(), results))
    return 0


def closed_tables(cells: list[Results]) -> str:
    """Throughput and latency of each workload."""
    return "\n\n".join(
        f"{name}\n\n{rates_and_latencies(found)}" for name, found in by_workload(cells).items()
    )


if __name__ == "__main__":
    sys.exit(main())
