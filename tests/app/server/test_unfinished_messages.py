"""Messages of streams whose end does not come: they have as much room and time as bodies have."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from app.application import create_app
from app.service.body_room import BodyRoom
from app.service.large_bodies import LARGE_BYTES
from app.settings import Settings
from tests.app.api.protocols.native.test_stream import UPGRADE, frame_of, port_of, rows
from tests.app.engine.running import until
from tests.app.live import LIMIT_S, Live, head_of
from tests.app.raw_caller import RawCaller
from tests.app.running_service import Loader

SOON_S = 0.3
TEXT, CONTINUES, PING, FINAL = 0x01, 0x00, 0x09, 0x80
POLICY, TRY_AGAIN = 1008, 1013
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def begin_of(kind: int, size: int) -> bytes:
    """The head of a frame of so many bytes; its mask is zero."""
    return bytes([kind, 0xFF]) + size.to_bytes(8) + bytes(4)


def room_of(live: Live) -> BodyRoom:
    endpoint: Any = live.app.state.context.endpoints["POST", "/predict"]
    room: BodyRoom = endpoint.inference.bodies.room
    return room


async def opened(live: Live) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
    writer.write(head_of("/stream", *UPGRADE, method="GET"))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def closing_code(reader: asyncio.StreamReader) -> int:
    """The code with which the service closes; nothing else is sent."""
    async with asyncio.timeout(LIMIT_S):
        frame = await reader.read()
    assert frame[0] == 0x88, frame[:80]
    return int.from_bytes(frame[2:4])


def serve(
    tiny_dir: Path, work: Callable[[Live], Coroutine[Any, Any, None]], **options: Any
) -> None:
    settings = Settings(models_dir=tiny_dir, model="tiny", **options)
    with Live(create_app(settings, Loader())) as live:
        live.run(live.ready())
        live.run(work(live))
        rooms: list[Any] = [room_of(live), room_of(live).small]
        live.run(until(lambda: not any(room.held for room in rooms)))
        assert not any(room._of_callers for room in rooms)


UNFINISHED = {
    "a frame": begin_of(FINAL | TEXT, 500) + b"{",
    "a head": b"\x81",
    "fragments": begin_of(TEXT, 1) + b"{",
    "empty fragments": begin_of(TEXT, 0) + begin_of(CONTINUES, 0) * 3,
    "a ping": bytes([FINAL | PING]),
}
DRIPPING = ("a frame", "fragments", "empty fragments")


@pytest.mark.parametrize(
    ("name", "drips"),
    [*((name, False) for name in UNFINISHED), *((name, True) for name in DRIPPING)],
)
def test_a_message_has_as_much_time_to_arrive_as_a_body(
    tiny_dir: Path, name: str, drips: bool
) -> None:
    async def work(live: Live) -> None:
        reader, writer = await opened(live)
        writer.write(UNFINISHED[name])
        closing = asyncio.create_task(closing_code(reader))
        while drips and not closing.done():
            writer.write(begin_of(CONTINUES, 0) if "fragments" in name else b" ")
            await asyncio.sleep(SOON_S / 10)
        assert await closing == POLICY
        writer.close()

    serve(tiny_dir, work, body_timeout_s=SOON_S)


def test_messages_that_follow_each_other_have_their_own_time(tiny_dir: Path) -> None:
    """Each read ends within one of them, for longer than one of them has."""
    frame = frame_of({"sequence": rows(1), "outputs": "none"})

    async def work(live: Live) -> None:
        reader, writer = await opened(live)
        writer.write(frame[:9])
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 3 * SOON_S
        while loop.time() < until_s:
            await asyncio.sleep(SOON_S / 10)
            writer.write(frame[9:] + frame[:9])
            async with asyncio.timeout(LIMIT_S):
                assert (await reader.read(1 << 10))[0] == 0x81
        writer.close()

    serve(tiny_dir, work, body_timeout_s=SOON_S)


@pytest.mark.parametrize("final", [FINAL, 0], ids=["a frame", "fragments"])
def test_large_messages_take_room_until_they_are_understood(tiny_dir: Path, final: int) -> None:
    size = 4 * LARGE_BYTES

    async def work(live: Live) -> None:
        room = room_of(live)
        reader, writer = await opened(live)
        begin = json.dumps({"id": 7}).encode()[:-1] + b', "sequence": [[1, null, null, 0]]'
        begin += b" " * (size - len(begin) - 1)
        writer.write(begin_of(final | TEXT, size if final else size - 1) + begin)
        await until(lambda: room.held >= size - 1)
        with room.share("other") as others:
            others(room._limit - room.held)
            # It is no more than before.
            writer.write(b"}" if final else begin_of(FINAL | CONTINUES, 1) + b"}")
            async with asyncio.timeout(LIMIT_S):
                assert b'"id":7' in await reader.readuntil(b"}")
            await until(lambda: room.held < room._limit)
        writer.close()

    serve(tiny_dir, work)


@pytest.mark.parametrize("final", [FINAL, 0], ids=["a frame", "fragments"])
def test_who_finds_no_room_is_told_to_come_again(tiny_dir: Path, final: int) -> None:
    size = 4 * LARGE_BYTES

    async def work(live: Live) -> None:
        room = room_of(live)
        reader, writer = await opened(live)
        with room.share("127.0.0.1") as own:
            own(room._limit)
            writer.write(begin_of(final | TEXT, size) + b" " * (size - final))
            assert await closing_code(reader) == TRY_AGAIN
        writer.close()

    serve(tiny_dir, work)


@pytest.mark.parametrize("size", [LARGE_BYTES // 2, 4 * LARGE_BYTES])
def test_who_hangs_up_within_a_message_gives_its_room_back(tiny_dir: Path, size: int) -> None:
    async def work(live: Live) -> None:
        _, writer = await opened(live)
        writer.write(begin_of(FINAL | TEXT, 8 * LARGE_BYTES) + b" " * size)
        room: Any = room_of(live) if size > LARGE_BYTES else room_of(live).small
        await until(lambda: room.held > 0)
        writer.transport.abort()

    serve(tiny_dir, work)


def test_who_does_not_read_its_pongs_has_no_more_time(tiny_dir: Path) -> None:
    """Nothing more of it is read then, so the rest of its message might have arrived."""
    ping = bytes([FINAL | PING, 0xFD]) + bytes(4) + b"x" * 125

    async def work(live: Live) -> None:
        _, writer = await opened(live)
        (protocol,) = (p for p in live.server.server_state.connections if hasattr(p, "_stream"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(begin_of(TEXT, 0))
        shared = live.app.state.context.stats.shared
        before = shared.living()[0].closed
        while protocol.is_writable:
            writer.write(ping * 1000)
            await asyncio.sleep(0)
        await until(lambda: shared.living()[0].closed == before + 1)
        writer.transport.abort()

    serve(tiny_dir, work, body_timeout_s=SOON_S)


CLOSE = b"\x88\x82" + bytes(4) + b"\x03\xe8"


@pytest.mark.parametrize("messages", [1, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_who_closes_behind_messages_gets_their_answers(
    tiny_dir: Path, messages: int, apart: bool
) -> None:
    frame = frame_of({"sequence": rows(*[1] * 300), "outputs": "last"})

    async def work(live: Live) -> None:
        reader, writer = await opened(live)
        writer.write(frame * messages)
        await asyncio.sleep(0.001 * apart)
        writer.write(CLOSE + frame)
        async with asyncio.timeout(LIMIT_S):
            answers = await reader.read()
        assert answers.count(b'"outputs"') == messages
        assert answers.endswith(b"\x88\x02\x03\xe8")
        writer.close()

    serve(tiny_dir, work, lanes=1)


def test_who_closes_and_does_not_read_its_answers_is_let_go(tiny_dir: Path) -> None:
    """The second one is not begun before the first one is read."""
    steps = 40_000
    large = json.dumps({"sequence": [[1, 2, 3, 4]] * steps}).encode()
    small = frame_of({"sequence": rows(1)})

    async def work(live: Live) -> None:
        caller = RawCaller(live, reads=False)
        await caller.open()
        await caller.send(head_of("/stream", *UPGRADE, method="GET"))
        await caller.until_end_of(b"\r\n\r\n")
        shared = live.app.state.context.stats.shared
        before = shared.living()[0].closed
        await caller.send(begin_of(FINAL | TEXT, len(large)) + large + small + CLOSE)
        await until(lambda: caller.unread > 0)
        await until(lambda: shared.living()[0].closed == before + 1)
        caller.close()

    limits = {"max_sequence_steps": steps, "max_sequences": 1}
    serve(tiny_dir, work, body_timeout_s=SOON_S, **limits)
