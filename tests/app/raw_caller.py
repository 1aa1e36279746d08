"""`RawCaller`: a caller's side of a connection on a bare socket.

It lives on the service's event loop, as a test's own, and leaves no objects behind there:
asyncio's streams would, among those that a test counts.
"""

import asyncio
import socket
from typing import Any

from tests.app.live import Live

LIMIT_S = 20.0
END = b"\r\n\r\n"
# Of a caller who reads nothing: the rest of its answer waits in the service.
SMALL = 4096


class RawCaller:
    """One connection.

    Args:
        live: the service.
        reads: whether it means to read large answers.
    """

    def __init__(self, live: Live, reads: bool = True) -> None:
        self._live = live
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if not reads:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self._read = b""

    async def open(self) -> None:
        port = self._live.server.servers[0].sockets[0].getsockname()[1]
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def until_end_of(self, mark: bytes) -> bytes:
        """What comes up to a mark and with it."""
        async with asyncio.timeout(LIMIT_S):
            while mark not in self._read:
                await self._more()
        found, _, self._read = self._read.partition(mark)
        return found + mark

    async def bytes_of(self, size: int) -> bytes:
        """So many bytes."""
        async with asyncio.timeout(LIMIT_S):
            while len(self._read) < size:
                await self._more()
        found, self._read = self._read[:size], self._read[size:]
        return found

    async def _more(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 18)
        assert data, "the service closed the connection"
        self._read += data

    async def status(self) -> int:
        """Of an answer, which is read whole."""
        head = (await self.until_end_of(END)).lower()
        _, has_length, rest = head.partition(b"content-length: ")
        if has_length:
            await self.bytes_of(int(rest.split(b"\r\n")[0]))
        elif b"\r\ntransfer-encoding: chunked" in head:
            await self.until_end_of(b"\r\n0\r\n\r\n")
        return int(head.split()[1])

    @property
    def unread(self) -> int:
        """Bytes of the answer that the service has not been able to send."""
        name = self._socket.getsockname()
        found: list[Any] = list(self._live.server.server_state.connections)
        return sum(p.transport.get_write_buffer_size() for p in found if p.client == name)

    def close(self) -> None:
        self._socket.close()
