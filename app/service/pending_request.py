"""`PendingRequest`: a request from its head to its answer; `Deadlines`: how long all may take.

First its body is read, if that did not arrive whole; then its caller waits. It ends once: with an
answer, or because its caller has gone. It is the one owner of the request's time.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import Receive

from app.errors import BodyTooSlow, Cancelled, Expired, Fault, ShuttingDown, UnrollError

# Seconds between two looks.
TICK_S = 0.1

GiveUp = Callable[[UnrollError], None]


class Deadlines:
    """Ends requests that take too long, or that nobody waits for any more.

    A timer and a task for each request would cost as much as the rest of its way through the
    service. So one timer looks at all open requests now and then. Only those that are old by then,
    and those whose answers are long, get a task that waits for their caller to hang up.

    Args:
        body_timeout_s: seconds for a body to arrive.
        request_timeout_s: seconds from a whole body to its answer.
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
        self._open: dict[PendingRequest, None] = {}
        self._ticking = False

    def add(self, request: "PendingRequest") -> float:
        """Looks at it from now on; returns the time on the event loop's clock."""
        loop = asyncio.get_running_loop()
        self._open[request] = None
        if not self._ticking:
            self._ticking = True
            loop.call_later(TICK_S, self._tick)
        return loop.time()

    def remove(self, request: "PendingRequest") -> None:
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


class PendingRequest:
    """See the module. Everything here happens on the event loop.

    Args:
        deadlines: of the application.

    Attributes:
        has_ended: whether it was answered, or its caller has gone.
    """

    __slots__ = (
        "_deadlines",
        "_give_up",
        "_interruption",
        "_listener",
        "_reader",
        "_receive",
        "_since",
        "_timer",
        "_waits",
        "has_ended",
    )

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._since = 0.0
        self._reader: asyncio.Task[Any] | None = None
        self._interruption: Callable[[int], UnrollError] | None = None
        self._give_up: GiveUp | None = None
        self._receive: Receive | None = None
        self._listener: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False
        self.has_ended = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this task reads the body: it is interrupted when the body's time is over."""
        self._since = self._deadlines.add(self)
        self._reader = asyncio.current_task()
        try:
            yield
        finally:
            self._reader = self._interruption = None
            self._deadlines.remove(self)

    def raise_interruption(self, size: int) -> None:
        """Raises what the reader's `CancelledError` means if it comes from here.

        No variable holds the error: its frames would hold it, and it them.

        Args:
            size: bytes that have arrived.

        Raises:
            BodyTooSlow, ShuttingDown: why the reader was interrupted.
        """
        if self._interruption is None:
            return
        if self._reader is not None:
            self._reader.uncancel()
        raise self._interruption(size) from None

    def arrive(self) -> None:
        """Its body is whole: the caller waits from now on, though it is understood later."""
        self._since = self._deadlines.add(self)
        self._waits = True

    @property
    def waited_s(self) -> float:
        """Seconds since it arrived."""
        return asyncio.get_running_loop().time() - self._since

    def wait(
        self, give_up: GiveUp, timeout_s: float = math.inf, reason: Expired | None = None
    ) -> None:
        """From now on the caller waits, unless it does since `arrive`, or for what came before.

        Args:
            give_up: is called at most once, with the reason, when time is over or the caller hangs
                up; in place of the one before.
            timeout_s: seconds that the caller has; those of the settings hold too.
            reason: why it is given up when they are over.
        """
        self._give_up = give_up
        if not self._waits:
            self._waits = True
            self._since = self._deadlines.add(self)
        if timeout_s < self._deadlines.request_timeout_s:
            if self._timer is not None:
                self._timer.cancel()
            loop, until = asyncio.get_running_loop(), self._since + timeout_s
            self._timer = loop.call_at(until, self.give_up, reason or late(timeout_s))

    def listen(self, receive: Receive, at_once: bool = False) -> None:
        """Hears of it when the caller hangs up.

        Args:
            receive: gives the messages of the request (ASGI), whose body is read.
            at_once: whether it listens from now on, not from the next look on.
        """
        self._receive = receive
        if at_once:
            self._listen()

    def give_up(self, reason: UnrollError) -> None:
        """Ends the computation; who computes tells the caller the reason."""
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            give_up(reason)

    def end(self) -> bool:
        """Ends it; false if it had ended before, so that it is answered once."""
        if self.has_ended:
            return False
        self.has_ended = True
        self._deadlines.remove(self)
        self._give_up = self._receive = None
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
            # The task's traceback holds this: without it, both go at once.
            self._listener = None
        return True

    def hang_up(self) -> bool:
        """The caller has gone; nobody is answered. False if the request had ended before."""
        give_up = self._give_up
        if not self.end():
            return False
        if give_up is not None:
            give_up(Cancelled("the caller has gone"))
        return True

    def look(self, now: float) -> None:
        """Acts if it is time. Called by `Deadlines`.

        Args:
            now: on the event loop's clock.
        """
        age, deadlines = now - self._since, self._deadlines
        if self._reader is not None:
            if deadlines.has_stopped():
                self._interrupt(self._reader, _stopped)
            elif age >= deadlines.body_timeout_s:
                self._interrupt(self._reader, self._too_slow)
        elif age >= deadlines.request_timeout_s:
            self.give_up(late(deadlines.request_timeout_s))
        elif self._receive is not None and self._listener is None:
            self._listen()

    def _interrupt(self, reader: asyncio.Task[Any], why: Callable[[int], UnrollError]) -> None:
        if self._interruption is None:
            self._interruption = why
            reader.cancel()

    def _too_slow(self, size: int) -> UnrollError:
        seconds = self._deadlines.body_timeout_s
        return BodyTooSlow(Fault("", f"{size} bytes arrived in {seconds:g} s, then no end"))

    def _listen(self) -> None:
        self._listener = asyncio.get_running_loop().create_task(self._wait_for_hang_up())

    async def _wait_for_hang_up(self) -> None:
        if self._receive is not None:
            # The body is read: the next message can only be that the caller has gone.
            await self._receive()
            self.give_up(Cancelled("the caller has gone"))


def late(seconds: float) -> Expired:
    """What ends a request that was not computed in so many seconds."""
    return Expired(f"its last time step was not computed within {seconds:g} s")


def _stopped(size: int) -> ShuttingDown:
    return ShuttingDown(f"the service stopped when {size} bytes of the body had arrived")
