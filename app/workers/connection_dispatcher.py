"""`Dispatcher`: gives each connection to the worker that has fewest.

The parent accepts (`Dispatcher`) and hands the connection itself to a worker (`WorkerLoop`), by a
datagram over a Unix socket that is named after the worker's process.

What that gives over workers that accept by themselves, measured with two workers on two cores that
others used too (medians of 19 interleaved rounds, 64 clients, `fixed` and `mixed`):

| instead | requests/s | p99 | most connections of a worker, of 64 | of 200 streams |
|---|---|---|---|---|
| one listening socket for all | 0.96 to 1.04 | 1.17 to 1.21 | 63 | 147 |
| `SO_REUSEPORT` | 1.02 to 1.05 | 1.02 to 1.06 | 40 | 113 |

So it is even, 32 and 100 each, and costs no throughput. Streams and the connections of proxies stay
where they are for hours. A worker that still loads gets no connection while another is ready; in
either other way it does. A shared socket alone leaves a worker that hangs without connections: here
it gets as many as the kernel queues, with `SO_REUSEPORT` every second one until it is replaced.
"""

import array
import asyncio
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

from app.stats.shared_stats import LivingWorker, SharedStats

logger = logging.getLogger(__name__)

# Seconds between two attempts while no worker takes connections, at the start for example.
RETRY_S = 0.02
# Connections that come within so many seconds are spread evenly, whatever workers have besides: a
# busy worker sees late that some of its connections have been closed.
BURST_S = 0.2
# The kernel queues few datagrams. A worker that computes takes them after so many seconds at most.
# One that does not hangs: the next worker gets the connection, and the dispatcher waits for the one
# that hangs no more.
HANDOVER_TIMEOUT_S = 0.1
# Seconds that the callers who come last, when the service stops, have to send their requests.
LAST_REQUEST_S = 0.5
# Bytes of a Unix socket's path: Linux has 108, and the last one is zero.
MAX_PATH_BYTES = 107
# The largest number of a process on Linux.
MAX_PID = 1 << 22


class Dispatcher(threading.Thread):
    """Accepts connections until it is stopped.

    Args:
        listener: bound.
        backlog: of connections that the kernel keeps.
        home: folder of the workers' sockets.
        stats: say which workers live and are ready, and how many connections each has closed.
    """

    def __init__(
        self, listener: socket.socket, backlog: int, home: Path, stats: SharedStats
    ) -> None:
        super().__init__(name="dispatcher", daemon=True)
        listener.listen(backlog)
        self._listener = listener
        self._home = home
        self._stats = stats
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Connections that each process was given, and those of this burst.
        self._given: Counter[int] = Counter()
        self._burst: Counter[int] = Counter()
        self._burst_began = 0.0
        self._ready: set[int] = set()  # processes that share the burst
        self._hanging: set[int] = set()  # processes that did not take the last connection
        self._stopping = False

    def run(self) -> None:
        """Called in the thread."""
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    # Too many open files, perhaps: the caller waits in the kernel's queue.
                    logger.error("cannot accept: %s", error)
                    time.sleep(RETRY_S)
                continue
            with connection:
                while not (self._dispatch(connection) or self._stopping):
                    time.sleep(RETRY_S)

    def stop(self) -> None:
        """Accepts no more; new callers are refused from now on."""
        self._stopping = True
        # Wakes the thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _dispatch(self, connection: socket.socket) -> bool:
        """Hands a connection over; returns whether a worker took it."""
        living = self._stats.living()
        self._given = Counter({worker.pid: self._given[worker.pid] for worker in living})
        self._hanging &= self._given.keys()
        self._begin_burst({worker.pid for worker in living if worker.ready})

        def load(worker: LivingWorker) -> tuple[bool, int, int]:
            held = self._given[worker.pid] - worker.closed
            return not worker.ready, self._burst[worker.pid], held

        by_load = sorted(living, key=load)
        return any(self._hand_over(connection, worker.pid) for worker in by_load)

    def _begin_burst(self, ready: set[int]) -> None:
        """Begins another burst if it is time.

        A burst ends after `BURST_S` even while connections go on coming, so that what workers hold
        counts again. It ends too when another worker is ready: the newcomer would get every
        connection until it had as many as the others.
        """
        now = time.monotonic()
        if now > self._burst_began + BURST_S or ready != self._ready:
            self._burst_began, self._ready = now, ready
            self._burst.clear()

    def _hand_over(self, connection: socket.socket, pid: int) -> bool:
        rights = array.array("i", [connection.fileno()])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        # Each connection behind this one would wait too.
        self._sender.settimeout(0.0 if pid in self._hanging else HANDOVER_TIMEOUT_S)
        try:
            # Unless the socket is connected, the kernel says at once that there is room, and
            # waiting for it is a busy loop.
            self._sender.connect(str(_path(self._home, pid)))
            self._sender.sendmsg([b"c"], ancillary)
        except (TimeoutError, BlockingIOError):
            self._hanging.add(pid)
            return False
        except OSError:
            # The worker has not begun to receive, or has ended.
            return False
        self._hanging.discard(pid)
        self._given[pid] += 1
        self._burst[pid] += 1
        return True


