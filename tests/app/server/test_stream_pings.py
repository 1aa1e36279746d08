"""Streams whose callers answer no pings: which of them have gone."""

import asyncio
import json
from pathlib import Path

import pytest

from app.application import create_app
from app.server.websocket_protocol import StreamProtocol
from app.settings import Settings
from tests.app.api.protocols.native.test_stream import UPGRADE, port_of, rows, slow_reader
from tests.app.engine.running import until
from tests.app.live import LIMIT_S, Live, head_of
from tests.app.running_service import Loader

pytestmark = pytest.mark.long


def pinging(models_dir: Path, interval_s: float) -> Live:
    """A service that asks so often whether callers are there, and waits as long for an answer."""
    settings = Settings(models_dir=models_dir, model="tiny", max_chunk_steps=16)
    app = create_app(settings, Loader())
    return Live(app, ws_ping_interval=interval_s, ws_ping_timeout=interval_s)


def stream_of(live: Live) -> StreamProtocol:
    """The service's side of its only stream."""
    (protocol,) = live.server.server_state.connections
    assert isinstance(protocol, StreamProtocol)
    return protocol


@pytest.mark.parametrize("talks", [True, False], ids=["talks", "is silent"])
def test_who_answers_no_ping_is_left_alone_as_long_as_it_sends(tiny_dir: Path, talks: bool) -> None:
    """The answer to a ping stands behind what was sent ahead, and may take long to be read."""
    interval_s = 0.2
    frame = json.dumps({"sequence": rows(1)}).encode()
    frame = bytes([0x81, 0x80 | len(frame)]) + bytes(4) + frame

    async def work(live: Live) -> None:
        await live.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        writer.write(head_of("/stream", *UPGRADE, method="GET"))
        await reader.readuntil(b"\r\n\r\n")
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 8 * interval_s
        while talks and loop.time() < until_s:
            writer.write(frame)
            await asyncio.sleep(interval_s / 4)
        if talks:
            await asyncio.sleep(0)
            assert not reader.at_eof()
        # It falls silent: whoever answers no ping then has gone.
        async with asyncio.timeout(LIMIT_S):
            rest = await reader.read()
        assert b"keepalive" in rest
        assert rest.count(b"time_step") == 0 or talks
        writer.close()

    with pinging(tiny_dir, interval_s) as live:
        live.run(work(live))


def test_a_caller_who_reads_nothing_is_given_up(tiny_dir: Path) -> None:
    """It has sent so much that nothing more of it is read, so it answers no ping either."""
    interval_s = 0.2

    async def work(live: Live) -> None:
        await live.ready()
        _, writer, frame = await slow_reader(live)
        for _ in range(2000):
            writer.write(frame)
        before = live.app.state.context.stats.shared.living()[0].closed
        await until(lambda: live.app.state.context.stats.shared.living()[0].closed == before + 1)
        writer.close()

    with pinging(tiny_dir, interval_s) as live:
        live.run(work(live))


def test_a_caller_who_only_pings_and_reads_nothing_is_given_up(tiny_dir: Path) -> None:
    """The answers to its pings have a limit, and its pings do not keep it."""
    interval_s = 0.2
    ping = bytes([0x89, 0xFD]) + bytes(4) + b"x" * 125
    most = 0

    async def work(live: Live) -> None:
        nonlocal most
        await live.ready()
        _, writer, _ = await slow_reader(live)
        protocol = stream_of(live)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        shared = live.app.state.context.stats.shared
        before = shared.living()[0].closed
        loop = asyncio.get_running_loop()
        until_s = loop.time() + LIMIT_S
        while shared.living()[0].closed == before:
            assert loop.time() < until_s, "it is kept"
            if writer.transport.get_write_buffer_size() < 1 << 20:
                writer.write(ping * 1000)
            most = max(most, protocol.transport.get_write_buffer_size())
            await asyncio.sleep(0.001)
        writer.transport.abort()

    with pinging(tiny_dir, interval_s) as live:
        live.run(work(live))
    # The answers to what one read held.
    assert most < 1 << 20


def test_a_caller_who_reads_slowly_is_not_given_up(tiny_dir: Path) -> None:
    interval_s = 0.2

    async def work(live: Live) -> None:
        await live.ready()
        reader, writer, frame = await slow_reader(live)
        protocol = stream_of(live)
        # A sender's answers to pings stand behind all of its messages.
        for _ in range(2000):
            writer.write(frame)
        await until(lambda: not protocol.is_writable)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 8 * interval_s
        while loop.time() < until_s:
            await reader.read(1 << 16)
            await asyncio.sleep(0.002)
        assert not reader.at_eof()
        assert not protocol.transport.is_closing()
        writer.transport.abort()

    with pinging(tiny_dir, interval_s) as live:
        live.run(work(live))
