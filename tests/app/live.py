"""`Live`: an application on a real port, as `HTTPProtocol` serves it, and raw connections to it.

Server and callers share an event loop, so that a test can wait for what the server has read.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, Self, TypeVar

import uvicorn
import uvloop

from app.server.http_protocol import HTTPProtocol
from app.server.websocket_protocol import StreamProtocol
from tests.app.engine.running import until

T = TypeVar("T")

LIMIT_S = 20.0


class Answer(NamedTuple):
    """An answer, and its bytes but the date."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes


class Counting(HTTPProtocol):
    """Counts what it has read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


class Connection:
    """A caller's side of a connection.

    Attributes:
        protocol: the server's side.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: Counting
    ) -> None:
        self.reader, self.writer, self.protocol = reader, writer, protocol
        self._sent = 0

    async def send(self, *pieces: bytes) -> None:
        """Sends each piece after the one before it has been read."""
        for index, piece in enumerate(pieces):
            if index:
                await until(lambda: self.protocol.received == self._sent)
            self.writer.write(piece)
            self._sent += len(piece)

    async def head(self) -> tuple[bytes, dict[str, str]]:
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().strip().split("\r\n")[1:]
        return head, dict(line.lower().split(": ", 1) for line in lines)

    async def answer(self) -> Answer:
        head, headers = await self.head()
        async with asyncio.timeout(LIMIT_S):
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        headers.pop("date", None)
        raw = re.sub(rb"\r\ndate: [^\r]*", b"", head, count=1) + body
        return Answer(int(head.split()[1]), headers, body, raw)

    async def ask(self, *pieces: bytes) -> Answer:
        await self.send(*pieces)
        return await self.answer()

    async def end(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Live:
    """Serves while it is a context; the loop turns only within `run`.

    Args:
        app: has the context that `HTTPProtocol` needs.
        options: of uvicorn.

    Attributes:
        direct: paths of the requests that were answered directly.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app
        self.direct: list[str] = []
        for (_, path), endpoint in app.state.context.endpoints.items():
            self._count(path, endpoint)
        config = uvicorn.Config(
            app,
            port=0,
            http=Counting,
            ws=StreamProtocol,
            ws_per_message_deflate=False,
            ws_max_size=app.state.context.max_body_bytes,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            **{"timeout_graceful_shutdown": 5, **options},
        )
        self.server = uvicorn.Server(config)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._serving: asyncio.Task[None] | None = None
        self._connections: list[Connection] = []

    def _count(self, path: str, endpoint: Any) -> None:
        begin = endpoint.begin

        def counted(*given: Any) -> None:
            self.direct.append(path)
            begin(*given)

        endpoint.begin = counted

    def __enter__(self) -> Self:
        self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop())
        self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    async def _start(self) -> None:
        self._serving = asyncio.create_task(self.server.serve())
        await until(lambda: self.server.started)

    async def _stop(self) -> None:
        for connection in self._connections:
            await connection.close()
        await self.stop()

    async def stop(self) -> None:
        """As SIGTERM does, and waits for the end."""
        assert self._serving is not None
        self.server.should_exit = True
        await self._serving

    async def connect(self) -> Connection:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        name = writer.get_extra_info("sockname")
        open_ = self.server.server_state.connections

        def own() -> list[Counting]:
            return [p for p in open_ if isinstance(p, Counting) and p.client == name]

        await until(lambda: bool(own()))
        (protocol,) = own()
        connection = Connection(reader, writer, protocol)
        self._connections.append(connection)
        return connection

    async def leave(self, connection: Connection) -> None:
        """Closes a connection and forgets it."""
        self._connections.remove(connection)
        await connection.close()
        del connection.protocol

    async def ready(self) -> None:
        registry = self.app.state.context.registry
        await until(lambda: registry.ready)

    def talk(self, body: Callable[[Connection], Awaitable[T]]) -> T:
        """What `body` returns for a new connection."""

        async def run() -> T:
            async with asyncio.timeout(2 * LIMIT_S):
                return await body(await self.connect())

        return self.run(run())


def head_of(path: str, *lines: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request up to its body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *lines, "", ""]).encode()


def request(path: str, body: bytes, *lines: str, version: str = "1.1") -> tuple[bytes, bytes]:
    """Head and body of a request."""
    return head_of(path, f"Content-Length: {len(body)}", *lines, version=version), body


def chunked(path: str, *parts: bytes) -> tuple[bytes, bytes]:
    """Head and body of a request without a length."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return head_of(path, "Transfer-Encoding: chunked"), body + b"0\r\n\r\n"
