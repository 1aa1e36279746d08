"""Requests at random moments over connections that are opened as needed.

Arrivals are Poisson. `python -m benchmarks.load.open_loop` is the process that sends them, to be
run beside the server.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections import deque
from dataclasses import asdict
from http import HTTPStatus
from typing import cast

import httptools
import numpy as np
import uvloop

from benchmarks.load.timed_sending import Generator, OpenLoad, summarize
from benchmarks.load.workloads import NO_WRAP, SEED, Workload, Wrap, make
from benchmarks.paths import ROOT


def poisson_arrivals(rate: float, seconds: float, seed: int = SEED) -> np.ndarray:
    """Moments of arrivals, float64 seconds from 0 to `seconds`, ascending."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, size=int(rate * seconds * 1.5) + 100)
    moments: np.ndarray = np.cumsum(gaps)
    return moments[moments < seconds]


class _Connection(asyncio.Protocol):
    """One keep-alive connection; it carries one request at a time."""

    def __init__(self, requests: "_Requests") -> None:
        self._requests = requests
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.WriteTransport | None = None
        self.number = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one, but not by its type.
        self.transport = cast(asyncio.WriteTransport, transport)
        self._requests.connections.add(self)
        self._requests.is_free(self)

    def send(self, number: int, request: bytes) -> None:
        self.number = number
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        number, self.number = self.number, -1
        self._requests.answered(number, self._parser.get_status_code() == HTTPStatus.OK)
        self._requests.is_free(self)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._requests.is_lost(self)


class _Requests(Generator):
    def __init__(self, port: int, requests: list[bytes], arrivals: np.ndarray) -> None:
        super().__init__(arrivals)
        self._port = port
        self._requests = requests
        self.connections: set[_Connection] = set()
        self._free: deque[_Connection] = deque()
        self._unsent: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self.send_all()
        for connection in list(self.connections):
            connection.close()
        # The loop closes them.
        await asyncio.sleep(0)

    def send(self, number: int) -> None:
        self._unsent.append(number)
        if self._free:
            self.is_free(self._free.pop())
        else:
            task = asyncio.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            if self._unsent:
                self.answered(self._unsent.popleft(), good=False)

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
            self.answered(connection.number, good=False)


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
) -> OpenLoad:
    """Sends from this process.

    Args:
        port: of 127.0.0.1.
        workload: not `stream`, whose requests depend on answers.
        rate: requests/s.
        seconds: of arrivals, after the warm-up.
        warm_up_s: of arrivals that do not count.
        wrap: what the server wants around a body.

    Raises:
        ValueError: the workload is `stream`.
    """
    if workload.streams:
        raise ValueError("a stream cannot be sent in an open loop: it needs its answers")
    arrivals = poisson_arrivals(rate, warm_up_s + seconds)
    requests = _Requests(port, http_requests(workload, port, wrap), arrivals)
    uvloop.run(requests.run())
    return summarize(rate, warm_up_s, arrivals, requests.latencies)


def drive_elsewhere(
    port: int, workload: str, rate: float, seconds: float, warm_up_s: float, wrap: Wrap = NO_WRAP
) -> OpenLoad:
    """Sends from a process of its own; see `drive`."""
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
    """The process of `drive_elsewhere`: prints what it saw as JSON, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.open_loop")
    parser.add_argument("workload")
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float, help="requests/s")
    parser.add_argument("seconds", type=float)
    parser.add_argument("warm_up_s", type=float)
    parser.add_argument("before", help="what goes before each body")
    parser.add_argument("after", help="what goes after it")
    given = parser.parse_args()
    wrap = Wrap(given.before.encode(), given.after.encode())
    workload = make(given.workload)
    load = drive(given.port, workload, given.rate, given.seconds, given.warm_up_s, wrap)
    print(json.dumps(asdict(load)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
