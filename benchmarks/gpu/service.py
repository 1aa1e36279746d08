"""The section `service`: the service on the GPU, with several numbers of workers, beside the CPU.

`python -m benchmarks.gpu.service RESULTS PLAN`, in a process of its own.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.gpu_info import Busy
from benchmarks.gpu.plan import ServicePlan
from benchmarks.gpu.recorder import Recorder
from benchmarks.load.workloads import Workload, make
from benchmarks.load.wrk import WrkFailed
from benchmarks.model_files import BenchModel, bench_model
from benchmarks.models.expected_answers import Answers, expected
from benchmarks.processes.process import available_cores
from benchmarks.progress import say
from benchmarks.servers.check import check
from benchmarks.servers.interleaving import measure
from benchmarks.servers.kinds import ServerKind, unroll
from benchmarks.servers.server import Server, ServerFailed, serve

# The processor's side sees no card, so that nothing of it is computed there; and it is told how
# many workers: beside a card there would be one.
CPU = unroll(
    "cpu_onnxruntime",
    f"UNROLL_RUNNER=onnxruntime, a worker a core: {available_cores()}",
    {
        "UNROLL_RUNNER": "onnxruntime",
        "UNROLL_WORKERS": str(available_cores()),
        "CUDA_VISIBLE_DEVICES": "-1",
    },
)
# Warm-up, rest, and wrk's start, for each round of a server.
BESIDE_S = 2.0
# From one server's start to the next one's.
STAGGER_S = 6.0


def on_gpu(workers: int) -> ServerKind:
    """The service on the GPU with so many worker processes."""
    return unroll(
        f"gpu_cudnn_{workers}",
        f"UNROLL_RUNNER=cudnn, UNROLL_WORKERS={workers}",
        {"UNROLL_RUNNER": "cudnn", "UNROLL_WORKERS": str(workers)},
    )


class Section:
    """Servers, and their cells.

    Args:
        plan: what to measure.
        recorder: gets it after each round of a server.
        kinds: the servers.
    """

    def __init__(self, plan: ServicePlan, recorder: Recorder, kinds: Sequence[ServerKind]) -> None:
        self._plan, self._recorder, self._kinds = plan, recorder, kinds
        self._results: dict[str, Any] = {"units": plan.units, "servers": {}, "cells": []}

    def run(self) -> None:
        """Starts all servers, and measures them in turns.

        Raises:
            WrkFailed: the load generator is not there.
        """
        if shutil.which("wrk") is None:
            raise WrkFailed("wrk is not installed: apt-get install wrk")
        model = bench_model(self._plan.units)
        workloads = {name: make(name) for name, _ in self._plan.loads}
        busy = Busy()
        with ExitStack() as stack:
            stack.callback(busy.close)
            servers = self._start(stack, model, list(workloads.values()))
            for _ in range(self._plan.rounds):
                for name, clients in self._plan.loads:
                    if not self._recorder.fits(len(servers) * (self._plan.seconds + BESIDE_S)):
                        return
                    for server in servers:
                        self._round(server, workloads[name], clients, busy)

    def _start(
        self, stack: ExitStack, model: BenchModel, workloads: Sequence[Workload]
    ) -> list[Server]:
        """Those that start and answer right, paused.

        They start one after another, since each measures what its chunks cost, but do not wait for
        each other: most of a start is imports and compiling.
        """
        answers = expected(model)

        def start(number: int, kind: ServerKind) -> Server | None:
            time.sleep(number * STAGGER_S)
            return self._started(stack, kind, model, workloads, answers)

        with ThreadPoolExecutor() as threads:
            found = [each for each in threads.map(start, count(), self._kinds) if each]
        self._recorder.write(self._results)
        return found

    def _started(
        self,
        stack: ExitStack,
        kind: ServerKind,
        model: BenchModel,
        workloads: Sequence[Workload],
        answers: Answers,
    ) -> Server | None:
        began = time.monotonic()
        workers = int(kind.environment["UNROLL_WORKERS"])
        about: dict[str, Any] = {"about": kind.about, "workers": workers}
        self._results["servers"][kind.name] = about
        try:
            server = stack.enter_context(serve(kind, model, self._plan.start_s))
            for workload in workloads:
                check(server, workload, answers)
            server.process.pause()
        except ServerFailed as error:
            about["error"] = str(error)
            say(f"service: {error}")
            return None
        about["start_s"] = time.monotonic() - began
        say(f"started {kind.name} in {about['start_s']:.0f} s")
        return server

    def _round(self, server: Server, workload: Workload, clients: int, busy: Busy) -> None:
        (cell,) = measure([server], workload, clients, 1, self._plan.seconds)
        found = {
            **cell.document(),
            "cores": cell.core_s * cell.per_second,
            "gpu_busy": busy.last(self._plan.seconds),
        }
        self._results["cells"].append(found)
        self._recorder.write(self._results)


def summed_up(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of the rounds of each server and load, in the order in which they were measured."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["workload"], cell["clients"], cell["server"]), []).append(cell)
    found = []
    for group in groups.values():
        row = dict(group[0])
        for name in ("per_second", "p50_ms", "p99_ms", "cores", "gpu_busy"):
            known = [cell[name] for cell in group if cell[name] is not None]
            row[name] = median(known) if known else None
        row["errors"] = sum(cell["errors"] for cell in group)
        row["rounds"] = [cell["per_second"] for cell in group]
        found.append(row)
    return found


def main() -> None:
    """The process of the section."""
    plan = ServicePlan(**json.loads(sys.argv[2]))
    kinds = [CPU, *map(on_gpu, plan.workers)]
    Section(plan, Recorder(Path(sys.argv[1]), plan.limit_s), kinds).run()


if __name__ == "__main__":
    main()
