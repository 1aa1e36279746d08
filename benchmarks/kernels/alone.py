"""`python -m benchmarks.kernels.alone 100 50,240,1000`: what idle cores give a lone sequence.

First the bound, in the same run: how much two independent one-thread kernels compute side by side
over what one computes. From it the best that a pipeline of L layers and K parts can do: of L * K
tasks all but the first and the last are computed two at a time. Then two threads inside one call,
and the pipeline itself. The last line is JSON.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from app.kernels.many_cores import ManyCoresRunner
from app.kernels.onnxruntime import RESULTS, session_of
from app.manifest import CHUNK, verified_manifest
from benchmarks.model_files import BenchModel
from benchmarks.models.ensure_model import ensure_model

# Seconds of each, in turns.
ROUNDS, TURN_S, PAUSE_S = 7, 0.3, 0.1
THREADS = 2
SEED = 20131225

Row = dict[str, Any]


class Kernels:
    """The ways to compute a lone sequence.

    Args:
        model: the benchmark's.

    Attributes:
        runner: warm; whether cores idle is up to `idle`.
    """

    def __init__(self, model: BenchModel) -> None:
        self._idle = 0
        path = model.folder / CHUNK
        self.runner = ManyCoresRunner(
            model.folder, verified_manifest(model.folder), THREADS, lambda: self._idle
        )
        self.runner.warm_up(64, 256)
        self._one, self._other = session_of(path), session_of(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self._threads = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def compare(self, steps: int) -> Row:
        """Medians of turns: seconds of a sequence, and ratios to one thread's of the same turn."""
        random = np.random.default_rng(SEED)
        features = self._one.get_inputs()[0].shape[2]
        inputs = random.normal(size=(1, steps, features)).astype(np.float32)
        state = np.zeros((1, self.runner.state_size), np.float32)
        given = {"sequences": inputs, "lengths": np.array([steps], np.int32), "state": state}

        def of(session: onnxruntime.InferenceSession) -> Callable[[], Any]:
            return lambda: session.run(RESULTS, given)

        def pipelined() -> Any:
            return self.runner.run(inputs, given["lengths"], state)

        rounds = []
        for _ in range(ROUNDS):
            one = rate([of(self._one)])
            self._idle = THREADS - 1
            pipeline = rate([pipelined])
            self._idle = 0
            both = rate([of(self._one), of(self._other)])
            threads = rate([of(self._threads)])
            rounds.append((1 / one, both / one, threads / one, pipeline / one))
            # Its threads wait for more with all their might, for a while.
            time.sleep(PAUSE_S)
        seconds, side_by_side, threads, pipeline = (
            median(each) for each in zip(*rounds, strict=True)
        )
        parts = self.runner.parts(1, steps)
        layers = len(self.runner.devices)
        return {
            "steps": steps,
            "ms": 1e3 * seconds,
            "side_by_side": side_by_side,
            "threads": threads,
            "pipeline": pipeline,
            "parts": parts,
            "bound": bound(layers, parts, side_by_side),
        }


def bound(layers: int, parts: int, side_by_side: float) -> float:
    """How many times as fast two threads can be: in a pipeline the first and the last task have no
    other beside them, and those that have are `side_by_side` of one at a time.

    Args:
        layers: of the model.
        parts: of the time steps; 0 where one thread computes, 1 where both share all products.
        side_by_side: of two kernels over one.
    """
    if parts < 2:
        return side_by_side if parts else 1.0
    tasks = layers * parts
    return tasks / (2 + (tasks - 2) / side_by_side)


def rate(calls: list[Callable[[], Any]]) -> float:
    """Calls a second, of all together, a thread each."""
    counts = [0] * len(calls)
    until = time.perf_counter() + TURN_S

    def work(index: int) -> None:
        while time.perf_counter() < until:
            calls[index]()
            counts[index] += 1

    began = time.perf_counter()
    others = [threading.Thread(target=work, args=(index,)) for index in range(1, len(calls))]
    for thread in others:
        thread.start()
    work(0)
    for thread in others:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels.alone")
    parser.add_argument("units", type=int)
    parser.add_argument("steps", type=lambda text: [int(part) for part in text.split(",")])
    given = parser.parse_args()
    kernels = Kernels(ensure_model(given.units))
    print(json.dumps({"units": given.units, "rows": [kernels.compare(n) for n in given.steps]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
