"""A server that reads requests and does nothing: what attackers cost who share the cores with it.

python -m benchmarks.robustness.sink PORT
"""

import asyncio
import re
import sys

import uvloop

LENGTH = re.compile(rb"content-length: (\d+)")
ANSWER = b"HTTP/1.1 422 x\r\ncontent-length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """Answers whoever has sent as many bytes as it said; who says nothing, each head."""

    def __init__(self) -> None:
        self._left = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._left:
            self._left -= len(data)
        elif found := LENGTH.search(data, 0, 200):
            self._left = int(found[1]) + data.find(b"\r\n\r\n") + 4 - len(data)
        elif not data.endswith(b"\r\n\r\n"):
            return
        if self._left <= 0 and self._transport is not None:
            self._left = 0
            self._transport.write(ANSWER)


async def main() -> None:
    """The command."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
