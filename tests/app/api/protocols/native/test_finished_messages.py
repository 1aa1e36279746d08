"""A stream and its messages are freed at once, however they ended; see `test_finished_requests`."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.protocols.native.test_stream import UPGRADE, frame_of, rows
from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import until
from tests.app.leftovers import leftovers
from tests.app.live import Live, head_of
from tests.app.raw_caller import END, RawCaller
from tests.app.running_service import Loader

pytestmark = pytest.mark.long

POISON, OVERFLOW = 666.0, 777.0
COUNT = 4
CLOSE = b"\x88\x82" + bytes(4) + (1000).to_bytes(2)
GOOD = frame_of({"sequence": rows(1, 2)})


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(POISON, OVERFLOW)


@pytest.fixture(scope="module")
def live(tiny_dir: Path, loader: Loader) -> Iterator[Live]:
    with live_of(tiny_dir, loader, lanes=1, request_timeout_s=0.25) as live:
        live.run(live.ready())
        yield live
        loader.runner.gate.set()


def left(live: Live, talk: Any) -> dict[str, int]:
    """What streams that are open side by side leave behind, when their callers have hung up."""

    async def one() -> None:
        caller = RawCaller(live)
        await caller.open()
        await caller.send(head_of("/stream", *UPGRADE, method="GET"))
        await caller.until_end_of(END)
        try:
            await talk(caller)
        finally:
            caller.close()

    async def make(count: int) -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    return leftovers(live, make, COUNT)


async def message(caller: RawCaller) -> bytes:
    """The next message, which is short."""
    _, size = await caller.bytes_of(2)
    if size == 126:
        size = int.from_bytes(await caller.bytes_of(2))
    return await caller.bytes_of(size)


@pytest.mark.parametrize(
    "frame",
    [
        GOOD,
        frame_of({"sequence": []}),
        frame_of({"sequence": rows(POISON)}),
        frame_of({"sequence": rows(OVERFLOW)}),
        b"\x81\x81" + bytes(4) + b"{",
    ],
    ids=["answered", "invalid", "poison", "overflow", "no JSON"],
)
def test_a_message_that_is_answered(live: Live, frame: bytes) -> None:
    async def talk(caller: RawCaller) -> None:
        for _ in range(COUNT):
            await caller.send(frame)
            assert b"outputs" in (got := await message(caller)) or b"error" in got

    assert not left(live, talk)


def test_messages_sent_ahead(live: Live) -> None:
    async def talk(caller: RawCaller) -> None:
        await caller.send(GOOD * 3 * COUNT)
        for _ in range(3 * COUNT):
            assert b"outputs" in await message(caller)

    assert not left(live, talk)


def test_a_message_in_fragments(live: Live) -> None:
    """These go through the libraries, and the application."""
    payload = GOOD[6:]
    first = b"\x01" + bytes([0x80 | 5]) + bytes(4) + payload[:5]
    rest = b"\x80" + bytes([0x80 | len(payload) - 5]) + bytes(4) + payload[5:]

    async def talk(caller: RawCaller) -> None:
        await caller.send(first + rest)
        assert b"outputs" in await message(caller)

    assert not left(live, talk)


def test_a_stream_that_is_closed(live: Live) -> None:
    async def talk(caller: RawCaller) -> None:
        await caller.send(GOOD)
        assert b"outputs" in await message(caller)
        await caller.send(CLOSE)
        await caller.until_end_of((1000).to_bytes(2))

    assert not left(live, talk)


def test_a_frame_that_does_not_end(live: Live) -> None:
    async def talk(caller: RawCaller) -> None:
        await caller.send(GOOD + GOOD[:-1])
        assert b"outputs" in await message(caller)

    assert not left(live, talk)


def test_what_is_no_frame(live: Live) -> None:
    async def talk(caller: RawCaller) -> None:
        await caller.send(b"\xff" * 20)
        await caller.bytes_of(4)

    assert not left(live, talk)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_message_that_is_given_up(live: Live, loader: Loader, hangs_up: bool) -> None:
    """With those behind it."""
    engine = live.app.state.context.registry.engine

    together = asyncio.Barrier(COUNT)

    async def talk(caller: RawCaller) -> None:
        loader.runner.gate.clear()
        await caller.send(GOOD * 3)
        if hangs_up:
            await until(lambda: engine.counters.running + engine.counters.waiting == COUNT)
            await together.wait()
            caller.close()
            await until(lambda: not live.server.server_state.connections)
        else:
            for _ in range(3):
                assert b"took too long" in await message(caller)
            await together.wait()
        loader.runner.gate.set()

    assert not left(live, talk)
