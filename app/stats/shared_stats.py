"""`Board`: numbers that all workers of a service write and any of them can read.

A file mapped into memory, a row for each worker. A number is one aligned word that only its worker
writes, so nobody waits for anybody. Who takes the place of a worker that died goes on with its row,
so that counters never fall.
"""

import fcntl
import mmap
import os
import tempfile
import weakref
from array import array
from pathlib import Path
from typing import NamedTuple

from app.engine.counters import COUNTERS, GAUGES, Counters
from app.stats import answer_counts
from app.stats.answer_counts import Answers

COLUMNS = ("pid", "ready", "closed", "beats", *COUNTERS, *GAUGES)
PID, READY, CLOSED, BEATS, FIRST = range(5)
# The answers stand behind them.
ANSWERS = len(COLUMNS)
WORD = 8


class Living(NamedTuple):
    """A worker that lives.

    Attributes:
        pid: its process.
        ready: whether it answers.
        closed: connections that it has had and lost.
    """

    pid: int
    ready: bool
    closed: int


class Board:
    """The board of a service.

    Args:
        workers: that the service has.
        path: of the file, which must exist; None for a board that nobody shares.
    """

    def __init__(self, workers: int = 1, path: Path | None = None) -> None:
        self._workers = workers
        with path.open("r+b") if path else tempfile.TemporaryFile() as file:
            # Open for as long as the board is there: it is what `claim` locks.
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        # While workers are replaced one by one there are more of them.
        rows, width = 2 * workers + 2, ANSWERS + answer_counts.SIZE
        size = rows * width * WORD
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        words = memoryview(mmap.mmap(self._file, size)).cast("q")
        self._rows = [words[row * width : (row + 1) * width] for row in range(rows)]

    def claim(self) -> "Place":
        """Takes a row for the worker that this process is."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            row = next(row for row in self._rows if not _lives(row[PID]))
            for column in (READY, CLOSED, BEATS, *range(FIRST + len(COUNTERS), ANSWERS)):
                row[column] = 0
            row[PID] = os.getpid()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return Place(self, row)

    def living(self) -> list[Living]:
        """The workers that live."""
        return [
            Living(row[PID], bool(row[READY]), row[CLOSED])
            for row in self._rows
            if _lives(row[PID])
        ]

    def beats(self, pid: int) -> int:
        """A number that changes for as long as the event loop of a worker goes on."""
        return sum(row[BEATS] for row in self._rows if row[PID] == pid)

    @property
    def ready(self) -> bool:
        """Whether as many workers answer as the service has."""
        return sum(worker.ready for worker in self.living()) >= self._workers

    def total(self, name: str) -> int:
        """A counter over all workers there were, or a gauge over those that live."""
        column = COLUMNS.index(name)
        counted = name in COUNTERS
        return sum(row[column] for row in self._rows if counted or _lives(row[PID]))

    def answers(self) -> Answers:
        """Those of all workers there were, as they are now."""
        columns = zip(*(row[ANSWERS:] for row in self._rows), strict=True)
        return Answers(memoryview(array("q", map(sum, columns))))


class Place:
    """A worker's row.

    Attributes:
        board: where it is.
        counters: of the worker's engine.
        answers: of the worker.
    """

    def __init__(self, board: Board, row: memoryview) -> None:
        self.board = board
        self.counters = Counters(row[FIRST:ANSWERS])
        self.answers = Answers(row[ANSWERS:])
        self._row = row

    def set_ready(self, ready: bool) -> None:
        """Says whether this worker answers."""
        self._row[READY] = ready

    def beat(self) -> None:
        """The event loop of this worker goes on."""
        self._row[BEATS] += 1

    def count_closed(self) -> None:
        """A connection is closed."""
        self._row[CLOSED] += 1


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
