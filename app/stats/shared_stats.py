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
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.engine.counters import COUNTERS, GAUGES
from app.stats.answer_counts import AnswerCounts
from app.stats.shared_words import ParentWords, WorkerWords, lives


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

    Attributes:
        workers: that the service has when it is whole.
        parent: what the parent tells.
    """

    def __init__(self, workers: int = 1, path: Path | None = None) -> None:
        self.workers = workers
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
        self.parent = ParentWords.from_buffer(memory)
        self._rows = list(rows.from_buffer(memory, ctypes.sizeof(ParentWords)))

    def claim(self) -> "WorkerStats":
        """Takes a row for the worker that this process is."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            row = next(row for row in self._rows if not lives(row.pid))
            row.ready = row.failing = row.taken = row.closed = row.beats = 0
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
            if lives(row.pid)
        ]

    def others(self, row: WorkerWords) -> Iterator[WorkerWords]:
        """The rows of all workers but that of one; some may have died."""
        return (other for other in self._rows if other is not row and other.pid)

    def beats(self, pid: int) -> int:
        """A number that changes for as long as the event loop of a worker goes on."""
        return sum(row.beats for row in self._rows if row.pid == pid)

    def taken(self, pid: int) -> int:
        """Connections that a worker has taken of those it was given, though it may have died."""
        return sum(row.taken for row in self._rows if row.pid == pid)

    @property
    def ready(self) -> bool:
        """Whether the service answers: a worker does.

        At the start not before all of them do, but for those that cannot: whoever comes first would
        have the first one do all the work, and keep its connection to it.
        """
        ready, failing = self.workers_ready, self.workers_failing
        if ready + failing >= self.workers:
            self.parent.was_whole = 1
        return ready > 0 and bool(self.parent.was_whole)

    @property
    def workers_ready(self) -> int:
        """Workers that answer."""
        return sum(worker.ready for worker in self.living())

    @property
    def workers_failing(self) -> int:
        """Workers that do not answer and will not by themselves.

        They cannot load the model, or end again and again.
        """
        failing = self._refused + self.parent.crashing
        return min(failing, max(0, self.workers - self.workers_ready))

    @property
    def _refused(self) -> int:
        return sum(row.failing for row in self._rows if lives(row.pid))

    @property
    def stopping(self) -> bool:
        """Whether the service has been told to stop."""
        return bool(self.parent.stopping)

    @property
    def dispatched(self) -> bool:
        """Whether the workers have all connections that they will be given before the stop."""
        return bool(self.parent.dispatched)

    def tell_stopping(self) -> None:
        """Called by the parent once it is told to stop."""
        self.parent.stopping = 1

    def tell_dispatched(self) -> None:
        """Called by the parent after its last connection."""
        self.parent.dispatched = 1

    def tell_crashing(self, workers: int, exit_status: int) -> None:
        """Called by the parent: so many workers end again and again, the last one with a status."""
        self.parent.exit_status = exit_status
        self.parent.crashing = workers

    @property
    def trouble(self) -> str:
        """What is wrong with the workers that are failing; empty if none is."""
        if not self.workers_failing:
            return ""
        if crashing := self.parent.crashing:
            how = describe_exit(self.parent.exit_status)
            return f"{crashing} of the service's workers cannot stay up: the last one {how}"
        return f"{self._refused} of the service's workers cannot load the model"

    def total(self, name: str) -> int:
        """A counter over all workers there were, or a gauge over those that live."""
        counted = name in COUNTERS
        rows = (row for row in self._rows if counted or lives(row.pid))
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
        row: where all of it is.
    """

    def __init__(self, shared: SharedStats, row: WorkerWords) -> None:
        self.shared = shared
        self.counters = row.counters
        self.answers = AnswerCounts(row.answers)
        self.row = row

    def set_ready(self, ready: bool, failing: bool = False) -> None:
        """Says whether this worker answers, and if not, whether it will not by itself."""
        self.row.ready, self.row.failing = ready, failing

    @property
    def others_answer(self) -> bool:
        """Whether this worker does not answer, and another does."""
        return not self.row.ready and self.shared.workers_ready > 0

    def idle_cores(self, cores: int) -> int:
        """Cores that no worker of the service uses; this one uses one.

        Args:
            cores: that the service may use.
        """
        busy = sum(other.is_busy for other in self.shared.others(self.row))
        return max(0, cores - 1 - busy)

    def tell_computed(self) -> None:
        """A chunk is computed."""
        self.counters.computed_at = time.monotonic_ns()

    def beat(self) -> None:
        """The event loop of this worker goes on."""
        self.row.beats += 1

    def count_taken(self) -> None:
        """A connection that this worker was given is taken."""
        self.row.taken += 1

    def count_closed(self) -> None:
        """A connection that this worker was given is closed."""
        self.row.closed += 1


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
