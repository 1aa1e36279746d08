"""Sends at given moments, whether or not answers keep up, and times from those moments.

So a server that stalls is charged for all who wait meanwhile.
"""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.load.precise_alarm import Timer

# From the start of a run to its first moment.
LEAD_S = 0.2
# After the last moment, answers that take longer count as errors.
GRACE_S = 20.0


@dataclass(frozen=True)
class OpenLoad:
    """What a generator saw.

    Attributes:
        rate: requests a second that were asked for.
        achieved: good answers a second, while requests were sent.
        requests: counted ones, after the warm-up.
        errors: answers that are no good, and those that did not come.
        p50_ms, p99_ms, max_ms: latency from the intended start. Who got no good answer is taken to
            have waited to the end: then these are less than what they stand for.
    """

    rate: float
    achieved: float
    requests: int
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Generator:
    """Sends at its moments; a subclass says how.

    Args:
        moments: when each request is due, float64 seconds from the start of sending, ascending.

    Attributes:
        latencies: of each, float64 seconds; NaN while there is no good answer.
    """

    def __init__(self, moments: np.ndarray) -> None:
        self.moments: list[float] = moments.tolist()
        self.latencies = np.full(len(moments), np.nan)
        self._start = 0.0
        self._next = 0
        self._answered = 0
        self._done = asyncio.Event()

    def send(self, number: int) -> None:
        """Sends a request, which is due now."""
        raise AssertionError("this is a bug: every generator sends in its own way")

    def all_sent(self) -> None:
        """Called after the last request is sent."""

    def answered(self, number: int, good: bool) -> None:
        """To be called when a request is answered, or will not be."""
        if good:
            self.latencies[number] = time.monotonic() - self._start - self.moments[number]
        self._answered += 1
        if self._answered == len(self.moments):
            self._done.set()

    async def send_all(self) -> None:
        """Until all are answered, or the time of grace is over."""
        loop, timer = asyncio.get_running_loop(), Timer()
        self._start = time.monotonic() + LEAD_S
        loop.add_reader(timer.descriptor, self._on_time, timer)
        timer.set(self._start + self.moments[0])
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), LEAD_S + self.moments[-1] + GRACE_S)
        loop.remove_reader(timer.descriptor)
        # The loop lets go of the file before it is gone.
        await asyncio.sleep(0.01)
        os.close(timer.descriptor)

    def _on_time(self, timer: Timer) -> None:
        timer.clear()
        passed = time.monotonic() - self._start
        while self._next < len(self.moments) and self.moments[self._next] <= passed:
            self.send(self._next)
            self._next += 1
        if self._next < len(self.moments):
            timer.set(self._start + self.moments[self._next])
        else:
            self.all_sent()


def summarize(
    rate: float, warm_up_s: float, moments: np.ndarray, latencies: np.ndarray
) -> OpenLoad:
    """Leaves the warm-up out.

    Args:
        rate: that was asked for, in requests/s.
        warm_up_s: requests due before it do not count.
        moments: intended starts in seconds, ascending.
        latencies: float64 seconds of each; NaN where no good answer came.
    """
    counts = moments >= warm_up_s
    counted, latencies = moments[counts], latencies[counts]
    end, missing = float(moments[-1]), np.isnan(latencies)
    in_time = counted + np.where(missing, np.inf, latencies) <= end
    waited = np.where(missing, end + GRACE_S - counted, latencies)
    p50, p99, longest = np.percentile(waited, [50, 99, 100])
    return OpenLoad(
        rate=rate,
        achieved=float(in_time.sum() / (end - warm_up_s)),
        requests=latencies.size,
        errors=int(missing.sum()),
        p50_ms=1e3 * float(p50),
        p99_ms=1e3 * float(p99),
        max_ms=1e3 * float(longest),
    )
