"""`Worker`: makes the application of one process of the service."""

import gc
import os
import signal
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from app import heap, logs
from app.parent_process import end_with_parent
from app.settings import Settings
from app.stats.shared_stats import SharedStats, WorkerStats

if TYPE_CHECKING:
    from fastapi import FastAPI

# Seconds that a lane's thread, back from the kernel, waits at most for Python's lock while the
# event loop is busy; Python's own 5 ms would leave the kernel idle.
SWITCH_INTERVAL_S = 0.0005
# New containers before the garbage collector looks at them. A parsed body is a list for each time
# step, and gone once its arrays are made: by Python's own 700 the collector would look at little
# else.
GC_THRESHOLD = 50_000
# The file of the shared stats in `home`.
STATS_FILE = "stats"


@dataclass(frozen=True)
class Worker:
    """A factory that can be sent to a new process.

    Attributes:
        settings: of the service.
        home: a folder that its workers share.
        parent: the number of the process that started the service.
    """

    settings: Settings
    home: Path
    parent: int

    @cached_property
    def stats(self) -> WorkerStats:
        """What this worker counts; asked for in the process that will serve, never before."""
        return SharedStats(self.settings.num_workers, self.home / STATS_FILE).claim()

    def claim(self) -> WorkerStats:
        """What this worker counts."""
        return self.stats

    def __call__(self) -> "FastAPI":
        """The application; called once, in the process that will serve it."""
        if os.getpid() != self.parent:
            end_with_parent(self.parent)
            # A terminal that is closed tells all processes. The parent tells this one when to end.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        logs.set_up()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.set_threshold(GC_THRESHOLD)
        heap.reuse_large_blocks()
        # Here, since the parent does without: its workers start the sooner.
        from app.application import create_app
        from app.kernels.loader import KernelLoader

        settings = self.settings
        load = KernelLoader(
            settings.runner,
            settings.slots_per_lane,
            settings.max_chunk_steps,
            self.home,
            settings.logical_devices,
            settings.tensor_float_32,
            self.stats.idle_cores,
            self.stats.tell_computed,
        )
        return create_app(settings, load, self.stats, self.home)
