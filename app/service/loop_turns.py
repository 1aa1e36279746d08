"""`LoopTurns`: bodies that take some time to read are read a few in a turn of the event loop.

One takes 2 or 3 ms at most, but a hundred callers may have sent one each, and the event loop would
read them all before it answers anybody else.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

# A body of fewer bytes takes less than 0.2 ms.
QUICK_BYTES = 8 << 10
# Seconds of a turn that are for the others.
TURN_S = 2e-3


class LoopTurns:
    """Calls functions in their order, as soon as this turn of the event loop has time for them.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent_s = 0.0
        self._next_is_due = False

    @property
    def are_due(self) -> bool:
        """Whether a function waits for its turn."""
        return bool(self._waiting)

    def call(self, function: Callable[[], None]) -> None:
        """Calls a function, now or in one of the next turns; it must not raise."""
        if self._waiting or self._spent_s >= TURN_S:
            self._waiting.append(function)
        else:
            self._run(function)
        if not self._next_is_due:
            self._next_is_due = True
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _run(self, function: Callable[[], None]) -> None:
        began = self._clock()
        function()
        self._spent_s += self._clock() - began

    def _begin_turn(self) -> None:
        self._spent_s = 0.0
        while self._waiting and self._spent_s < TURN_S:
            self._run(self._waiting.popleft())
        self._next_is_due = bool(self._waiting)
        if self._next_is_due:
            asyncio.get_running_loop().call_soon(self._begin_turn)
