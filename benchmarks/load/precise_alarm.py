"""A precise alarm for event loops, whose own timers are rounded to milliseconds. Linux only."""

import ctypes
import os
import time


class Timer:
    """Linux's timerfd: event loops round their own timers to milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, moment: float) -> None:
        """Readable from `moment` on, of `time.monotonic`."""
        seconds = int(moment)
        # Interval, then first expiry: two pairs of seconds and nanoseconds.
        setting = (ctypes.c_long * 4)(0, 0, seconds, max(1, int((moment - seconds) * 1e9)))
        absolute = 1
        self._libc.timerfd_settime(self.descriptor, absolute, setting, None)

    def clear(self) -> None:
        """Reads it, so that it can be set again."""
        os.read(self.descriptor, 8)
