"""`SharedStats`: numbers that the processes of a service write and each of them can read.

A file mapped into memory: what the parent tells, and a row for each worker. A number is one aligned
int64 that only its process writes, so nobody waits for anybody. A worker that replaces one that
died goes on with its row, so that counters never fall.
"""

import ctypes
import fcntl
import mmap
import os
import signal
import tempfile
import weakref
from pathlib import Path
from typing import NamedTuple

from app.engine.counters import COUNTERS, GAUGES, Counters
from app.stats.answer_counts import AnswerCounts, AnswerWords


class ParentWords(ctypes.Structure):
    """What the parent tells.

    Attributes:
        crashing: how many workers end again and again, soon after their start.
        exit_status: of the last one.
    """

    _fields_ = [("crashing", ctypes.c_int64), ("exit_status", ctypes.c_int64)]

    crashing: int
    exit_status: int


class WorkerWords(ctypes.Structure):
    """A worker's row.

    Attributes:
        pid: its process; 0 before there has been one.
        ready: whether it answers.
        closed: connections that it was given and has no more.
        beats: changes for as long as its event loop goes on.
        counters: of its engine.
        answers: that it gave.
    """

    _fields_ = [
        ("pid", ctypes.c_int64),
        ("ready", ctypes.c_int64),
        ("closed", ctypes.c_int64),
        ("beats", ctypes.c_int64),
        ("counters", Counters),
        ("answers", AnswerWords),
    ]

    pid: int
    ready: int
    closed: int
    beats: int
    counters: Counters
    answers: AnswerWords


class LivingWorker(NamedTuple):
    """A worker that lives.

    Attributes:
        pid: its process.
        ready: whether it answers.
        closed: connections that it was given and has no more.
    """

    pid: int
    ready: bool
    closed: int


class SharedStats:
    """The numbers of a service.

    Args:
        workers: that the service has.
        path: of the file, which must exist; None for numbers that nobody shares.
    """

    def __init__(self, workers: int = 1, path: Path | None = None) -> None:
        self._workers = workers
        with path.open("r+b") if path else tempfile.TemporaryFile() as file:
            # Open for as long as the numbers are there: it is what `claim` locks.
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        # While workers are replaced one by one there are more of them.
        rows = WorkerWords * (2 * workers + 2)
        size = ctypes.sizeof(ParentWords) + ctypes.sizeof(rows)
        if os.fstat(self._file).st_size < size:
            # All of it now: memory for which a full folder has no page ends whoever writes to it.
            os.posix_fallocate(self._file, 0, size)
        memory = mmap.mmap(self._file, size)
        self._parent = ParentWords.from_buffer(memory)
        self._rows = list(rows.from_buffer(memory, ctypes.sizeof(ParentWords)))

    def claim(self) -> "WorkerStats":
        """Takes a row for the worker that this process is."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            row = next(row for row in self._rows if not _lives(row.pid))
            row.ready = row.closed = row.beats = 0
            for name in GAUGES:
                setattr(row.counters, name, 0)
            row.pid = os.getpid()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return WorkerStats(self, row)

    def living(self) -> list[LivingWorker]:
        """The workers that live."""
        return [
            LivingWorker(row.pid, bool(row.ready), row.closed)
            for row in self._rows
            if _lives(row.pid)
        ]

    def beats(self, pid: int) -> int:
        """A number that changes for as long as the event loop of a worker goes on."""
        return sum(row.beats for row in self._rows if row.pid == pid)

    @property
    def ready(self) -> bool:
        """Whether as many workers answer as the service has."""
        return sum(worker.ready for worker in self.living()) >= self._workers

    def tell_crashing(self, workers: int, exit_status: int) -> None:
        """Called by the parent: so many workers end again and again, the last one with a status."""
        self._parent.exit_status = exit_status
        self._parent.crashing = workers

    @property
    def crashing(self) -> str:
        """Which workers end again and again, and how; empty if none does."""
        if not self._parent.crashing:
            return ""
        count, how = self._parent.crashing, describe_exit(self._parent.exit_status)
        return f"{count} of the service's workers cannot stay up: the last one {how}"

    def total(self, name: str) -> int:
        """A counter over all workers there were, or a gauge over those that live."""
        counted = name in COUNTERS
        rows = (row for row in self._rows if counted or _lives(row.pid))
        return sum(getattr(row.counters, name) for row in rows)

    def answers(self) -> AnswerCounts:
        """Those of all workers there were, as they are now."""
        return AnswerCounts.sum_of(row.answers for row in self._rows)


class WorkerStats:
    """What a worker writes.

    Attributes:
        shared: the numbers of all.
        counters: of the worker's engine.
        answers: of the worker.
    """

    def __init__(self, shared: SharedStats, row: WorkerWords) -> None:
        self.shared = shared
        self.counters = row.counters
        self.answers = AnswerCounts(row.answers)
        self._row = row

    def set_ready(self, ready: bool) -> None:
        """Says whether this worker answers."""
        self._row.ready = ready

    def beat(self) -> None:
        """The event loop of this worker goes on."""
        self._row.beats += 1

    def count_closed(self) -> None:
        """A connection that this worker was given is closed."""
        self._row.closed += 1


def describe_exit(status: int) -> str:
    """How a process ended.

    Args:
        status: of its exit; below 0 the number of the signal that killed it.
    """
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


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
