"""`OrderlyTransport`: a connection whose `close` loses nothing that its caller was sent.

A socket that is closed while bytes wait unread in it, or that gets some afterwards, resets the
connection, and a reset can take the last answer away from a caller who has not read it yet (RFC
9112, section 9.6). So this one says first that nothing more comes, reads what still does, and
closes when its caller has.
"""

import logging
import math
import socket
import sys
from asyncio import AbstractEventLoop, BaseProtocol, Protocol, TimerHandle, Transport
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from termios import FIONREAD
from typing import Any

logger = logging.getLogger(__name__)

# Seconds that a caller has to close its side once it has been sent everything.
LINGER_S = 2.0
# Bytes that the kernel takes beyond those that its caller has room for. By itself it takes some
# megabytes, and so much would be computed for a caller who reads nothing.
UNSENT_BYTES = 128 << 10
# Bytes that are read meanwhile. Who sends more does not mean to end.
LINGER_BYTES = 16 << 20


class OrderlyTransport(Transport):
    """See the module.

    Args:
        transport: of the event loop.
        loop: the event loop.
        timeout_s: seconds without a byte read after which a caller is let go of, once it closes.

    Attributes:
        closes_since: when it was closed, on the event loop's clock; infinite before.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop, timeout_s: float) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._timeout_s = timeout_s
        self._is_closing = False
        self.closes_since = math.inf
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        # Each is the transport's own, so that an answer costs no call more. Two of them change once
        # this one closes.
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.write = transport.write  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.set_protocol = transport.set_protocol  # type: ignore[method-assign]
        self.get_protocol = transport.get_protocol  # type: ignore[method-assign]
        self.abort = transport.abort  # type: ignore[method-assign]

    @property
    def unread_bytes(self) -> int:
        """Bytes that the kernel has for this connection and that nobody has read yet."""
        if self._transport.is_closing():
            return 0
        number = self._transport.get_extra_info("socket").fileno()
        return int.from_bytes(ioctl(number, FIONREAD, bytes(4)), sys.byteorder)

    def close(self) -> None:
        """Sends what was written and the end, reads the rest, then closes."""
        if self._is_closing:
            return
        self._is_closing = True
        self.is_closing = _yes  # type: ignore[method-assign]
        self.write = _ignore  # type: ignore[method-assign]
        if self._transport.is_closing():
            return
        rest = _Rest(self._transport, self._loop, self._timeout_s)
        self.closes_since = rest.began_at
        self._transport.set_protocol(rest)
        self._transport.resume_reading()
        self._transport.write_eof()

    def close_at_once(self) -> None:
        """Sends what was written, and closes without waiting for the caller's side."""
        self._transport.close()
        self._loop.call_later(LINGER_S, self._transport.abort)


@contextmanager
def or_cut(transport: Transport) -> Iterator[None]:
    """While a connection is told to end: if that fails, it is cut, and others are told theirs."""
    try:
        yield
    except Exception:
        logger.exception("this is a bug: a connection could not be told to end")
        transport.abort()


class _Rest(Protocol):
    """Reads what comes behind the last request of a connection.

    Args:
        transport: of the event loop.
        loop: the event loop.
        timeout_s: seconds without a byte read after which its caller is let go of.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop, timeout_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout_s = timeout_s
        # What the connection was before; it waits for the end.
        self._owner: Any = transport.get_protocol()
        self._read_bytes = 0
        # Bytes that the caller had not read at the last look, and since when.
        self._unsent, self._unsent_since = transport.get_write_buffer_size(), loop.time()
        self.began_at = self._unsent_since
        self._timer: TimerHandle = loop.call_later(LINGER_S, self._is_late)

    # The end of what is read closes the transport: as `Protocol` has it.

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._read_bytes += len(data)
        if self._read_bytes > LINGER_BYTES:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Called by the event loop."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        self._owner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._timer.cancel()
        owner, self._owner = self._owner, BaseProtocol()
        owner.connection_lost(exc)

    def _is_late(self) -> None:
        unsent, now = self._transport.get_write_buffer_size(), self._loop.time()
        if not unsent:
            self._transport.close()
            return
        if unsent < self._unsent:
            # The caller reads, if slowly.
            self._unsent, self._unsent_since = unsent, now
        late_s = self._unsent_since + self._timeout_s - now
        if late_s <= 0:
            # `close` would wait until the caller has read all.
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(min(LINGER_S, late_s), self._is_late)


def _yes() -> bool:
    """Whether what closes is closing."""
    return True


def _ignore(data: object) -> None:
    """What is written to a connection that closes."""
