"""`ConnectionLimit`: as many connections as the files that this process may open leave room for.

Where there are as many, a newcomer takes the place of the one whose next request has been awaited
longest. So callers who connect and send nothing lock nobody out, and who sends requests again and
again keeps its connection. Where a request is under way on all of them, the newcomer is refused.
"""

import logging
import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from typing import Protocol

logger = logging.getLogger(__name__)

# Files that a worker needs besides: Redis connections (32), the model's files while it is loaded,
# libraries, pipes; and connections that close, or are refused just now.
OTHER_FILES = 128
# Of those, connections that are being refused. Further ones are closed without a word.
MAX_REFUSALS = 32
# Seconds from one line in the log to the next.
LOG_S = 60.0
# Connections that are looked at for a newcomer: a request may have come on the oldest just now.
MAX_LOOKS = 8
# All are looked through for so many of the oldest, and then not for so many seconds for each of
# them, which is twenty times as long as it takes.
OLDEST, PAUSE_S = 1024, 5e-6


class Connection(Protocol):
    """A connection on which requests come."""

    @property
    def waits_since(self) -> float:
        """Since when its next request is awaited, in seconds; infinite while one is under way."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody has read, and everything sent has left."""

    def abort(self) -> None:
        """Closes it at once."""


class ConnectionLimit:
    """See the module.

    Args:
        limit: of connections; as the process's limit of files allows if None.
        clock: seconds.

    Attributes:
        limit: of connections.
    """

    def __init__(
        self, limit: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = connections_for(soft_file_limit()) if limit is None else limit
        self._clock = clock
        # Those that had waited longest when all were looked through, the oldest last.
        self._oldest: list[tuple[float, Connection]] = []
        self._looks_at = 0.0
        self._closed = self._refused = 0
        self._logs_at = 0.0

    def admits(self, count: int, connections: Iterable[Connection]) -> bool:
        """Whether there is room for a newcomer; makes some if it can.

        Args:
            count: connections of all kinds, the newcomer included.
            connections: those on which requests come.
        """
        if count <= self.limit:
            return True
        for connection in islice(self._waiting(count, connections), MAX_LOOKS):
            if connection.is_quiet:
                # There is nothing that a reset could take away.
                connection.abort()
                self._closed += 1
                self._log()
                return True
        self._refused += 1
        self._log()
        return False

    def _waiting(self, count: int, connections: Iterable[Connection]) -> Iterator[Connection]:
        """Those on which a request is awaited, the oldest first."""
        while self._oldest or self._looks_through(count, connections):
            since, connection = self._oldest.pop()
            # Else a request has come since then.
            if since == connection.waits_since:
                yield connection

    def _looks_through(self, count: int, connections: Iterable[Connection]) -> bool:
        """Looks for those that have waited longest, if it is time; whether there are any."""
        now = self._clock()
        if now < self._looks_at:
            return False
        self._looks_at = now + PAUSE_S * count
        waiting = [(since, c) for c in connections if (since := c.waits_since) < math.inf]
        self._oldest = nsmallest(OLDEST, waiting, key=itemgetter(0))[::-1]
        return bool(self._oldest)

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
