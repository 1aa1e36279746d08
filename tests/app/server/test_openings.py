"""Requests that would open a stream and cannot; and stops, whatever a connection is in."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.server.websocket_protocol import StreamProtocol
from tests.app.api.protocols.native.test_stream import UPGRADE, frame_of, port_of, rows
from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import until
from tests.app.live import LIMIT_S, Live, head_of, request
from tests.app.running_service import Loader

BODY = json.dumps({"sequences": [rows(1.0)], "states": "none"}).encode()
OPENING = head_of("/stream", *UPGRADE, method="GET")
PING, CLOSE = b"\x89\x80\0\0\0\0", b"\x88\x80\0\0\0\0"

IMPOSSIBLE: dict[str, bytes] = {
    "with a length": head_of("/stream", *UPGRADE, "Content-Length: 2", method="GET") + b"{}",
    "without the body": head_of("/stream", *UPGRADE, "Content-Length: 2", method="GET"),
    "a length of zeros": head_of("/stream", *UPGRADE, "Content-Length: 00", method="GET"),
    "in chunks": head_of("/stream", *UPGRADE, "Transfer-Encoding: chunked", method="GET")
    + b"0\r\n\r\n",
    "by POST, with a body": b"".join(request("/stream", BODY, *UPGRADE)),
    "at another path": b"".join(request("/predict", BODY, *UPGRADE)),
    "of HTTP/1.0": head_of("/stream", *UPGRADE, method="GET", version="1.0"),
    "with a body, of HTTP/1.0": b"".join(request("/predict", BODY, *UPGRADE, version="1.0")),
    "a line that is too long": head_of("/stream", *UPGRADE, "X: " + "x" * 9000, method="GET"),
    "two lines of Connection": head_of("/predict", *UPGRADE, "Connection: x") + b"x",
}


@pytest.fixture(scope="module")
def live(tiny_dir: Path) -> Iterator[Live]:
    with live_of(tiny_dir, Loader()) as live:
        live.run(live.ready())
        yield live


async def connect(live: Live) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port_of(live))


async def all_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(LIMIT_S):
        return await reader.read()


@pytest.mark.parametrize("before", [b"", b"".join(request("/predict", BODY))], ids=["", "later"])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_opens_no_stream_is_told_so_at_once(
    live: Live, name: str, before: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would else: the parser of requests is done with it, and that of frames fails."""

    async def run() -> bytes:
        reader, writer = await connect(live)
        if before:
            writer.write(before)
            await reader.readuntil(b"]}")
        writer.write(IMPOSSIBLE[name])
        answer = await all_of(reader)
        writer.close()
        await until(lambda: not live.server.server_state.connections)
        return answer

    answer = live.run(run())
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["title"] == "The request is not HTTP"
    assert caplog.messages == []


def test_a_length_of_zero_is_no_body(live: Live) -> None:
    async def run() -> None:
        reader, writer = await connect(live)
        writer.write(head_of("/stream", *UPGRADE, "Content-Length: 0", method="GET"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()

    live.run(run())


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_an_upgrade_behind_an_answer_that_is_due_takes_it_from_nobody(
    tiny_dir: Path, upgrade: str
) -> None:
    lines = (f"Upgrade: {upgrade}", *UPGRADE[1:])

    async def run(live: Live) -> bytes:
        await live.ready()
        loader.runner.gate.clear()
        reader, writer = await connect(live)
        writer.write(b"".join(request("/predict", BODY)) + head_of("/stream", *lines, method="GET"))
        await until(loader.runner.entered.is_set)
        loader.runner.gate.set()
        answer = await all_of(reader)
        writer.close()
        return answer

    loader = Loader()
    with live_of(tiny_dir, loader, lanes=1) as live:
        answer = live.run(run(live))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"]}")
    assert answer.count(b"HTTP/1.1 ") == 1


# What a connection is in when the service stops.


async def is_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OPENING)
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")


async def has_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await is_open(reader, writer)
    writer.write(frame_of({"sequence": rows(1.0)}))
    await reader.readuntil(b"}")


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The caller's side of the closing handshake, and no end of the connection."""
    await is_open(reader, writer)
    writer.write(CLOSE)
    await reader.readexactly(2)


async def closes_while_computed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await is_open(reader, writer)
    writer.write(frame_of({"sequence": rows(1.0)}) + CLOSE)
    await reader.readuntil(b"\x88\x00")


async def broke_a_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await is_open(reader, writer)
    writer.write(b"\x81\x02{}")
    await reader.readexactly(2)


async def is_within_a_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await is_open(reader, writer)
    writer.write(frame_of({"sequence": rows(1.0)})[:-3])
    writer.write(b"")
    await asyncio.sleep(0.02)


def sent(data: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await asyncio.sleep(0.02)

    return send


STATES: dict[str, Callable[..., Awaitable[None]]] = {
    "open": is_open,
    "asked": has_asked,
    "closing": closes,
    "closing while computed": closes_while_computed,
    "broken": broke_a_frame,
    "within a frame": is_within_a_frame,
    "no key": sent(head_of("/stream", *UPGRADE[:2], method="GET")),
    "no path": sent(head_of("/nowhere", *UPGRADE, method="GET")),
    "half a head": sent(OPENING[:-2]),
    "nothing": sent(b""),
    "no body": sent(head_of("/predict", "Content-Length: 5")),
    "no chunks": sent(head_of("/predict", "Transfer-Encoding: chunked") + b"x\r\n"),
    **{name: sent(data) for name, data in IMPOSSIBLE.items()},
}


def stop(live: Live, reach: Callable[[Live], Awaitable[list[asyncio.StreamWriter]]]) -> None:
    async def run() -> None:
        await live.ready()
        writers = await reach(live)
        async with asyncio.timeout(LIMIT_S):
            await live.stop()
        assert not live.server.server_state.connections
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)

    live.run(run())


