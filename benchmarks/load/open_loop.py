"""`python -m benchmarks.load.open_loop`: requests at random moments, whether or not answers keep up.

Arrivals are Poisson. Latency counts from the moment a request should have been sent, so a server
that stalls is charged for all who wait meanwhile. Raw connections, opened as needed; one process,
to be run beside the server.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import uvloop

from benchmarks.load.responses import ResponseReader
from benchmarks.load.timer import Timer
from benchmarks.load.workloads import NO_WRAP, Workload, Wrap, make
from benchmarks.models.files import ROOT

SEED = 20131225
# After the last arrival, answers that take longer count as errors.
GRACE_S = 20.0


@dataclass(frozen=True)
class OpenLoad:
    """What the generator saw.

    Attributes:
        rate: requests a second that were asked for.
        achieved: good answers a second, while requests arrived.
        requests: counted ones, after the warm-up.
        errors: answers that are not 200, and those that did not come.
        p50_ms, p99_ms, max_ms: latency from the intended start. Who got no good answer is taken to
            have waited to the end: then these are less than what they stand for.
    """

    rate: float
    achieved: float
    requests: int
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def poisson_arrivals(rate: float, seconds: float, seed: int = SEED) -> np.ndarray:
    """Moments of arrivals, float64 seconds from 0 to `seconds`, ascending."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, size=int(rate * seconds * 1.5) + 100)
    moments: np.ndarray = np.cumsum(gaps)
    return moments[moments < seconds]


def summarize(
    rate: float, warm_up_s: float, arrivals: np.ndarray, latencies: np.ndarray
) -> OpenLoad:
    """Leaves the warm-up out.

    Args:
        rate: that was asked for, in requests/s.
        warm_up_s: arrivals before it do not count.
        arrivals: intended starts in seconds, ascending.
        latencies: float64 seconds of each; NaN where no good answer came.
    """
    counts = arrivals >= warm_up_s
    moments, latencies = arrivals[counts], latencies[counts]
    end, missing = float(arrivals[-1]), np.isnan(latencies)
    in_time = moments + np.where(missing, np.inf, latencies) <= end
    waited = np.where(missing, end + GRACE_S - moments, latencies)
    p50, p99, longest = np.percentile(waited, [50, 99, 100])
    return OpenLoad(
        rate=rate,
        achieved=float(in_time.sum() / (end - warm_up_s)),
        requests=latencies.size,
        errors=int(missing.sum()),
        p50_ms=1e3 * float(p50),
        p99_ms=1e3 * float(p99),
        max_ms=1e3 * float(longest),
    )


class _Connection(asyncio.Protocol):
    """One keep-alive connection; it carries one request at a time."""

    def __init__(self, generator: "_Generator") -> None:
        self._generator = generator
        self._reader = ResponseReader()
        self.transport: asyncio.WriteTransport | None = None
        self.number = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one, but not by its type.
        self.transport = cast(asyncio.WriteTransport, transport)
        self._generator.connections.add(self)
        self._generator.is_free(self)

    def send(self, number: int, request: bytes) -> None:
        self.number = number
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        status = self._reader.feed(data)
        if status is not None:
            number, self.number = self.number, -1
            self._generator.answered(number, status)
            self._generator.is_free(self)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._generator.is_lost(self)


