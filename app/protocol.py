"""`OneWriteProtocol`: uvicorn's HTTP protocol, with each answer's head and body in one write.

uvicorn writes them one after the other. That is two system calls and two packets, and wakes the
caller twice, which costs the event loop about as much as printing the answer's numbers.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = b"HTTP/1.1 "
# Not the head of an answer: the caller waits for it before it sends the body.
LEAVE_TO_SEND = b"HTTP/1.1 100 "


class OneWriteTransport:
    """A transport that keeps the head of an answer until the first write of its body.

    Args:
        transport: everything else is done by it.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Writes, or keeps a head until the body follows or the answer is complete."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(HEAD) and not data.startswith(LEAVE_TO_SEND):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Writes what is kept: an answer to HEAD has no body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Writes what is kept and closes."""
        self.flush()
        self._transport.close()


class OneWriteProtocol(HttpToolsProtocol):
    """See the module."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        self._one_write = OneWriteTransport(transport)
        self.transport = self._one_write  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """Called after the last message of an answer."""
        self._one_write.flush()
        super().on_response_complete()
