"""`ConnectionLoop`: an event loop whose connections come from the parent, or from a listener.

A worker among others takes them from the parent (`Receiver`), one that is alone from the kernel
(`Acceptor`). Both give each connection to a protocol that uvicorn makes, and take all that wait
before they close.
"""

import asyncio
import ctypes
import logging
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from app.stats.shared_stats import WorkerStats

logger = logging.getLogger(__name__)

# The largest number of a process on Linux.
MAX_PID = 1 << 22
# Connections that are accepted at once: each needs a turn of the event loop until it counts.
MAX_AT_ONCE = 16
# Seconds until the next attempt to accept after one that failed.
RETRY_S = 0.02

# States of a TCP connection whose caller has closed or reset it, as Linux numbers them: TCP_CLOSE,
# TCP_CLOSE_WAIT.
LEFT = {7, 8}

# Linux's option of a socket that has a filter drop what comes for it, and a filter of one
# instruction, "return 0", which drops all of it (linux/filter.h: struct sock_filter, sock_fprog).
SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)

MakeProtocol = Callable[[], asyncio.Protocol]


def accept(listener: socket.socket) -> socket.socket | None:
    """A connection that waits; None if none does.

    Raises:
        OSError: there are too many open files, perhaps; it is logged, and the caller waits in the
            kernel's queue.
    """
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None
    except OSError as error:
        logger.error("cannot accept: %s", error)
        raise


def begin_no_more(listener: socket.socket) -> None:
    """Has the kernel begin no more connections; those that wait can still be accepted.

    One that began between the last that was accepted and the close would be reset with its request.
    So its caller is not answered, tries again in a second, and is refused before it sends any.
    """
    code = ctypes.create_string_buffer(DROP_ALL)
    program = struct.pack("@HP", 1, ctypes.addressof(code))
    # Not all that is called Linux has filters.
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def has_left(connection: socket.socket) -> bool:
    """Whether the caller has hung up already.

    Under overload most have that have waited to be accepted. What such a connection would cost is
    then taken from the callers who are still there, until none is answered in time.
    """
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in LEFT


class Connections(ABC):
    """A server as asyncio has it.

    Args:
        loop: to serve on.
        protocol_factory: makes a connection's protocol, which counts when it is closed.
        stats: of the worker.
    """

    def __init__(
        self, loop: uvloop.Loop, protocol_factory: MakeProtocol, stats: WorkerStats
    ) -> None:
        self._loop = loop
        self._factory = protocol_factory
        self._stats = stats
        # The loop itself does not keep tasks alive.
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def close(self) -> None:
        """Takes what waits already, and no more."""

    async def wait_closed(self) -> None:  # noqa: B027  # as asyncio's servers have it
        """There is nothing to wait for."""

    def _begin(self, connection: socket.socket) -> None:
        if has_left(connection):
            connection.close()
            self._stats.count_closed()
            return
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._factory, connection)
        except Exception:
            # Whatever failed, it costs this connection only.
            logger.exception("a connection is lost")
            connection.close()
            self._stats.count_closed()


class Receiver(Connections):
    """Takes what the parent dispatches.

    Args:
        path: of its socket.
        others: as `Connections`.
    """

    def __init__(self, path: Path, *others: Any) -> None:
        super().__init__(*others)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._loop.add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Takes what has been dispatched already, and no more."""
        if self._path.exists():
            self._path.unlink()
            self._receive()
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _receive(self) -> None:
        while True:
            try:
                _, numbers, *_ = socket.recv_fds(self._socket, 1, 1)
            except BlockingIOError:
                return
            self._stats.count_taken()
            if numbers:
                self._begin(socket.socket(fileno=numbers[0]))
            else:
                # The kernel has closed the connection.
                logger.error("a connection is lost: this process has too many open files")
                self._stats.count_closed()


class Acceptor(Connections):
    """Takes what the kernel has.

    Args:
        listener: bound.
        backlog: of connections that the kernel keeps.
        waits: whether nobody is accepted before the model is ready: another process does that.
        others: as `Connections`.
    """

    def __init__(self, listener: socket.socket, backlog: int, waits: bool, *others: Any) -> None:
        super().__init__(*others)
        listener.listen(backlog)
        listener.setblocking(False)
        self._listener = listener
        self._waits = waits
        self._is_closed = False
        self._open()

    def close(self) -> None:
        """Takes whoever waits in the kernel's queue, and nobody else."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        # They would be reset. Not so where another process has the queue, too.
        if not self._waits:
            begin_no_more(self._listener)
            while self._accept():
                pass
        self._listener.close()

    def _open(self) -> None:
        if self._is_closed:
            return
        if self._waits and not self._stats.shared.ready:
            self._loop.call_later(RETRY_S, self._open)
        else:
            self._loop.add_reader(self._listener, self._accept_some)

    def _accept_some(self) -> None:
        for _ in range(MAX_AT_ONCE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Accepts a connection; returns whether there was one."""
        try:
            connection = accept(self._listener)
        except OSError:
            self._loop.remove_reader(self._listener)
            self._loop.call_later(RETRY_S, self._open)
            return False
        if connection is not None:
            self._begin(connection)
        return connection is not None


class ConnectionLoop(uvloop.Loop):
    """See the module.

    Args:
        make: the server of a listener and a protocol factory.
    """

    def __init__(
        self, make: Callable[["ConnectionLoop", socket.socket, MakeProtocol], Connections]
    ) -> None:
        super().__init__()
        self._make = make

    # asyncio has more arguments; uvicorn gives these.
    async def create_server(  # type: ignore[override]
        self, protocol_factory: MakeProtocol, *_: Any, sock: socket.socket, **__: Any
    ) -> Connections:
        """Serves what comes."""
        return self._make(self, sock, protocol_factory)


def socket_path(home: Path, pid: int) -> Path:
    """The socket of a worker.

    Args:
        home: the folder that the workers share.
        pid: its process.
    """
    return home / f"{pid}.sock"


def receive(
    loop: ConnectionLoop,
    listener: socket.socket,
    protocol_factory: MakeProtocol,
    home: Path,
    stats: WorkerStats,
) -> Receiver:
    """Makes the server of a worker among others."""
    # The parent's: as long as a worker had it open, too, it would never close.
    listener.close()
    return Receiver(socket_path(home, os.getpid()), loop, protocol_factory, stats)
