"""`ConnectionLimit`: as many connections as the files that this process may open leave room for.

Where there are as many, the caller who has the most loses its idlest one to a newcomer: the one
whose next request or message has been awaited longest. So callers who connect and send nothing lock
nobody out, and who sends requests again and again keeps its connection. A stream that has not been
idle for long makes room only for a caller who has fewer connections. Where requests are under way
on all that could, the newcomer is refused.
"""

import logging
import math
import resource
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple, Protocol

logger = logging.getLogger(__name__)

# Files that a worker needs besides: Redis connections (32), the model's files while it is loaded,
# libraries, pipes; and connections that close, or are refused just now.
OTHER_FILES = 128
# Of those, connections that are being refused. Further ones are closed without a word.
MAX_REFUSALS = 32
# Seconds from one line in the log to the next.
LOG_S = 60.0
# Seconds after which an idle stream makes room for anybody: its caller has to begin it anew.
IDLE_STREAM_S = 60.0
# Connections that are looked at for a newcomer: a request may have come on the oldest just now.
MAX_LOOKS = 8
# All are looked through for so many that could make room, and then not for so many seconds for each
# of them, which is twenty times as long as it takes.
OLDEST, PAUSE_S = 1024, 3.5e-5


class Connection(Protocol):
    """A connection of a caller."""

    @property
    def caller(self) -> str:
        """The name of who sends on it."""

    @property
    def has_state(self) -> bool:
        """Whether its caller would lose something by its end, as of a stream."""

    @property
    def waits_since(self) -> float:
        """Since when its next request or message is awaited, in seconds on the monotonic clock.

        Infinite while one is under way. Of a connection that closes: since when.
        """

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody has read, and everything sent has left."""

    def make_room(self) -> None:
        """Closes it at once."""


class _Idle(NamedTuple):
    """A connection that could make room.

    Attributes:
        held: connections of its caller.
        since: when it fell idle.
    """

    held: int
    since: float
    connection: Connection


class ConnectionLimit:
    """See the module.

    Args:
        limit: of connections; as the process's limit of files allows if None.
        clock: seconds, monotonic.

    Attributes:
        limit: of connections.
    """

    def __init__(
        self, limit: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = connections_for(soft_file_limit()) if limit is None else limit
        self._clock = clock
        # As of when all were looked through: connections of each caller, those that make room for
        # anybody, and the other streams. The next one is the last.
        self._counts: Counter[str] = Counter()
        self._free: list[_Idle] = []
        self._streams: list[_Idle] = []
        self._looks_at = 0.0
        self._closed = self._refused = 0
        self._logs_at = 0.0

    def admits(self, newcomer: Connection, connections: Collection[Connection]) -> bool:
        """Whether there is room for a newcomer; makes some if it can.

        Args:
            newcomer: a connection that has been made.
            connections: all, the newcomer included.
        """
        if len(connections) <= self.limit:
            return True
        for connection in islice(self._idlest(newcomer, connections), MAX_LOOKS):
            if connection.is_quiet:
                # There is nothing that a reset could take away.
                connection.make_room()
                self._counts[connection.caller] -= 1
                self._counts[newcomer.caller] += 1
                self._closed += 1
                self._log()
                return True
        self._refused += 1
        self._log()
        return False

    def _idlest(
        self, newcomer: Connection, connections: Collection[Connection]
    ) -> Iterator[Connection]:
        """Those that make room for a newcomer, in their order."""
        now = self._clock()
        if now >= self._looks_at:
            self._looks_at = now + PAUSE_S * len(connections)
            self._look_through(newcomer, connections, now)
        while (found := self._next_for(newcomer.caller)) is not None:
            # Else a request has come since then.
            if found.since == found.connection.waits_since:
                yield found.connection

    def _next_for(self, caller: str) -> _Idle | None:
        """The next one that makes room for a caller."""
        idle = [self._free] if self._free else []
        if self._streams:
            # Its caller has as many as the other even after the exchange.
            other = self._streams[-1].connection.caller
            if self._counts[other] - self._counts[caller] >= 2:
                idle.append(self._streams)
        return min(idle, key=lambda found: _order(found[-1])).pop() if idle else None

    def _look_through(
        self, newcomer: Connection, connections: Collection[Connection], now: float
    ) -> None:
        """Finds those that could make room."""
        others = [(c.caller, c) for c in connections if c is not newcomer]
        self._counts = counts = Counter([caller for caller, _ in others])
        free: list[_Idle] = []
        streams: list[_Idle] = []
        for caller, connection in others:
            since = connection.waits_since
            if since == math.inf:
                continue
            is_kept = connection.has_state and now - since < IDLE_STREAM_S
            (streams if is_kept else free).append(_Idle(counts[caller], since, connection))
        self._free = nsmallest(OLDEST, free, key=_order)[::-1]
        self._streams = nsmallest(OLDEST, streams, key=_order)[::-1]

    def can_say_no(self, count: int) -> bool:
        """Whether there are files for a newcomer to be told that there is no room."""
        return count <= self.limit + MAX_REFUSALS

    def _log(self) -> None:
        now = self._clock()
        if now >= self._logs_at:
            logger.warning(
                "all %d connections are taken, as the limit of open files allows: closed %d that "
                "waited for a request, refused %d newcomers",
                self.limit,
                self._closed,
                self._refused,
            )
            self._logs_at = now + LOG_S
            self._closed = self._refused = 0


def _order(idle: _Idle) -> tuple[int, float]:
    """The caller with the most connections comes first, then who has been idle longest."""
    return -idle.held, idle.since


def connections_for(files: int) -> int:
    """Connections that a process may have which may open so many files."""
    return max(files - OTHER_FILES, files // 2)


def soft_file_limit() -> int:
    """Files that this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_file_limit() -> None:
    """Lets this process and its children open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
