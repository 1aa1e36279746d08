"""`OwnCores`: keeps threads that help off the core of the one that they help."""

import ctypes
import os
from collections.abc import Callable, Iterable
from pathlib import Path

# Of Linux; without it threads run where the system puts them.
_core_of_caller: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None)
_TASKS = Path("/proc/self/task")


class OwnCores:
    """See the module.

    Some systems put a thread that another wakes on the core of that one, and leave it there, since
    each of the two is only seldom seen to wait.

    Attributes:
        threads: that help, by the numbers of the system.
    """

    def __init__(self) -> None:
        self.threads: list[int] = []
        self._avoided: int | None = None

    def add(self, threads: Iterable[int]) -> None:
        """These help too."""
        self.threads += threads
        self._avoided = None

    def make_way(self) -> None:
        """Called by the thread that is helped, before each chunk."""
        if _core_of_caller is None or (core := _core_of_caller()) == self._avoided:
            return
        self._avoided = core
        if others := os.sched_getaffinity(0) - {core}:
            for thread in self.threads:
                try:
                    os.sched_setaffinity(thread, others)
                except OSError:
                    # It has ended, or its cores were taken away just now.
                    continue


def threads_here() -> set[int]:
    """All threads of this process, by the numbers of the system; none where it does not tell."""
    return {int(entry.name) for entry in _TASKS.iterdir()} if _TASKS.is_dir() else set()
