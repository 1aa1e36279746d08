"""`ConnectionLimit`: as many connections as the files that this process may open leave room for.

Where there are as many, a newcomer takes the place of the one whose next request has been awaited
longest. So callers who connect and send nothing lock nobody out, and who sends requests again and
again keeps its connection. Where a request is under way on all of them, the newcomer is refused.
"""

import logging
import resource
import time
from collections import OrderedDict
from collections.abc import Callable
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


class Waiting(Protocol):
    """A connection on which a request is awaited."""

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
        # By how long their next request has been awaited.
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()
        self._closed = self._refused = 0
        self._logs_at = 0.0

    def waits(self, connection: Waiting) -> None:
        """From now on the next request of a connection is awaited."""
        self._waiting[connection] = None

    def has_request(self, connection: Waiting) -> None:
        """A connection has a request, or is gone."""
        self._waiting.pop(connection, None)

    def admits(self, open_connections: int) -> bool:
        """Whether there is room for a newcomer; makes some if it can.

        Args:
            open_connections: those there are, the newcomer included.
        """
        if open_connections <= self.limit:
            return True
        for _ in range(min(MAX_LOOKS, len(self._waiting))):
            oldest, _ = self._waiting.popitem(last=False)
            if oldest.is_quiet:
                # There is nothing that a reset could take away.
                oldest.abort()
                self._closed += 1
                self._log()
                return True
            self._waiting[oldest] = None
        self._refused += 1
        self._log()
        return False

    def can_say_no(self, open_connections: int) -> bool:
        """Whether there are files for a newcomer to be told that there is no room."""
        return open_connections <= self.limit + MAX_REFUSALS

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
