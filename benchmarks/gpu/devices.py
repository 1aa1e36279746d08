"""The section `devices`: one card as two devices, beside the same card as one.

`python -m benchmarks.gpu.devices RESULTS PLAN`, in a process of its own.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import DevicesPlan, load_devices
from benchmarks.gpu.recorder import Recorder
from benchmarks.paths import BUILD
from benchmarks.processes.side import Side
from benchmarks.training.case import ONE_CHUNK, WAYS

SIDE = "benchmarks.training.devices_side"
GROWTH = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def run(plan: DevicesPlan, recorder: Recorder) -> None:
    """Measures, and records after each step.

    Args:
        plan: what to measure.
        recorder: of the results.
    """
    results: dict[str, Any] = {"case": plan.case.name}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        sides = {
            count: Side(
                SIDE,
                [str(count), json.dumps(asdict(plan.case)), "--deterministic"],
                GROWTH,
                BUILD / "logs" / f"gpu-of-{count}.log",
            )
            for count in (1, 2)
        }
        for side in sides.values():
            stack.callback(side.close)
        for side in sides.values():
            side.wait()
        for way in WAYS:
            results["devices"] = sides[2].ask("prepare", way=way, trains=True)["devices"]
        sides[1].ask("prepare", way=ONE_CHUNK, trains=True)
        take_turns(plan, sides, results, recorder)
        # Last: where a profiler fails, it may take its process along.
        results["traces"] = {}
        for way in WAYS:
            results["traces"][way] = sides[2].ask("trace", way=way, folder=f"{name}/{way}")
            recorder.write(results)


def take_turns(
    plan: DevicesPlan, sides: Mapping[int, Side], results: dict[str, Any], recorder: Recorder
) -> None:
    """Seconds of a batch, of each schedule on two devices and of one device."""
    found: dict[str, list[float]] = {way: [] for way in (*WAYS, "one device")}
    results["seconds"] = found
    for _ in range(plan.rounds):
        started = time.monotonic()
        for way in WAYS:
            found[way].append(sides[2].ask("burst", way=way, batches=plan.burst)["seconds"])
        found["one device"].append(
            sides[1].ask("burst", way=ONE_CHUNK, batches=plan.burst)["seconds"]
        )
        recorder.write(results)
        if not recorder.fits(time.monotonic() - started):
            break


def main() -> None:
    """The process of the section."""
    plan = load_devices(sys.argv[2])
    run(plan, Recorder(Path(sys.argv[1]), plan.limit_s))


if __name__ == "__main__":
    main()
