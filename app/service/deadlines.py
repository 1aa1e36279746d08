"""`Watcher`: ends requests that nobody waits for any more, or that take too long.

A timer and a task for each request would cost as much as the rest of its way through the service.
So one timer looks at all open requests now and then, and only those that are old by then, and those
whose answers are long, get a task that waits for their caller to hang up.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from starlette.types import Receive

from app.errors import BodyTooSlow, Cancelled, Expired, Fault, ShuttingDown, UnrollError

# Seconds between two looks.
TICK_S = 0.1


def late(seconds: float) -> Expired:
    """What ends a request that was not computed in so many seconds."""
    return Expired(f"its last time step was not computed within {seconds:g} s")


def _stopped(size: int) -> ShuttingDown:
    return ShuttingDown(f"the service stopped when {size} bytes of the body had arrived")


class Watched(Protocol):
    """Something that is open."""

    def look(self, now: float) -> None:
        """Acts if it is time; `now` is on the event loop's clock."""


class Watcher:
    """The open requests of an application.

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
        self._open: dict[Watched, None] = {}
        self._ticking = False

    def add(self, watched: Watched) -> float:
        """Looks at it from now on; returns the time on the event loop's clock."""
        loop = asyncio.get_running_loop()
        self._open[watched] = None
        if not self._ticking:
            self._ticking = True
            loop.call_later(TICK_S, self._tick)
        return loop.time()

    def remove(self, watched: Watched) -> None:
        """Forgets it."""
        del self._open[watched]

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for watched in list(self._open):
            watched.look(now)
        self._ticking = bool(self._open)
        if self._ticking:
            loop.call_later(TICK_S, self._tick)


class Watch:
    """One request, while it is a context: first its body is read, then its caller waits.

    Args:
        watcher: of the application.
        receive: gives the messages of the request (ASGI).
    """

    def __init__(self, watcher: Watcher, receive: Receive) -> None:
        self._watcher = watcher
        self._receive = receive
        self._since = 0.0
        self._reader: asyncio.Task[Any] | None = asyncio.current_task()
        self._interruption: Callable[[int], UnrollError] | None = None
        self._give_up: Callable[[UnrollError], None] | None = None
        self._hang_up: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._since = self._watcher.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watcher.remove(self)
        if self._hang_up is not None:
            self._hang_up.cancel()

    def interruption(self, size: int) -> UnrollError | None:
        """What the reader's `CancelledError` means if it comes from here.

        Args:
            size: bytes that have arrived.
        """
        if self._interruption is None:
            return None
        if self._reader is not None:
            self._reader.uncancel()
        return self._interruption(size)

    def body_is_read(self, give_up: Callable[[UnrollError], None], at_once: bool = False) -> None:
        """From now on the caller waits.

        Args:
            give_up: is called once, with the reason, when the caller hangs up or time is over.
            at_once: whether it listens for a hang-up from now on, not from the next look on.
        """
        self._reader = None
        self._since = asyncio.get_running_loop().time()
        self._give_up = give_up
        if at_once:
            self._listen()

    def look(self, now: float) -> None:
        """Acts if it is time. Called by the watcher.

        Args:
            now: on the event loop's clock.
        """
        age = now - self._since
        if self._reader is not None:
            if self._watcher.has_stopped():
                self._interrupt(self._reader, _stopped)
            elif age >= self._watcher.body_timeout_s:
                self._interrupt(self._reader, self._too_slow)
        elif self._give_up is not None:
            if age >= self._watcher.request_timeout_s:
                self._end(late(self._watcher.request_timeout_s))
            elif self._hang_up is None:
                self._listen()

    def _interrupt(self, reader: asyncio.Task[Any], why: Callable[[int], UnrollError]) -> None:
        if self._interruption is None:
            self._interruption = why
            reader.cancel()

    def _too_slow(self, size: int) -> UnrollError:
        seconds = self._watcher.body_timeout_s
        return BodyTooSlow(Fault("", f"{size} bytes arrived in {seconds:g} s, then no end"))

    def _listen(self) -> None:
        self._hang_up = asyncio.get_running_loop().create_task(self._wait_for_hang_up())

    async def _wait_for_hang_up(self) -> None:
        # The body is read: the next message can only be that the caller has gone.
        await self._receive()
        self._end(Cancelled("the caller has gone"))

    def _end(self, reason: UnrollError) -> None:
        if self._give_up is not None:
            give_up, self._give_up = self._give_up, None
            give_up(reason)
