"""`Dispatcher`: gives each connection to the worker that has fewest.

The parent accepts and hands the connection itself to a worker (`connection_receiver`), by a
datagram over a Unix socket that is named after the worker's process. It holds each until the worker
has taken it: one that dies before takes none along.

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
import logging
import os
import select
import socket
import threading
import time
from collections import Counter, defaultdict, deque
from pathlib import Path

from app.stats.shared_stats import LivingWorker, SharedStats
from app.workers.connection_receiver import MAX_PID, accept, begin_no_more, socket_path

logger = logging.getLogger(__name__)

# Seconds between two attempts while no worker takes connections, at the start for example.
RETRY_S = 0.02
# Seconds from one look to the next whether workers have taken what they were given.
LOOK_S = 0.01
# Connections that come within so many seconds are spread evenly, whatever workers have besides: a
# busy worker sees late that some of its connections have been closed.
BURST_S = 0.2
# The kernel queues few datagrams. A worker that computes takes them after so many seconds at most.
# One that does not hangs: the next worker gets the connection, and the dispatcher waits for the one
# that hangs no more.
HANDOVER_TIMEOUT_S = 0.1
# Seconds, from a stop on, in which those who wait in the kernel's queue find a worker.
LAST_DISPATCH_S = 2.0
# Bytes of a Unix socket's path: Linux has 108, and the last one is zero.
MAX_PATH_BYTES = 107


class Dispatcher(threading.Thread):
    """Accepts connections until it is stopped.

    Args:
        listener: bound.
        backlog: of connections that the kernel keeps.
        home: folder of the workers' sockets.
        stats: say which workers live and are ready, how many connections each took and closed.
        waits: whether nobody is accepted before a worker is ready: another process does that.
    """

    def __init__(
        self,
        listener: socket.socket,
        backlog: int,
        home: Path,
        stats: SharedStats,
        waits: bool = False,
    ) -> None:
        super().__init__(name="dispatcher", daemon=True)
        listener.listen(backlog)
        listener.setblocking(False)
        self._listener = listener
        self._home = home
        self._stats = stats
        self._waits = waits
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wake, self._woken = os.pipe()[::-1]
        self._poll = select.poll()
        for number in (listener.fileno(), self._woken):
            self._poll.register(number, select.POLLIN)
        # Connections that each process was given, those of this burst, and those it has not taken.
        self._given: Counter[int] = Counter()
        self._burst: Counter[int] = Counter()
        self._untaken: defaultdict[int, deque[socket.socket]] = defaultdict(deque)
        self._burst_began = 0.0
        self._ready: set[int] = set()  # processes that share the burst
        self._hanging: set[int] = set()  # processes that did not take the last connection
        self._ends_at: float | None = None

    def run(self) -> None:
        """Called in the thread."""
        while self._waits and self._ends_at is None and not self._stats.ready:
            time.sleep(RETRY_S)
        while self._ends_at is None:
            if not self._accept():
                self._poll.poll(1000 * LOOK_S if self._untaken else None)
            self._look_at_untaken()
        # Whoever waits in the kernel's queue would be reset. Not so where another process has the
        # queue, too.
        if not self._waits:
            begin_no_more(self._listener)
            while self._accept():
                pass
        self._listener.close()
        while self._untaken and time.monotonic() < self._ends_at:
            self._look_at_untaken()
            time.sleep(LOOK_S)
        for connections in self._untaken.values():
            for connection in connections:
                connection.close()

    def stop(self) -> None:
        """Hands over whoever waits already, and accepts no more: others are refused from now on."""
        self._ends_at = time.monotonic() + LAST_DISPATCH_S
        os.write(self._wake, b"s")
        if self.is_alive():
            self.join(2 * LAST_DISPATCH_S)

    def _accept(self) -> bool:
        """Accepts a connection and hands it over; returns whether there was one."""
        try:
            connection = accept(self._listener)
        except OSError:
            time.sleep(RETRY_S)
            return False
        if connection is not None:
            self._place(connection)
        return connection is not None

    def _place(self, connection: socket.socket) -> None:
        """Finds a worker for a connection, however long that takes."""
        while not self._dispatch(connection):
            if self._ends_at is not None and time.monotonic() > self._ends_at:
                connection.close()
                return
            time.sleep(RETRY_S)

    def _look_at_untaken(self) -> None:
        """Lets go of what has been taken, and places anew what a dead worker has not."""
        for pid, connections in list(self._untaken.items()):
            left = self._given[pid] - self._stats.taken(pid)
            while len(connections) > max(0, left):
                connections.popleft().close()
            if not connections:
                del self._untaken[pid]
            elif not self._listens(pid):
                del self._untaken[pid]
                for connection in connections:
                    self._place(connection)

    def _listens(self, pid: int) -> bool:
        """Whether a worker has its socket still: that of one that was killed is closed at once."""
        try:
            self._sender.connect(str(socket_path(self._home, pid)))
        except OSError:
            return False
        return True

    def _dispatch(self, connection: socket.socket) -> bool:
        """Hands a connection over; returns whether a worker took it."""
        living = self._stats.living()
        kept = {worker.pid for worker in living} | self._untaken.keys()
        self._given = Counter({pid: self._given[pid] for pid in kept})
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
            self._sender.connect(str(socket_path(self._home, pid)))
            self._sender.sendmsg([b"c"], ancillary)
        except (TimeoutError, BlockingIOError):
            self._hanging.add(pid)
            return False
        except OSError:
            # The worker has not begun to receive, or has ended.
            return False
        self._hanging.discard(pid)
        self._untaken[pid].append(connection)
        self._given[pid] += 1
        self._burst[pid] += 1
        return True


def bytes_too_long(home: Path) -> int:
    """By how much the path of a folder is too long to hold the workers' sockets; 0 if it is not."""
    return max(0, len(os.fsencode(socket_path(home, MAX_PID))) - MAX_PATH_BYTES)
