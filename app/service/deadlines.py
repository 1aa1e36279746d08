"""`Deadlines`: ends requests that take too long, or that nobody waits for any more.

A timer and a task for each request would cost as much as the rest of its way through the service.
So one timer looks at all open requests now and then. Only those that are old by then, and those
whose answers are long, get a task that waits for their caller to hang up.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from app.errors import Expired

# Seconds between two looks.
TICK_S = 0.1


def late(seconds: float) -> Expired:
    """What ends a request that was not computed in so many seconds."""
    return Expired(f"its last time step was not computed within {seconds:g} s")


class Open(Protocol):
    """A request that is not answered yet; `Deadlines` looks at it."""

    def look(self, now: float) -> None:
        """Acts if it is time; `now` is on the event loop's clock."""


class Deadlines:
    """The open requests of an application, and how long they may take.

    Args:
        body_timeout_s: seconds for a body to arrive.
        request_timeout_s: seconds for a request to be computed.
        has_stopped: whether nothing will be computed any more.
    """

    def __init__(
        self,
        body_timeout_s: float,
        request_timeout_s: float,
        has_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.body_timeout_s = body_timeout_s
        self.request_timeout_s = request_timeout_s
        self.has_stopped = has_stopped
        self._open: dict[Open, None] = {}
        self._ticking = False

    def add(self, request: Open) -> float:
        """Looks at it from now on; returns the time on the event loop's clock."""
        loop = asyncio.get_running_loop()
        self._open[request] = None
        if not self._ticking:
            self._ticking = True
            loop.call_later(TICK_S, self._tick)
        return loop.time()

    def remove(self, request: Open) -> None:
        """Forgets it, if it was added."""
        self._open.pop(request, None)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for request in list(self._open):
            request.look(now)
        self._ticking = bool(self._open)
        if self._ticking:
            loop.call_later(TICK_S, self._tick)
