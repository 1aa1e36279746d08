"""Callers' mistakes are counted, not logged: nobody can fill the log, or put secrets into it."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import is_idle, until
from tests.app.live import Live, chunked, head_of, request
from tests.app.running_service import Loader

LIMIT = 50_000
OVERFLOW = 777.0
ROWS = {"sequences": [[[1.0, None, None, 0.0]]]}
BODY = json.dumps(ROWS).encode()
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
RESET = struct.pack("ii", 1, 0)

MISTAKES: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
    "no method": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that is no path": b"GET \xff\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": head_of("/predict", "Content-Length: 3", "Content-Length: 4") + b"abcd",
    "a chunk without a size": head_of("/predict", "Transfer-Encoding: chunked") + b"xyz\r\n",
    "a long head": head_of("/predict", "X: " + "x" * (70 << 10)),
    "many lines": head_of("/predict", *["X: 1"] * 200),
    "another protocol": head_of("/predict", "Upgrade: h2c", "Connection: Upgrade", method="GET"),
    "garbage behind a request": b"".join(request("/predict", BODY)) + b"garbage\r\n\r\n",
    "an upgrade behind a request": b"".join(request("/predict", BODY))
    + head_of("/predict", "Upgrade: h2c", "Connection: Upgrade", method="GET"),
    "no JSON": b"".join(request("/predict", b"{")),
    "no JSON in chunks": b"".join(chunked("/predict", b"{", b"[")),
    "no number": b"".join(request("/predict", BODY.replace(b"1.0", b'"x"'))),
    "an overflow": b"".join(request("/predict", BODY.replace(b"1.0", b"777.0"))),
    "too large": b"".join(request("/predict", b" " * (LIMIT + 1))),
    "no such path": head_of("/nothing?token=secret", method="GET"),
    "no such method": head_of("/predict", method="PATCH"),
    "no such session": head_of("/sessions/a", method="GET"),
    "no stream": head_of("/stream?token=secret", method="GET"),
    "a stream elsewhere": head_of("/no?token=secret", *UPGRADE, KEY, method="GET"),
    "a stream without a key": head_of("/stream?token=secret", *UPGRADE, method="GET"),
    "a stream of another version": head_of(
        "/stream?token=secret", *UPGRADE[:2], "Sec-WebSocket-Version: 7", KEY, method="GET"
    ),
    "a stream by POST": head_of("/stream?token=secret", *UPGRADE, KEY),
}
# What follows the opening of a stream.
FRAMES: dict[str, bytes] = {
    "no mask": b"\x81\x02{}",
    "no kind of frame": b"\x8f\x80\0\0\0\0",
    "no UTF-8": b"\x81\x81\0\0\0\0\xff",
    "no UTF-8 in two fragments": b"\x01\x81\0\0\0\0\xff\x80\x81\0\0\0\0\xff",
    "too large": b"\x81\xff" + (1 << 30).to_bytes(8) + bytes(4),
    "a second beginning": b"\x01\x81\0\0\0\0a\x01\x81\0\0\0\0a",
    "a long ping": b"\x89\xfe\x01\x00" + bytes(4) + bytes(256),
    "no JSON": b"\x81\x81\0\0\0\0{",
    "a close without a reason": b"\x88\x81\0\0\0\0\x03",
}


@pytest.fixture(scope="module")
def live(tiny_dir: Path) -> Iterator[Live]:
    with live_of(tiny_dir, Loader(overflow=OVERFLOW), max_body_bytes=LIMIT) as live:
        live.run(live.ready())
        yield live


@pytest.fixture(autouse=True)
def quiet(live: Live, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged while a test runs."""
    with caplog.at_level(logging.INFO):
        yield
        live.run(asyncio.sleep(0.01))
    logged = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in logged] == []


async def send_and_go(live: Live, *pieces: bytes, reset: bool) -> None:
    """Sends, reads what comes for a moment, and goes."""
    port = live.server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        if not reset:
            await asyncio.sleep(0.01)
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    else:
        writer.close()
    context = live.app.state.context
    await until(lambda: not live.server.server_state.connections)
    await until(lambda: is_idle(context.registry.engine))


@pytest.mark.parametrize("reset", [False, True], ids=["answered", "reset"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_not_logged(live: Live, mistake: str, reset: bool) -> None:
    live.run(send_and_go(live, MISTAKES[mistake], reset=reset))


@pytest.mark.parametrize("together", [False, True], ids=["later", "with the head"])
@pytest.mark.parametrize("mistake", FRAMES)
def test_a_mistake_on_a_stream_is_not_logged(live: Live, mistake: str, together: bool) -> None:
    head, frames = head_of("/stream?token=secret", *UPGRADE, KEY, method="GET"), FRAMES[mistake]
    pieces = (head + frames,) if together else (head, frames)
    live.run(send_and_go(live, *pieces, reset=False))


@pytest.mark.parametrize("after", [b"", b"\x81\x81\0\0\0\0{" * 50])
def test_who_opens_a_stream_and_goes_is_not_logged(live: Live, after: bytes) -> None:
    head = head_of("/stream?token=secret", *UPGRADE, KEY, method="GET")
    for pieces in ((head + after,), (head, after)):
        live.run(send_and_go(live, *pieces, reset=True))


@pytest.mark.parametrize("lines", [(), ("Accept: application/x-ndjson",)])
@pytest.mark.parametrize("count", [1, 500])
def test_who_goes_before_the_answer_is_not_logged(
    live: Live, lines: tuple[str, ...], count: int
) -> None:
    rows: list[list[Any]] = ROWS["sequences"][0] * count
    body = json.dumps({"sequences": [rows]}).encode()
    head, body = request("/predict", body, *lines)
    for pieces in ((head + body,), (head, body), (head, body[:5])):
        live.run(send_and_go(live, *pieces, reset=True))
