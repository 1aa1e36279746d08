"""Many open streams, a time step each every so often.

One process opens WebSockets to `/stream` and sends each a time step at its own moment of every
interval. Frames are made beforehand and answers only counted, so that the generator leaves the
cores to the service. `python -m benchmarks.load.streams` is that process.
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
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import numpy as np
import orjson
import uvloop

from benchmarks.load.timed_sending import Generator, summarize
from benchmarks.load.workloads import SEED, sensor_rows
from benchmarks.paths import ROOT

WARM_UP_S = 3.0
MESSAGES = 256
OPEN_TOGETHER = 50
# The line that the process prints when what counts begins, and when it ends.
WINDOW = "window"
TEXT, FINAL, MASKED = 0x1, 0x80, 0x80


def frame(payload: bytes) -> bytes:
    """A text message as a client sends it, masked with zeros (RFC 6455, section 5.2)."""
    size = len(payload)
    assert size < 1 << 16, "a small message"
    length = bytes([MASKED | size]) if size < 126 else bytes([MASKED | 126, *size.to_bytes(2)])
    return bytes([FINAL | TEXT]) + length + bytes(4) + payload


class _Connection(asyncio.Protocol):
    """One stream."""

    def __init__(self, streams: "Streams") -> None:
        self._streams = streams
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
                self._streams.answered(self.sent.popleft(), b'"error"' not in payload)


class Streams(Generator):
    """Sends at the moments of all streams.

    Args:
        port: of 127.0.0.1.
        streams: to open.
        interval_s: between two messages of a stream.
        seconds: of sending, after the warm-up.
        warm_up_s: of sending that does not count.
        at_window: called before the first message that counts is sent, and after the last.
    """

    def __init__(
        self,
        port: int,
        streams: int,
        interval_s: float,
        seconds: float,
        warm_up_s: float,
        at_window: Callable[[], None],
    ) -> None:
        self._port, self._count, self._at_window = port, streams, at_window
        random = np.random.default_rng(SEED)
        rows = sensor_rows(MESSAGES, random)
        self._frames = [
            frame(orjson.dumps({"sequence": rows[i : i + 1]}, option=orjson.OPT_SERIALIZE_NUMPY))
            for i in range(MESSAGES)
        ]
        rounds = round((warm_up_s + seconds) / interval_s)
        # Each stream has its own moment within the interval.
        within = np.sort(random.uniform(0, interval_s, streams))
        moments = (np.arange(rounds)[:, None] * interval_s + within).ravel()
        super().__init__(moments)
        self._first_counted = int(np.searchsorted(moments, warm_up_s))
        self._connections: list[_Connection] = []

    async def run(self) -> None:
        """Opens, sends, waits for the last answers."""
        loop = asyncio.get_running_loop()
        for first in range(0, self._count, OPEN_TOGETHER):
            count = min(OPEN_TOGETHER, self._count - first)
            self._connections += await asyncio.gather(*(self._open(loop) for _ in range(count)))
        await self.send_all()
        for connection in self._connections:
            assert connection.transport is not None
            connection.transport.abort()
        # The loop closes them.
        await asyncio.sleep(0.05)

    async def _open(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        _, made = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        await asyncio.wait_for(made.opened, 30)
        return made

    def all_sent(self) -> None:
        """See `Generator.all_sent`."""
        self._at_window()

    def send(self, number: int) -> None:
        """See `Generator.send`."""
        if number == self._first_counted:
            self._at_window()
        connection = self._connections[number % self._count]
        connection.sent.append(number)
        assert connection.transport is not None
        connection.transport.write(self._frames[number % MESSAGES])


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


def drive(
    port: int, streams: int, interval_s: float, seconds: float, at_window: Callable[[], None]
) -> dict[str, Any]:
    """Sends from this process; see `Streams`.

    Returns:
        `OpenLoad` as a dictionary, the number of `streams`, and `generator_cores`: those that this
        process took while messages that count were sent.
    """
    own = CoreClock(time.process_time)

    def both() -> None:
        own.read()
        at_window()

    generator = Streams(port, streams, interval_s, seconds, WARM_UP_S, both)
    uvloop.run(generator.run())
    moments = np.array(generator.moments)
    seen = summarize(streams / interval_s, WARM_UP_S, moments, generator.latencies)
    return {"streams": streams, **asdict(seen), "generator_cores": own.cores}


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


def main() -> int:
    """The process of `drive_elsewhere`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.streams")
    parser.add_argument("port", type=int)
    parser.add_argument("streams", type=int)
    parser.add_argument("interval_s", type=float)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    told = partial(print, WINDOW, flush=True)
    print(json.dumps(drive(given.port, given.streams, given.interval_s, given.seconds, told)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
