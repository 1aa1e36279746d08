"""Harms Redis while callers carry sessions through two replicas, and compares what comes of them.

    python -m benchmarks.robustness.redis_faults

Redis is killed, frozen for 10 s, flushed, and left without memory. Callers send a piece again where
it is refused with 503, and go on from the last state that they were given where it is refused with
404. Exit status 1 if another status comes, an answer is not that of its place, or a final state is
not that of the same sequence without any harm.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.model_files import NUM_FEATURES
from benchmarks.models.ensure_model import ensure_model
from benchmarks.servers.kinds import unroll
from benchmarks.servers.server import serve
from tests.support.redis_server import RedisServer, redis_server

UNITS = 8
CALLERS, PIECE = 24, 3
# Of a number below 1: chunks are cut elsewhere, and computed beside others.
TOLERANCE = 1e-5
REPLICAS = ("one", "other")
AGAIN_S, TIMEOUT_S = 0.05, 60.0
STATUSES = {200, 404, 503}
FROZEN_S = 10.0


@dataclass
class Seen:
    """What callers saw.

    Attributes:
        statuses: how many of each.
        slowest_s: seconds of the slowest answer, by status.
        wrong: what must not be.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: dict[int, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def look(self, answer: httpx.Response, seconds: float) -> None:
        """Takes an answer."""
        status = answer.status_code
        self.statuses[status] += 1
        self.slowest_s[status] = max(seconds, self.slowest_s.get(status, 0.0))
        if status not in STATUSES:
            self.wrong.append(f"{status}: {answer.text[:200]}")


class Caller:
    """Carries a session until it is told to stop.

    Args:
        name: of the session.
        how: it names its pieces, by their "time_step" or by a "key".
        clients: of the replicas, which take turns.
        seen: takes what it sees.
    """

    def __init__(
        self, name: str, how: str, clients: list[httpx.AsyncClient], seen: Seen, seed: int
    ) -> None:
        self._name, self._how, self._seen = name, how, seen
        self._clients = itertools.cycle(clients)
        self._chance = np.random.default_rng(seed)
        self.sent: list[list[float]] = []
        self.outputs: list[list[float]] = []
        self.token = ""

    async def carry(self, until: Callable[[], bool]) -> None:
        """Sends pieces, each until it is answered."""
        while not until():
            rows = self._chance.uniform(-1, 1, (PIECE, NUM_FEATURES)).round(4).tolist()
            answer = await self._send(rows)
            if answer is None:
                return
            place = len(self.sent) + PIECE
            if answer["session"]["time_step"] != place:
                self._seen.wrong.append(f"{self._name} is at {answer['session']}, not at {place}")
                return
            self.sent += rows
            self.outputs += answer["outputs"][0]
            self.token = answer["states"][0]

    async def _send(self, rows: list[list[float]]) -> dict[str, Any] | None:
        place = len(self.sent)
        session: dict[str, Any] = {"id": self._name, "time_step": place}
        if self._how == "key":
            session |= {"key": f"{place}", "time_step": None if place else 0}
        body = {"sequences": [rows], "session": session, "states": "token"}
        while True:
            began = time.perf_counter()
            answer = await next(self._clients).post("/predict", json=body)
            self._seen.look(answer, time.perf_counter() - began)
            if answer.status_code == 200:
                return dict(answer.json())
            if answer.status_code == 404 and place:
                # It has gone, and the caller says from where it goes on.
                body["initial_states"] = [self.token]
                session["time_step"] = place
            elif answer.status_code != 503:
                return None
            await asyncio.sleep(AGAIN_S)


async def killed(redis: RedisServer) -> None:
    """Three times, each for a moment."""
    for _ in range(3):
        redis.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis.start)
        await asyncio.sleep(1.0)


async def frozen(redis: RedisServer) -> None:
    """Once, for long."""
    redis.freeze()
    await asyncio.sleep(FROZEN_S)
    redis.thaw()


async def flushed(redis: RedisServer) -> None:
    """Five times."""
    for _ in range(5):
        await asyncio.to_thread(redis.flush)
        await asyncio.sleep(0.5)


async def full(redis: RedisServer) -> None:
    """Three times, each for a moment."""
    for _ in range(3):
        await asyncio.to_thread(redis.limit_memory, -200_000)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(redis.limit_memory, None)
        await asyncio.sleep(0.5)


FAULTS = (killed, frozen, flushed, full)


async def harm(urls: list[str], redis: RedisServer, fault: Any) -> list[str]:
    """Carries sessions while Redis is harmed; returns what was wrong."""
    seen = Seen()
    clients = [httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) for url in urls]
    callers = [
        Caller(f"{fault.__name__} {number}", how, clients, seen, number)
        for number, how in zip(range(CALLERS), itertools.cycle(["time_step", "key"]), strict=False)
    ]
    over = False

    async def harm_it() -> None:
        nonlocal over
        await asyncio.sleep(1.0)
        await fault(redis)
        await asyncio.sleep(1.0)
        over = True

    await asyncio.gather(harm_it(), *(caller.carry(lambda: over) for caller in callers))
    offs = [await off_by(clients[0], caller) for caller in callers]
    for client in clients:
        await client.aclose()
    statuses = ", ".join(
        f"{count:,} x {status} (slowest {seen.slowest_s[status]:.2f} s)"
        for status, count in sorted(seen.statuses.items())
    )
    steps = sum(len(caller.sent) for caller in callers)
    print(f"{fault.__name__}: {statuses}; {steps:,} time steps of {CALLERS} sessions; ", end="")
    print(f"outputs and final states off by {max(offs):.1e}", flush=True)
    if max(offs) > TOLERANCE:
        seen.wrong.append(f"off by {max(offs)}")
    return [f"{fault.__name__}: {wrong}" for wrong in seen.wrong]


async def off_by(client: httpx.AsyncClient, caller: Caller) -> float:
    """How far outputs and final state are from those of the sequence sent by itself."""
    body = {"sequences": [caller.sent], "states": "concatenated"}
    whole = (await client.post("/predict", json=body)).raise_for_status().json()
    off = np.abs(np.array(whole["outputs"][0]) - np.array(caller.outputs)).max()
    body = {"sequences": [[[0.0] * NUM_FEATURES]], "states": "concatenated"}
    ends = []
    for state in (whole["states"][0], caller.token):
        body["initial_states"] = [state]
        answer = await client.post("/predict", json=body)
        ends.append(np.array(answer.raise_for_status().json()["states"][0]))
    return float(max(off, np.abs(ends[0] - ends[1]).max()))


@contextmanager
def replicas(redis: RedisServer) -> Iterator[list[str]]:
    """Two services over one Redis; their addresses."""
    model = ensure_model(UNITS)
    settings = {"UNROLL_SESSIONS_URL": redis.url, "UNROLL_RUNNER": "onnxruntime"}
    one, other = (unroll(f"redis_faults_{name}", "", settings) for name in REPLICAS)
    with serve(one, model) as first, serve(other, model) as second:
        yield [f"http://127.0.0.1:{server.port}" for server in (first, second)]


def main() -> int:
    """The command; returns the exit status."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    wrong: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(Path(folder)) as redis,
        replicas(redis) as urls,
    ):
        for fault in FAULTS:
            wrong += asyncio.run(harm(urls, redis, fault))
    print("\n".join(wrong) or "nothing was wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