@pytest.mark.long
def test_a_stop_ends_well_whatever_its_connections_are_in(
    tiny_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def reach(live: Live) -> list[asyncio.StreamWriter]:
        writers = []
        for state in STATES.values():
            reader, writer = await connect(live)
            async with asyncio.timeout(LIMIT_S):
                await state(reader, writer)
            writers.append(writer)
        return writers

    with live_of(tiny_dir, Loader(), body_timeout_s=1.0) as live:
        stop(live, reach)
    assert [record.message for record in caplog.records if record.levelno > logging.WARNING] == []


def test_a_stream_that_is_opened_in_the_moment_of_a_stop_is_told_so(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = StreamProtocol.handle_connect

    def and_stop(self: StreamProtocol, event: Any) -> None:
        handle(self, event)
        self.shutdown()

    monkeypatch.setattr(StreamProtocol, "handle_connect", and_stop)

    async def run(live: Live) -> bytes:
        await live.ready()
        reader, writer = await connect(live)
        writer.write(OPENING)
        answer = await all_of(reader)
        writer.close()
        return answer

    with live_of(tiny_dir, Loader()) as live:
        head, _, frame = live.run(run(live)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frame == b"\x88\x02" + (1012).to_bytes(2)


def test_a_connection_that_cannot_stop_does_not_keep_the_others(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the reason: it is cut, and all others are told."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.api.protocols.native.stream.Stream.finish", fail)

    async def reach(live: Live) -> list[asyncio.StreamWriter]:
        held = [await connect(live) for _ in range(3)]
        for reader, writer in held:
            await is_open(reader, writer)
        return [writer for _, writer in held]

    with live_of(tiny_dir, Loader()) as live:
        stop(live, reach)
    assert "this is a bug" in caplog.text


# Streams at the limit of connections.


def test_idle_streams_of_one_caller_lock_nobody_out(tiny_dir: Path) -> None:
    """Behind a proxy, that is: the test has one address. They are told why they close."""
    proxied = [f"X-Forwarded-For: 1.1.1.{n}" for n in (1, 2)]

    async def opened(live: Live, line: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await connect(live)
        writer.write(head_of("/stream", *UPGRADE, line, method="GET"))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    async def run(live: Live) -> None:
        await live.ready()
        live.app.state.context.connections.limit = 6
        few = await opened(live, proxied[1])
        many = []
        for _ in range(5):
            many.append(await opened(live, proxied[0]))
            await asyncio.sleep(0.002)
        # A message, and the beginning of another: the first of them is not the idlest.
        many[0][1].write(frame_of({"sequence": rows(1.0)}))
        await many[0][0].readuntil(b"}")
        many[1][1].write(frame_of({"sequence": rows(1.0)})[:-3])
        await asyncio.sleep(0.01)
        reader, writer = await connect(live)
        writer.write(b"".join(request("/predict", BODY)))
        assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 200 ")
        kind, _, *code = (await all_of(many[1][0]))[:4]
        assert (kind, int.from_bytes(code)) == (0x88, 1013)
        for stream in (few, many[0], *many[2:]):
            stream[1].write(frame_of({"sequence": rows(1.0)}))
            assert await stream[0].readuntil(b"}")
        for _, opener in (few, *many, (reader, writer)):
            opener.close()
        await until(lambda: not live.server.server_state.connections)

    with live_of(tiny_dir, Loader(), trusted_proxies="127.0.0.1") as live:
        live.run(run(live))


@pytest.mark.parametrize("name", ["in chunks", "of HTTP/1.0", "no stream", "no key"])
def test_those_who_were_refused_and_stay_lock_nobody_out(tiny_dir: Path, name: str) -> None:
    """They are given two seconds to end, unless others need their connections."""
    refused = IMPOSSIBLE | {
        "no stream": head_of("/nowhere", *UPGRADE, method="GET"),
        "no key": head_of("/stream", *UPGRADE[:2], method="GET"),
    }

    async def run(live: Live) -> None:
        await live.ready()
        live.app.state.context.connections.limit = 3
        held = []
        for _ in range(5):
            reader, writer = await connect(live)
            writer.write(refused[name])
            assert b" 4" in await reader.readuntil(b"\r\n\r\n")
            held.append(writer)
        reader, writer = await connect(live)
        writer.write(b"".join(request("/predict", BODY)))
        assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 200 ")
        for caller in (writer, *held):
            caller.close()

    with live_of(tiny_dir, Loader()) as live:
        live.run(run(live))


def test_both_kinds_of_connections_have_one_clock(live: Live) -> None:
    async def run() -> None:
        reader, writer = await connect(live)
        await is_open(reader, writer)
        _, other = await connect(live)
        await until(lambda: len(live.server.server_state.connections) == 2)
        found: list[Any] = list(live.server.server_state.connections)
        now = time.monotonic()
        assert all(now - 5 < connection.waits_since <= now + 0.01 for connection in found)
        writer.close()
        other.close()

    live.run(run())
