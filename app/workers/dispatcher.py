"""Deals connections out to the workers evenly, each to one that has fewest.

Workers that shared a listening socket would take what they are quick enough to take: one may have
three times as many callers as another, and a few callers may all meet at the same one. So the
parent accepts (`Dealer`) and hands the connection itself to a worker (`WorkerLoop`), by a datagram
over a Unix socket that is named after the worker's process.
"""

import array
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from app.stats.shared_stats import Board, Living

logger = logging.getLogger(__name__)

# Seconds between two attempts while no worker takes connections, at the start for example.
RETRY_S = 0.02
# Connections that come within so many seconds are spread evenly, whatever workers have besides: a
# busy worker sees late that some of its own have been closed.
BURST_S = 0.2
# The kernel keeps few datagrams in line. A worker that computes takes them after so many seconds at
# most; one that does not hangs, and the next gets the connection. It is not waited for again.
PATIENCE_S = 0.1
# Seconds that who came last, when the service stops, has to send its request.
LAST_S = 0.5
# Bytes of a Unix socket's path: Linux has 108, and ends it with a zero.
MAX_PATH_BYTES = 107
# The largest number of a process.
MAX_PID = 1 << 22


class Dealer(threading.Thread):
    """Accepts connections until it is stopped.

    Args:
        listener: bound.
        backlog: of connections that the kernel keeps.
        home: folder of the workers' sockets.
        board: says who lives, who is ready, and how many connections have been closed.
    """

    def __init__(self, listener: socket.socket, backlog: int, home: Path, board: Board) -> None:
        super().__init__(name="dealer", daemon=True)
        listener.listen(backlog)
        self._listener = listener
        self._home = home
        self._board = board
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._dealt: Counter[int] = Counter()  # connections of each process
        self._burst: Counter[int] = Counter()  # those of this burst
        self._ready: set[int] = set()  # who shared it
        self._silent: set[int] = set()  # who did not take one, and has taken none since
        self._since = 0.0
        self._stopping = False

    def run(self) -> None:
        """Called in the thread."""
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    # Too many open files, perhaps: the caller waits in the kernel's line.
                    logger.error("cannot accept: %s", error)
                    time.sleep(RETRY_S)
                continue
            with connection:
                while not (self._deal(connection) or self._stopping):
                    time.sleep(RETRY_S)

    def stop(self) -> None:
        """Accepts no more; new callers are refused from now on."""
        self._stopping = True
        # Wakes the thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _deal(self, connection: socket.socket) -> bool:
        """Hands a connection over; whether a worker took it."""
        living = self._board.living()
        self._dealt = Counter({worker.pid: self._dealt[worker.pid] for worker in living})
        self._silent &= self._dealt.keys()
        self._begin_burst({worker.pid for worker in living if worker.ready})

        def load(worker: Living) -> tuple[bool, int, int]:
            held = self._dealt[worker.pid] - worker.closed
            return not worker.ready, self._burst[worker.pid], held

        by_load = sorted(living, key=load)
        return any(self._hand_over(connection, worker.pid) for worker in by_load)

    def _begin_burst(self, ready: set[int]) -> None:
        """Begins another burst if it is time.

        However dense connections are, a burst ends: a newcomer would get all of them until it had
        as many as the others ever had.
        """
        now = time.monotonic()
        if now > self._since + BURST_S or ready != self._ready:
            self._since, self._ready = now, ready
            self._burst.clear()

    def _hand_over(self, connection: socket.socket, pid: int) -> bool:
        rights = array.array("i", [connection.fileno()])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        # Others' connections would wait each time.
        self._sender.settimeout(0.0 if pid in self._silent else PATIENCE_S)
        try:
            # Connected: else the kernel says at once that there is room, and the wait is a loop.
            self._sender.connect(str(_path(self._home, pid)))
            self._sender.sendmsg([b"c"], ancillary)
        except (TimeoutError, BlockingIOError):
            # It hangs.
            self._silent.add(pid)
            return False
        except OSError:
            # It has not begun, or has ended.
            return False
        self._silent.discard(pid)
        self._dealt[pid] += 1
        self._burst[pid] += 1
        return True


class WorkerLoop(uvloop.Loop):
    """An event loop whose servers take their connections from the dealer.

    Args:
        home: folder of the workers' sockets.
        pid: of this process.
    """

    def __init__(self, home: Path, pid: int) -> None:
        super().__init__()
        self._path = _path(home, pid)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], *_: Any, **__: Any
    ) -> "Receiver":
        """Serves what is dealt; the listening socket is the dealer's."""
        return Receiver(self, protocol_factory, self._path)


class Receiver:
    """A server as asyncio has it. Its connections come from the dealer.

    Args:
        loop: to serve on.
        protocol_factory: makes a connection's protocol.
        path: of its socket.
    """

    def __init__(self, loop: uvloop.Loop, protocol_factory: Callable[[], Any], path: Path) -> None:
        self._loop = loop
        self._factory = protocol_factory
        self._path = path
        self._closing = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        loop.add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Takes no more than what has been dealt already."""
        if self._path.exists():
            self._path.unlink()
            self._closing = True
            self._receive()
            self._loop.remove_reader(self._socket)
            self._socket.close()

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""

    def _receive(self) -> None:
        while True:
            try:
                _, numbers, *_ = socket.recv_fds(self._socket, 1, 1)
            except BlockingIOError:
                return
            if numbers:
                self._loop.create_task(self._serve(socket.socket(fileno=numbers[0])))
            else:
                logger.error("a connection is lost: this process has too many open files")

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _, protocol = await self._loop.connect_accepted_socket(self._factory, connection)
        if self._closing:
            # uvicorn has told the others already.
            self._loop.call_later(LAST_S, protocol.shutdown)


class WorkerConfig(uvicorn.Config):
    """uvicorn's configuration with the workers' event loop.

    Args:
        home: folder of the workers' sockets.
    """

    def __init__(self, *args: Any, home: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.home = home

    def get_loop_factory(self) -> Callable[[], Any]:
        """Called in the worker. One that is alone accepts by itself."""
        if self.workers == 1:
            return super().get_loop_factory()  # type: ignore[return-value]
        return partial(WorkerLoop, self.home, os.getpid())


def bytes_too_long(home: Path) -> int:
    """By how much the path of a folder is too long to hold the workers' sockets; 0 if it is not."""
    return max(0, len(os.fsencode(_path(home, MAX_PID))) - MAX_PATH_BYTES)


def _path(home: Path, pid: int) -> Path:
    return home / f"{pid}.sock"