class WorkerLoop(uvloop.Loop):
    """An event loop whose servers take their connections from the dispatcher.

    Args:
        home: folder of the workers' sockets.
        pid: of this process.
        count_lost: as `Receiver`.
    """

    def __init__(self, home: Path, pid: int, count_lost: Callable[[], None]) -> None:
        super().__init__()
        self._path = _path(home, pid)
        self._count_lost = count_lost

    # asyncio has more arguments; uvicorn gives only these.
    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], *_: Any, **__: Any
    ) -> "Receiver":
        """Serves what is dispatched; the listening socket is the dispatcher's."""
        return Receiver(self, protocol_factory, self._path, self._count_lost)


class Receiver:
    """A server as asyncio has it. Its connections come from the dispatcher.

    Args:
        loop: to serve on.
        protocol_factory: makes a connection's protocol, which counts when it is closed.
        path: of its socket.
        count_lost: called for a connection that was dispatched and gets no protocol.
    """

    def __init__(
        self,
        loop: uvloop.Loop,
        protocol_factory: Callable[[], Any],
        path: Path,
        count_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._factory = protocol_factory
        self._path = path
        self._count_lost = count_lost
        self._closing = False
        # The loop itself does not keep tasks alive.
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        loop.add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Takes no more than what has been dispatched already."""
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
            if not numbers:
                # The kernel has closed the connection.
                logger.error("a connection is lost: this process has too many open files")
                self._count_lost()
                continue
            task = self._loop.create_task(self._serve(socket.socket(fileno=numbers[0])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, protocol = await self._loop.connect_accepted_socket(self._factory, connection)
        except Exception:
            # Whatever failed, it costs this connection only.
            logger.exception("a connection is lost")
            connection.close()
            self._count_lost()
            return
        if self._closing:
            # uvicorn has told the protocols of other connections already.
            self._loop.call_later(LAST_REQUEST_S, protocol.shutdown)


class WorkerConfig(uvicorn.Config):
    """uvicorn's configuration with the workers' event loop.

    Args:
        home: folder of the workers' sockets.
        count_lost: as `Receiver`; called in the worker.
    """

    def __init__(
        self, *args: Any, home: Path, count_lost: Callable[[], None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.home = home
        self.count_lost = count_lost

    def get_loop_factory(self) -> Callable[[], Any]:
        """Called in the worker. One that is alone accepts by itself."""
        if self.workers == 1:
            # uvicorn may give None, for the loop of asyncio; whoever calls this takes both.
            return super().get_loop_factory()  # type: ignore[return-value]
        return partial(WorkerLoop, self.home, os.getpid(), self.count_lost)


def bytes_too_long(home: Path) -> int:
    """By how much the path of a folder is too long to hold the workers' sockets; 0 if it is not."""
    return max(0, len(os.fsencode(_path(home, MAX_PID))) - MAX_PATH_BYTES)


def _path(home: Path, pid: int) -> Path:
    return home / f"{pid}.sock"
