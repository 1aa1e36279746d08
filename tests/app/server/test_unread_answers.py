"""Answers that nobody reads hold no more than there is room for, whatever their route."""

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.api.unread_answers import UnreadAnswers
from tests.app.api.protocols.native.test_stream import UPGRADE
from tests.app.api.test_fast_path import live_of
from tests.app.api.test_finished_requests import send
from tests.app.engine.running import until
from tests.app.live import Live, head_of
from tests.app.raw_caller import END, RawCaller
from tests.app.requests_of_routes import ROUTES
from tests.app.running_service import Loader

STEPS = 40_000
LIMIT = 1 << 20
CALLERS = 8

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def live(tiny_dir: Path) -> Iterator[Live]:
    limits = {"max_sequence_steps": STEPS, "max_waiting_steps": CALLERS * STEPS, "max_sequences": 1}
    with live_of(tiny_dir, Loader(), max_chunk_steps=1000, **limits) as live:
        live.run(live.ready())
        live.app.state.context.unread = UnreadAnswers(LIMIT)
        yield live


async def asks(caller: RawCaller, route: str, in_pieces: bool) -> None:
    if route != "stream":
        await send(caller, ROUTES[route](STEPS, 1.0), in_pieces)
        return
    await caller.send(head_of("/stream", *UPGRADE, method="GET"))
    await caller.until_end_of(END)
    payload = json.dumps({"sequence": [[1, 2, 3, 4]] * STEPS}).encode()
    await caller.send(b"\x81\xff" + len(payload).to_bytes(8) + bytes(4) + payload)


def waits(unread: UnreadAnswers, caller: RawCaller) -> bool:
    """Whether its answer waits for it."""
    readers: list[Any] = list(unread._callers)
    return caller._socket.getsockname() in [reader.client for reader in readers]


@pytest.mark.parametrize(
    ("route", "in_pieces"),
    [
        ("json", False),
        ("json", True),
        ("ndjson", True),
        ("arrow", False),
        ("v1", False),
        ("v2", True),
        ("v2 bytes", False),
        ("stream", False),
    ],
)
def test_who_reads_nothing_makes_room(live: Live, route: str, in_pieces: bool) -> None:
    unread = live.app.state.context.unread

    async def run() -> None:
        callers = []
        for _ in range(CALLERS):
            callers.append(RawCaller(live, reads=False))
            await callers[-1].open()
            await asks(callers[-1], route, in_pieces)
            await until(partial(waits, unread, callers[-1]))
            largest = max(max(held.values()) for held in unread._readers.values())
            assert unread.held <= max(LIMIT, largest)
        assert 0 < len(unread._callers) < CALLERS
        own = RawCaller(live)
        await own.open()
        await own.send(b"".join(ROUTES["json"](1, 1.0)))
        assert await own.status() == 200
        for caller in (own, *callers):
            caller.close()
        await until(lambda: not live.server.server_state.connections)
        assert unread.held == 0

    live.run(asyncio.wait_for(run(), 60))