class _Generator:
    def __init__(self, port: int, requests: list[bytes], arrivals: np.ndarray) -> None:
        self._port = port
        self._requests = requests
        self._moments: list[float] = arrivals.tolist()
        self.latencies = np.full(len(arrivals), np.nan)
        self._next = 0
        self._answered = 0
        self.connections: set[_Connection] = set()
        self._free: deque[_Connection] = deque()
        self._unsent: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._start = 0.0
        self._done = asyncio.Event()

    async def run(self) -> None:
        timer = Timer()
        self._start = time.monotonic() + 0.2
        asyncio.get_running_loop().add_reader(timer.descriptor, self._on_time, timer)
        timer.set(self._start + self._moments[0])
        try:
            await asyncio.wait_for(self._done.wait(), 0.2 + self._moments[-1] + GRACE_S)
        except TimeoutError:
            print("some answers never came", file=sys.stderr)
        asyncio.get_running_loop().remove_reader(timer.descriptor)
        for connection in list(self.connections):
            connection.close()
        # The loop lets go of what was closed, before the file is gone.
        await asyncio.sleep(0.01)
        os.close(timer.descriptor)

    def _on_time(self, timer: Timer) -> None:
        timer.clear()
        passed = time.monotonic() - self._start
        while self._next < len(self._moments) and self._moments[self._next] <= passed:
            self._unsent.append(self._next)
            self._next += 1
            if self._free:
                self.is_free(self._free.pop())
            else:
                self._open()
        if self._next < len(self._moments):
            timer.set(self._start + self._moments[self._next])

    def _open(self) -> None:
        task = asyncio.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            if self._unsent:
                self.answered(self._unsent.popleft(), 0)

    def is_free(self, connection: _Connection) -> None:
        if self._unsent:
            number = self._unsent.popleft()
            connection.send(number, self._requests[number % len(self._requests)])
        else:
            # The one used last is used next: the others may grow cold.
            self._free.append(connection)

    def is_lost(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if connection.number >= 0:
            self.answered(connection.number, 0)

    def answered(self, number: int, status: int) -> None:
        if status == 200:
            passed = time.monotonic() - self._start
            self.latencies[number] = passed - self._moments[number]
        self._answered += 1
        if self._answered == len(self._moments):
            self._done.set()


def http_requests(workload: Workload, port: int, wrap: Wrap) -> list[bytes]:
    """The bytes of each request."""
    bodies = [wrap.around(body) for body in workload.bodies]
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        "Content-Length: "
    )
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def drive(
    port: int,
    workload: Workload,
    rate: float,
    seconds: float,
    warm_up_s: float,
    wrap: Wrap = NO_WRAP,
    seed: int = SEED,
) -> OpenLoad:
    """Runs the generator in this process.

    Args:
        port: of 127.0.0.1.
        workload: not `stream`, whose requests depend on answers.
        rate: requests/s.
        seconds: of arrivals, after the warm-up.
        warm_up_s: of arrivals that do not count.
        wrap: what the server wants around a body.
        seed: of the arrivals.

    Raises:
        ValueError: the workload is `stream`.
    """
    if workload.streams:
        raise ValueError("a stream cannot be sent in an open loop: it needs its answers")
    arrivals = poisson_arrivals(rate, warm_up_s + seconds, seed)
    generator = _Generator(port, http_requests(workload, port, wrap), arrivals)
    uvloop.run(generator.run())
    return summarize(rate, warm_up_s, arrivals, generator.latencies)


def drive_elsewhere(
    port: int, workload: str, rate: float, seconds: float, warm_up_s: float, wrap: Wrap = NO_WRAP
) -> OpenLoad:
    """Runs the generator as a process of its own; see `drive`."""
    numbers = [str(value) for value in (port, rate, seconds, warm_up_s)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load.open_loop", workload, *numbers]
        + [wrap.before.decode(), wrap.after.decode()],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
    )
    return OpenLoad(**json.loads(done.stdout))


def main() -> int:
    """The command; prints what it saw as JSON and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load.open_loop", description=__doc__
    )
    parser.add_argument("workload")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float, help="requests/s")
    parser.add_argument("seconds", type=float)
    parser.add_argument("warm_up_s", type=float)
    parser.add_argument("before", nargs="?", default="", help="what goes before each body")
    parser.add_argument("after", nargs="?", default="", help="what goes after it")
    given = parser.parse_args()
    wrap = Wrap(given.before.encode(), given.after.encode())
    workload = make(given.workload)
    load = drive(given.port, workload, given.rate, given.seconds, given.warm_up_s, wrap)
    print(json.dumps(asdict(load)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
