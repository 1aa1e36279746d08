"""`python -m benchmarks.gpu`: measures training, chunks and the service on this machine's GPU.

Takes under 5 minutes and writes docs/benchmarks-gpu.md; its raw figures go to build/bench/gpu.json.
With `--quick` it takes about 2 and writes both to build/bench/; with `--out`, to that folder.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.gpu_info import NoGpu, look
from benchmarks.gpu.page import render
from benchmarks.gpu.plan import FULL, QUICK, Plan
from benchmarks.gpu.section_runner import run
from benchmarks.paths import BUILD, ROOT
from benchmarks.report.machine import commit, machine

PAGE, RESULTS = "benchmarks-gpu.md", "gpu.json"


def parse_arguments() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="about 2 minutes")
    parser.add_argument("--out", type=Path, help="folder of the page and of the raw figures")
    parser.add_argument(
        "--results", type=Path, help="measure nothing: write the page from an earlier gpu.json"
    )
    return parser.parse_args()


def places(options: argparse.Namespace) -> tuple[Path, Path]:
    """The files of the page and of the raw figures."""
    usual = BUILD if options.quick else ROOT / "docs"
    return (options.out or usual) / PAGE, (options.out or BUILD) / RESULTS


def measure(plan: Plan, about: dict[str, Any], file: Path, target: Path) -> dict[str, Any]:
    """Runs all sections; what is measured is on disk, and on the page, after each.

    Args:
        plan: what to measure.
        about: the run: its card, machine, commit and command.
        file: of the raw figures.
        target: of the page.
    """
    results: dict[str, Any] = {**about, "sections": {}}
    started = time.monotonic()

    def keep() -> None:
        results["minutes"] = (time.monotonic() - started) / 60
        file.write_text(json.dumps(results, indent=1) + "\n")
        target.write_text(render(results))

    keep()
    run(plan, results, keep)
    return results


def main() -> int:
    """The command; returns the exit status: 1 if there is no GPU, or a section failed."""
    options = parse_arguments()
    target, file = places(options)
    if options.results:
        target.write_text(render(json.loads(options.results.read_text())))
        print(f"written: {target}")
        return 0
    try:
        card = look()
    except NoGpu as error:
        print(f"no GPU: {error}", file=sys.stderr)
        return 1
    for each in (target, file):
        each.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": " ".join(["python -m benchmarks.gpu", *(["--quick"] * options.quick)]),
        "commit": commit(),
        "card": card,
        "machine": machine(),
    }
    results = measure(QUICK if options.quick else FULL, about, file, target)
    print(f"written: {target}")
    return int(any(each["error"] for each in results["sections"].values()))


if __name__ == "__main__":
    sys.exit(main())
