"""Asks every decoder with valid and broken bodies, and looks for what must not happen.

    python -m benchmarks.robustness.fuzz_decoders 1000000

In processes that each have an application with a fake kernel, one body after the other. Exit status
1 if there is an answer of 5xx, one that takes more than 50 ms, or memory that grows. A body that
took so long is asked again: a machine that others share pauses now and then, a slow decoder is slow
each time.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI

from app.api.endpoint import Headers
from app.api.protocols.native.stream import PATH as STREAM
from app.api.protocols.native.stream import Stream
from app.api.server_context import context_of
from app.service.pending_request import PendingRequest
from benchmarks.paths import BUILD
from benchmarks.robustness.fuzzed_bodies import KINDS, Asked
from tests.app.caller import Caller
from tests.app.fakes import FakeRunner, write_version
from tests.app.running_service import Service, make_service

SLOW_S, AGAIN = 0.05, 3
# Of a process, from the first fifth of the bodies to the last; what the allocator keeps varies.
EARLY = 5
GROWTH_BYTES = 8 << 20
MAX_SHOWN = 5
STANDARDIZE = {"kind": "standardize", "mean": 0.0, "std": 1.0}
FEATURES = [
    {"name": name, "unit": "1", "missing": name == "b", "transform": STANDARDIZE} for name in "ab"
]
# The models of `fuzz_open_inference` and of `fuzz_formats`.
RNN = [{"cell": "rnn", "units": 1, "states": [{"name": "h", "tensor": "state_0_h"}]}]
LSTM = [
    {
        "cell": "lstm",
        "units": 2,
        "states": [{"name": name, "tensor": f"state_0_{name}"} for name in "hc"],
    }
]
OF_LSTM = ("NPZ", "Arrow")


class Sums(FakeRunner):
    """A fake kernel whose states are the sum, again and again."""

    def __init__(self, state_size: int) -> None:
        super().__init__()
        self.state_size = state_size

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `FakeRunner`."""
        self.calls.clear()
        outputs, sums = super().run(inputs, lengths, state[:, :1])
        return outputs, np.repeat(sums, self.state_size, axis=1)


@dataclass
class Found:
    """What came of the bodies of a process.

    Attributes:
        statuses: how many answers, by kind and status.
        failures: bodies with what was wrong.
        slowest: seconds of the processor, kind and body, the slowest first.
        pauses: bodies that were slow once and quick again.
        growth: bytes that the process grew by.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str, bytes]] = field(default_factory=list)
    pauses: int = 0
    growth: int = 0

    def look(
        self, kind: str, status: int, seconds: Sequence[float], cpu_s: float, body: bytes
    ) -> None:
        """Takes an answer, how long it took each time, and how much of the processor's time."""
        self.statuses[kind, status] += 1
        best = min(seconds)
        if status >= 500:
            self.failures.append(f"{status} of {kind}: {body[:300]!r}")
        if best > SLOW_S:
            self.failures.append(f"{best * 1e3:.0f} ms for {len(body)} bytes of {kind}")
        self.pauses += len(seconds) > 1 and best <= SLOW_S
        if len(self.slowest) < MAX_SHOWN or cpu_s > self.slowest[-1][0]:
            self.slowest = sorted([*self.slowest, (cpu_s, kind, body)], reverse=True)[:MAX_SHOWN]


