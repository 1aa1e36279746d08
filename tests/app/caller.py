"""`Caller`: one request to an application, message by message (ASGI)."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message


class Caller:
    """One request: its messages are put into a queue, its answer is collected.

    Attributes:
        read: how many messages the application has asked for and got.
    """

    def __init__(
        self, app: ASGIApp, headers: dict[str, str] | None = None, path: str = "/predict"
    ) -> None:
        self._app = app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: list[Message] = []
        self.read = 0
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        }

    def send(self, part: bytes, more: bool = True) -> None:
        self._messages.put_nowait({"type": "http.request", "body": part, "more_body": more})

    def hang_up(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of an answer that is JSON."""
        status, headers, body = await self.raw_answer()
        return status, headers, json.loads(body)

    async def raw_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        await self._app(self._scope, self.receive, self._send)
        start, *parts = self._sent
        assert start["type"] == "http.response.start"
        headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
        return start["status"], headers, b"".join(part["body"] for part in parts)

    async def receive(self) -> Message:
        message = await self._messages.get()
        self.read += 1
        return message

    async def _send(self, message: Message) -> None:
        self._sent.append(message)
