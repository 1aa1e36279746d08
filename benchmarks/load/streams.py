"""`python -m benchmarks.load.streams`: many open streams, a time step each every so often.

One process opens WebSockets to `/stream` and sends each a time step at its own moment of every
interval, whether or not answers keep up. Latency counts from the moment a message should have been
sent. Frames are made beforehand and answers only counted, so that the generator leaves the cores to
the service.
"""

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import orjson
import uvloop

from benchmarks.load.open_loop import summarize
from benchmarks.load.timer import Timer
from benchmarks.load.workloads import SEED, sensor_rows
from benchmarks.models.files import ROOT
from benchmarks.models.prepare import ensure_model
from benchmarks.servers.kinds import KINDS, UNROLL, available_cores
from benchmarks.servers.rounds import awake, running, say

STREAMS = 1000
INTERVAL_S = 0.1
WARM_UP_S, SECONDS = 3.0, 10.0
MESSAGES = 256
OPEN_TOGETHER = 50
GRACE_S = 10.0
# The line that the generator prints when what counts begins, and when it ends.
WINDOW = "window"
TEXT, FINAL, MASKED = 0x1, 0x80, 0x80


@dataclass(frozen=True)
class StreamLoad:
    """What the generator saw.

    Attributes:
        streams: open ones.
        rate: messages/s that were asked for.
        achieved: answers/s.
        errors: answers that are errors, and those that did not come.
        p50_ms, p99_ms, max_ms: latency from the intended start.
        generator_cores: cores that the generator itself took, while messages that count were sent.
    """

    streams: int
    rate: float
    achieved: float
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    generator_cores: float


def frame(payload: bytes) -> bytes:
    """A text message as a client sends it, masked with zeros (RFC 6455, section 5.2)."""
    size = len(payload)
    assert size < 1 << 16, "a small message"
    length = bytes([MASKED | size]) if size < 126 else bytes([MASKED | 126, *size.to_bytes(2)])
    return bytes([FINAL | TEXT]) + length + bytes(4) + payload


class _Connection(asyncio.Protocol):
    """One stream."""

    def __init__(self, generator: "_Generator") -> None:
        self._generator = generator
        self._buffer = b""
        self.opened = asyncio.get_running_loop().create_future()
        self.sent: deque[int] = deque()
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one, but not by its type.
        self.transport = cast(asyncio.WriteTransport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            "GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.opened.done():
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if end:
                assert b" 101 " in head, head
                self._buffer = rest
                self.opened.set_result(None)
            return
        while len(self._buffer) >= 4:
            size, start = self._buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4]), 4
            if len(self._buffer) < start + size:
                return
            opcode, payload = self._buffer[0] & 0xF, self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            if opcode == TEXT:
                self._generator.answered(self.sent.popleft(), b'"error"' not in payload)


class _Generator:
    """Sends at the moments of all streams.

    Args:
        port: of 127.0.0.1.
        streams: to open.
        interval_s: between two messages of a stream.
        seconds: of sending, after the warm-up.
        warm_up_s: of sending that does not count.

    Attributes:
        moments: when each message is due, in seconds from the start of sending, ascending.
        latencies: of each, in seconds; NaN while there is no good answer.
    """

    def __init__(
        self, port: int, streams: int, interval_s: float, seconds: float, warm_up_s: float
    ) -> None:
        self._port = port
        self._streams = streams
        random = np.random.default_rng(SEED)
        rows = sensor_rows(MESSAGES, random)
        self._frames = [
            frame(orjson.dumps({"sequence": rows[i : i + 1]}, option=orjson.OPT_SERIALIZE_NUMPY))
            for i in range(MESSAGES)
        ]
        rounds = round((warm_up_s + seconds) / interval_s)
        # Each stream has its own moment within the interval.
        within = np.sort(random.uniform(0, interval_s, streams))
        self.moments = (np.arange(rounds)[:, None] * interval_s + within).ravel()
        self.latencies = np.full(len(self.moments), np.nan)
        self._first_counted = int(np.searchsorted(self.moments, warm_up_s))
        self._connections: list[_Connection] = []
        self._start = 0.0
        self._next = 0
        self._answered = 0
        self._done = asyncio.Event()

    async def run(self, at_window: Callable[[], None]) -> None:
        """Opens, sends, waits for the last answers.

        Args:
            at_window: called before the first message that counts is sent, and after the last.
        """
        loop = asyncio.get_running_loop()
        for first in range(0, self._streams, OPEN_TOGETHER):
            count = min(OPEN_TOGETHER, self._streams - first)
            made = await asyncio.gather(*(self._open(loop) for _ in range(count)))
            self._connections += made
        timer, moments = Timer(), self.moments.tolist()
        self._start = time.monotonic() + 0.1
        loop.add_reader(timer.descriptor, self._on_time, timer, moments, at_window)
        timer.set(self._start + moments[0])
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), 0.1 + moments[-1] + GRACE_S)
        loop.remove_reader(timer.descriptor)
        for connection in self._connections:
            assert connection.transport is not None
            connection.transport.abort()
        # The loop lets go of what was closed, before the file is gone.
        await asyncio.sleep(0.05)
        os.close(timer.descriptor)

    def _on_time(self, timer: Timer, moments: list[float], at_window: Callable[[], None]) -> None:
        """Sends what is due."""
        timer.clear()
        passed = time.monotonic() - self._start
        while self._next < len(moments) and moments[self._next] <= passed:
            if self._next == self._first_counted:
                at_window()
            self._send(self._next)
            self._next += 1
        if self._next < len(moments):
            timer.set(self._start + moments[self._next])
        else:
            at_window()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        _, made = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        await asyncio.wait_for(made.opened, 30)
        return made

    def _send(self, number: int) -> None:
        connection = self._connections[number % self._streams]
        connection.sent.append(number)
        assert connection.transport is not None
        connection.transport.write(self._frames[number % MESSAGES])

    def answered(self, number: int, good: bool) -> None:
        """An answer has come."""
        self._answered += 1
        if good:
            self.latencies[number] = time.monotonic() - self._start - self.moments[number]
        if self._answered == len(self.moments):
            self._done.set()