class Messages:
    """A connection of a stream, whose answers come as they are asked for."""

    is_writable = True

    def __init__(self, app: FastAPI) -> None:
        endpoint: Any = context_of(app).endpoints["POST", "/predict"]
        self._stream = Stream(endpoint.inference, self, "fuzz")
        self._answer: asyncio.Future[bytes] | None = None

    async def ask(self, body: bytes) -> int:
        """The status of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._stream.take(body)
        answer = json.loads(await self._answer)
        return int(answer["error"]["status"]) if "error" in answer else 200

    def answer(self, payload: bytes) -> None:
        """Takes an answer."""
        assert self._answer is not None
        self._answer.set_result(payload)

    def read_on(self, go_on: bool) -> None:
        """There is never more than one message."""

    def attach(self, stream: Stream) -> None:
        """It is there from the start."""


class Target:
    """An application and its stream."""

    def __init__(self, service: Service) -> None:
        self._app = service.app
        self._messages = Messages(service.app)

    async def ask(self, asked: Asked) -> int:
        """The status of the answer."""
        if asked.path == STREAM:
            return await self._messages.ask(asked.body)
        endpoint = context_of(self._app).endpoints["POST", asked.path]
        headers = [
            (name.encode(), value.encode("latin-1")) for name, value in asked.headers.items()
        ]
        if not endpoint.takes(headers):
            caller = Caller(self._app, asked.headers, asked.path)
            caller.send(asked.body, more=False)
            status, _, _ = await caller.raw_answer()
            return status
        scope = {
            "type": "http",
            "method": "POST",
            "path": asked.path,
            "query_string": asked.query.encode(),
            "headers": headers,
        }
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def respond(status: int, _: Headers, body: bytes) -> None:
            reply.set_result(status)

        pending = PendingRequest(context_of(self._app).deadlines)
        endpoint.begin(scope, asked.body, pending, respond)
        return await reply


def service_of(folder: Path, layers: list[dict[str, Any]], state_size: int) -> Service:
    """An application whose sessions go at once, so that they are no growth."""
    home = folder / str(state_size)
    changes = {"features": FEATURES, "layers": layers, "example": [[1.0, None], [2.0, 3.0]]}
    write_version(home / "tiny", 1, **changes)
    options = {"lanes": 0, "session_idle_s": 1.0, "max_sequences": 4, "max_sequence_steps": 50}
    return make_service(home, lambda *_: Sums(state_size), **options)


async def fuzz(target: Target, kinds: Sequence[str], count: int, seed: int, found: Found) -> None:
    """Asks so many of some kinds, one after the other."""
    chance, early = random.Random(seed), 0
    weights = [KINDS[kind].weight for kind in kinds]
    for number in range(count):
        if number == count // EARLY:
            early = resident_bytes()
        kind = chance.choices(kinds, weights)[0]
        asked = KINDS[kind].make(chance)
        seconds: list[float] = []
        while len(seconds) <= AGAIN and (not seconds or min(seconds) > SLOW_S):
            began, cpu_began = time.perf_counter(), time.process_time()
            status = await target.ask(asked)
            cpu_s = time.process_time() - cpu_began
            seconds.append(time.perf_counter() - began)
        found.look(kind, status, seconds, cpu_s, asked.body)
    found.growth = max(found.growth, resident_bytes() - early)


def resident_bytes() -> int:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def process(given: tuple[int, int]) -> Found:
    """Asks so many, with a seed, in this process."""
    count, seed = given
    found = Found()
    every = sum(kind.weight for kind in KINDS.values())
    for layers, state_size in ((RNN, 1), (LSTM, 4)):
        kinds = [name for name in KINDS if (name in OF_LSTM) == (layers is LSTM)]
        share = count * sum(KINDS[name].weight for name in kinds) // every
        with (
            tempfile.TemporaryDirectory() as folder,
            service_of(Path(folder), layers, state_size) as service,
        ):
            service.wait_until_ready()
            service.run(fuzz(Target(service), kinds, share, seed, found))
    return found


def report(found: Sequence[Found]) -> int:
    """Prints what came of all; returns how many failures there are."""
    statuses: Counter[tuple[str, int]] = sum((one.statuses for one in found), Counter())
    for kind in KINDS:
        told = ", ".join(f"{n:,} x {s}" for (k, s), n in sorted(statuses.items()) if k == kind)
        print(f"{kind}: {told}")
    folder = BUILD / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    slowest = sorted((one for each in found for one in each.slowest), reverse=True)[:MAX_SHOWN]
    print("most time of the processor:")
    for number, (cpu_s, kind, body) in enumerate(slowest):
        file = folder / f"slowest-{number}"
        file.write_bytes(body)
        print(f"{cpu_s * 1e3:.1f} ms: {kind}, {len(body):,} bytes, in {file}: {body[:60]!r}")
    print(f"{sum(one.pauses for one in found)} were slow once and quick when asked again")
    print("growth:", ", ".join(f"{one.growth / (1 << 20):.1f} MiB" for one in found))
    failures = [failure for one in found for failure in one.failures]
    failures += ["a process has grown" for one in found if one.growth > GROWTH_BYTES]
    print("\n".join(failures[:100]) or "no failure")
    return len(failures)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="bodies in all")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    each = -(-options.count // options.processes)
    work = [(each, options.seed + number) for number in range(options.processes)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        return 1 if report(pool.map(process, work)) else 0


if __name__ == "__main__":
    sys.exit(main())
