"""The words of `SharedStats`: what the parent tells, and a worker's row."""

import ctypes
import os
import time

from app.engine.counters import Counters
from app.stats.answer_counts import AnswerWords

# A worker that has computed is busy for so many nanoseconds more: with what its callers send and
# are sent.
BUSY_NS = 50_000_000


class ParentWords(ctypes.Structure):
    """What the parent tells.

    Attributes:
        crashing: how many workers end again and again, soon after their start.
        exit_status: of the last one.
        stopping: whether the service has been told to stop.
        dispatched: whether, since then, all connections that there will be have been given.
        was_whole: whether all workers that can have been ready; a worker writes it.
    """

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("crashing", "exit_status", "stopping", "dispatched", "was_whole")
    ]

    crashing: int
    exit_status: int
    stopping: int
    dispatched: int
    was_whole: int


class WorkerWords(ctypes.Structure):
    """A worker's row.

    Attributes:
        pid: its process; 0 before there has been one.
        ready: whether it answers.
        failing: whether it cannot, and will not by itself.
        taken: connections that it was given and has taken.
        closed: connections that it was given and has no more.
        beats: changes for as long as its event loop goes on.
        counters: of its engine.
        answers: that it gave.
    """

    _fields_ = [
        ("pid", ctypes.c_int64),
        ("ready", ctypes.c_int64),
        ("failing", ctypes.c_int64),
        ("taken", ctypes.c_int64),
        ("closed", ctypes.c_int64),
        ("beats", ctypes.c_int64),
        ("counters", Counters),
        ("answers", AnswerWords),
    ]

    pid: int
    ready: int
    failing: int
    taken: int
    closed: int
    beats: int
    counters: Counters
    answers: AnswerWords

    @property
    def is_busy(self) -> bool:
        """Whether it computes, or did a moment ago for a caller who may send more."""
        counters = self.counters
        if not (counters.running or counters.waiting):
            passed_ns = time.monotonic_ns() - counters.computed_at
            if self.taken == self.closed or passed_ns >= BUSY_NS:
                return False
        # One that died has left its numbers.
        return lives(self.pid)


def lives(pid: int) -> bool:
    """Whether there is such a process; 0 is none."""
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
