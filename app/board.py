"""`Board`: numbers that all workers of a service write and any of them can read.

A file mapped into memory, a row for each worker. A number is one aligned word that only its worker
writes, so nobody waits for anybody. Who takes the place of a worker that died goes on with its row,
so that counters never fall.
"""

import fcntl
import mmap
import os
import tempfile
from pathlib import Path

from app.engine.counters import COUNTERS, GAUGES, Counters

COLUMNS = ("pid", "ready", *COUNTERS, *GAUGES)
PID, READY, FIRST = 0, 1, 2
WORD = 8


class Board:
    """The board of a service of so many workers, seen by one of them.

    Args:
        workers: that the service has.
        path: of the file; None for a board that nobody shares.
    """

    def __init__(self, workers: int = 1, path: Path | None = None) -> None:
        self._workers = workers
        # While workers are replaced one by one there are more of them.
        rows = 2 * workers + 2
        with path.open("r+b") if path else tempfile.TemporaryFile() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = rows * len(COLUMNS) * WORD
            if os.fstat(file.fileno()).st_size < size:
                file.truncate(size)
            words = memoryview(mmap.mmap(file.fileno(), size)).cast("q")
            width = len(COLUMNS)
            self._rows = [words[row * width : (row + 1) * width] for row in range(rows)]
            self._own = next(row for row in self._rows if not _lives(row[PID]))
            self._own[PID] = os.getpid()
            for column in (READY, *range(FIRST + len(COUNTERS), width)):
                self._own[column] = 0
            # The mapping keeps the file open, and the lock with it.
            fcntl.flock(file, fcntl.LOCK_UN)
        self.counters = Counters(self._own[FIRST:])

    def set_ready(self, ready: bool) -> None:
        """Says whether this worker answers."""
        self._own[READY] = ready

    @property
    def workers(self) -> int:
        """Workers that live."""
        return sum(_lives(row[PID]) for row in self._rows)

    @property
    def ready(self) -> bool:
        """Whether this worker answers, and as many as the service has."""
        ready = sum(row[READY] and _lives(row[PID]) for row in self._rows)
        return bool(self._own[READY]) and ready >= self._workers

    @property
    def others_ready(self) -> bool:
        """Whether another worker answers."""
        return any(row[READY] and _lives(row[PID]) for row in self._rows if row is not self._own)

    def total(self, name: str) -> int:
        """A counter over all workers there were, or a gauge over those that live."""
        column = COLUMNS.index(name)
        counted = name in COUNTERS
        return sum(row[column] for row in self._rows if counted or _lives(row[PID]))


def _lives(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