def drive(
    port: int, streams: int, interval_s: float, seconds: float, at_window: Callable[[], None]
) -> StreamLoad:
    """Runs the generator in this process; see the module and `_Generator.run`."""
    generator = _Generator(port, streams, interval_s, seconds, WARM_UP_S)
    own = CoreClock(time.process_time)

    def both() -> None:
        own.read()
        at_window()

    uvloop.run(generator.run(both))
    rate = streams / interval_s
    seen = summarize(rate, WARM_UP_S, generator.moments, generator.latencies)
    return StreamLoad(
        streams, rate, seen.achieved, seen.errors, seen.p50_ms, seen.p99_ms, seen.max_ms, own.cores
    )


class CoreClock:
    """How many cores something takes between two moments.

    Args:
        cpu_seconds: that it has taken so far.
    """

    def __init__(self, cpu_seconds: Callable[[], float]) -> None:
        self._cpu_seconds = cpu_seconds
        self._readings: list[tuple[float, float]] = []

    def read(self) -> None:
        """To be called at both moments."""
        self._readings.append((self._cpu_seconds(), time.monotonic()))

    @property
    def cores(self) -> float:
        """Raises ValueError if it was not read twice."""
        (before, since), (after, until) = self._readings
        return (after - before) / (until - since)


def drive_elsewhere(command: Sequence[str], clock: CoreClock) -> dict[str, Any]:
    """Runs the generator as a process of its own, and reads a clock when it says so.

    Python's start and the opening of sockets are no part of what is measured.

    Args:
        command: prints `WINDOW` twice, then a document.
        clock: of the service.

    Returns:
        The document.

    Raises:
        subprocess.CalledProcessError: the generator failed.
    """
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as generator:
        assert generator.stdout is not None
        for line in generator.stdout:
            last = line.strip()
            if last == WINDOW:
                clock.read()
    if generator.returncode:
        raise subprocess.CalledProcessError(generator.returncode, command)
    document: dict[str, Any] = json.loads(last)
    return document


def measure(
    units: int, numbers: tuple[int, ...], interval_s: float, seconds: float
) -> list[dict[str, Any]]:
    """A row for each number of streams: `StreamLoad`, and the cores that the service took."""
    rows = []
    with running([KINDS[UNROLL]], ensure_model(units), []) as (server,), awake(server):
        for streams in numbers:
            command = [sys.executable, "-m", "benchmarks.load.streams", "--port", str(server.port)]
            command += ["--streams", str(streams), "--seconds", str(seconds)]
            command += ["--interval", str(interval_s)]
            clock = CoreClock(server.process.cpu_seconds)
            row = drive_elsewhere(command, clock) | {"cores": clock.cores}
            rows.append(row | {"of_cores": available_cores()})
            say(f"streams {row}")
    return rows


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.streams", description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[STREAMS])
    parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    parser.add_argument("--port", type=int, help="of a server that runs: the generator alone")
    given = parser.parse_args()
    if given.port is not None:
        told = partial(print, WINDOW, flush=True)
        load = drive(given.port, given.streams[0], given.interval, given.seconds, told)
        print(json.dumps(asdict(load)))
        return 0
    for row in measure(given.model, tuple(given.streams), given.interval, given.seconds):
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
