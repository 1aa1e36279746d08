"""`Connection`: a caller who can tell an answer from a lost one, and that from a reset."""

import asyncio
import json
import random
import re
import socket
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

TIMEOUT_S = 70.0


class Lost(Exception):
    """A request was sent, and its connection ended without an answer."""


class Reset(Lost):
    """It was reset."""


class Answer(NamedTuple):
    """An answer; `last` if it says that its connection closes."""

    status: int
    last: bool
    body: bytes


@dataclass
class Connection:
    """One connection, requests one after the other.

    Attributes:
        is_told: whether an answer has said that it closes.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_told: bool = False

    @classmethod
    async def open(cls, port: int) -> Self:
        """Raises `OSError` if it is refused."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    @property
    def is_ended(self) -> bool:
        """Whether it takes no further request, as an answer or its end has told."""
        return self.is_told or self.reader.at_eof() or self.reader.exception() is not None

    async def ask(self, data: bytes) -> Answer:
        """Sends a request and returns its answer; raises `Lost`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self.writer.write(data)
                return await self._answer()
        except ConnectionError as error:
            self.is_told = True
            raise Reset from error
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            self.is_told = True
            raise Lost from error

    async def _answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        size = re.search(rb"content-length: (\d+)", head)
        body = await self.reader.readexactly(int(size[1])) if size else b""
        self.is_told = b"\r\nconnection: close\r\n" in head
        return Answer(int(head[9:12]), self.is_told, body)

    def close(self) -> None:
        """Hangs up."""
        self.writer.close()


def request_of(body: dict[str, Any], path: str = "/predict") -> bytes:
    """A request as it is sent."""
    text = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (
        path.encode(),
        len(text),
        text,
    )


async def body_of(port: int, steps: int = 5) -> dict[str, Any]:
    """A body that the model of a service takes, of random rows."""
    connection = await Connection.open(port)
    answer = await connection.ask(b"GET /models HTTP/1.1\r\nhost: x\r\n\r\n")
    connection.close()
    features = len(json.loads(answer.body)["models"][0]["features"])
    rows = [[round(random.random(), 3) for _ in range(features)] for _ in range(steps)]
    return {"sequences": [rows], "outputs": "last", "states": "none"}


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
