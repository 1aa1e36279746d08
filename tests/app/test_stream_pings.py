"""Streams whose callers answer no pings: which of them have gone."""

import asyncio
import json
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.live import LIMIT_S, Live, head_of
from tests.app.service import Loader
from tests.app.test_stream import UPGRADE, port_of, rows


def pinging(models_dir: Path, interval_s: float) -> Live:
    """A service that asks so often whether callers are there, and waits as long for an answer."""
    settings = Settings(models_dir=models_dir, model="tiny", max_chunk_steps=16)
    app = create_app(settings, Loader())
    return Live(app, ws_ping_interval=interval_s, ws_ping_timeout=interval_s)


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


def test_a_caller_who_does_not_read_is_waited_for_beyond_its_pings(tiny_dir: Path) -> None:
    """Nothing of it is read while it reads nothing, so its answers to pings are not either."""
    interval_s = 0.1

    async def work(live: Live) -> None:
        await live.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live), limit=1 << 10)
        writer.write(head_of("/stream", *UPGRADE, method="GET"))
        await reader.readuntil(b"\r\n\r\n")
        payload = json.dumps({"sequence": rows(*[1] * 900)}).encode()
        frame = bytes([0x81, 0xFE]) + len(payload).to_bytes(2) + bytes(4) + payload
        for _ in range(2000):
            writer.write(frame)
        counted = live.app.state.registry.engine.counters
        last = -1
        async with asyncio.timeout(LIMIT_S):
            while counted.completed != last:
                last = counted.completed
                await asyncio.sleep(5 * interval_s)
        assert last < 2000, "it was computed although nobody reads"
        async with asyncio.timeout(LIMIT_S):
            while counted.completed < last + 100:
                assert await reader.read(1 << 16), "it was given up"
        writer.close()

    with pinging(tiny_dir, interval_s) as live:
        live.run(work(live))
