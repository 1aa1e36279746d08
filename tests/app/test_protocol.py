"""HTTP on a true connection: each answer is one write, and none is kept back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.protocol import OneWriteProtocol, OneWriteTransport

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def plain(_: Request) -> Response:
    return Response("hello")


async def empty(request: Request) -> Response:
    return Response(status_code=int(request.path_params["status"]))


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def parts(_: Request) -> Response:
    async def made() -> AsyncIterator[bytes]:
        for part in (b"HTTP/1.1 is", b" what", b"HTTP/1.1 was"):
            yield part
            await asyncio.sleep(0)

    return StreamingResponse(made())


APP = Starlette(
    routes=[
        Route("/plain", plain),
        Route("/empty/{status}", empty),
        Route("/echo", echo, methods=["POST"]),
        Route("/parts", parts),
    ]
)


@asynccontextmanager
async def connection() -> AsyncIterator[Streams]:
    config = uvicorn.Config(
        APP, port=0, http=OneWriteProtocol, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.001)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()
    finally:
        server.should_exit = True
        await serving


def talk(body: Callable[[Streams], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), connection() as streams:
            await body(streams)

    asyncio.run(run())


def ask(writer: asyncio.StreamWriter, method: str, path: str, *lines: str, body: str = "") -> None:
    head = [f"{method} {path} HTTP/1.1", "Host: test", *lines]
    writer.write("\r\n".join([*head, "", body]).encode())


async def head_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    async with asyncio.timeout(2):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, headers = await head_of(reader)
    return status, await reader.readexactly(int(headers.get("content-length", 0)))


def test_head_is_answered_by_a_head_alone_and_at_once() -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        for path, length in (("/plain", "5"), ("/nowhere", "9")):
            ask(writer, "HEAD", path)
            _, headers = await head_of(reader)
            assert headers["content-length"] == length
        # Nothing of it is left for the next answer.
        ask(writer, "GET", "/plain")
        assert await answer_of(reader) == (200, b"hello")

    talk(body)


@pytest.mark.parametrize("status", [200, 204, 304])
def test_an_answer_without_a_body_is_not_kept_back(status: int) -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        for _ in range(2):
            ask(writer, "GET", f"/empty/{status}")
            assert await answer_of(reader) == (status, b"")

    talk(body)


def test_answers_follow_each_other_on_a_connection() -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        for i in range(5):
            ask(writer, "POST", "/echo", f"Content-Length: {i}", body="x" * i)
            assert await answer_of(reader) == (200, b"x" * i)

    talk(body)


def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        for i in range(5):
            ask(writer, "POST", "/echo", "Content-Length: 1", body=str(i))
        for i in range(5):
            assert await answer_of(reader) == (200, str(i).encode())

    talk(body)


def test_who_asks_for_leave_to_send_gets_it_before_the_body() -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        ask(writer, "POST", "/echo", "Content-Length: 2", "Expect: 100-continue")
        assert await head_of(reader) == (100, {})
        writer.write(b"ok")
        assert await answer_of(reader) == (200, b"ok")

    talk(body)


def test_an_answer_in_parts_arrives_whole_whatever_the_parts_look_like() -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        ask(writer, "GET", "/parts", "Connection: close")
        status, headers = await head_of(reader)
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        rest = await reader.read()
        assert rest == b"b\r\nHTTP/1.1 is\r\n5\r\n what\r\nc\r\nHTTP/1.1 was\r\n0\r\n\r\n"

    talk(body)


def test_what_is_no_request_is_refused_and_the_connection_closed() -> None:
    async def body(streams: Streams) -> None:
        reader, writer = streams
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    talk(body)


class Recorder:
    """A transport that remembers what is done with it."""

    def __init__(self) -> None:
        self.done: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append(b"close")


def test_a_head_and_its_body_are_one_write() -> None:
    recorder = Recorder()
    transport = OneWriteTransport(recorder)  # type: ignore[arg-type]
    for part in (b"HTTP/1.1 200 OK\r\n\r\n", b"body", b"more", b"HTTP/1.1 204 \r\n\r\n", b""):
        transport.write(part)
    assert recorder.done == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"more", b"HTTP/1.1 204 \r\n\r\n"]


def test_closing_keeps_nothing_back() -> None:
    recorder = Recorder()
    transport = OneWriteTransport(recorder)  # type: ignore[arg-type]
    transport.write(b"HTTP/1.1 400 \r\n\r\n")
    transport.close()
    assert recorder.done == [b"HTTP/1.1 400 \r\n\r\n", b"close"]
