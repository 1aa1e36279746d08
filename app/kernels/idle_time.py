"""`IdleTime`: whether idle cores help just now. Other programs, too, may use them."""

import time
from collections.abc import Callable

# One thread computes the first and each so many-th of the chunks that several threads could: so it
# is known what it takes now.
SAMPLES = 32
# Where so many chunks together took several threads longer, one thread computes for so many
# seconds: twice as many each time.
WINDOW, REST_S, MOST_REST_S = 8, 0.1, 60.0


class IdleTime:
    """See the module.

    Args:
        clock: now, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # What one thread took, when last seen.
        self._alone = 0.0
        self._chunks = 0
        self._window: list[float] = []
        self._rests_until = 0.0
        self._rest_s = REST_S

    def is_used(self) -> bool:
        """Whether several threads compute the next chunk."""
        self._chunks += 1
        return self._chunks % SAMPLES != 1 and self._clock() >= self._rests_until

    def observe(self, together: bool, seconds: float) -> None:
        """Takes in how long a chunk took.

        Args:
            together: whether several threads computed it.
            seconds: that passed for each second that one thread was expected to take.
        """
        if not together:
            self._alone = seconds
            return
        self._window.append(seconds)
        if len(self._window) < WINDOW:
            return
        if sum(self._window) < WINDOW * self._alone:
            self._rest_s = REST_S
        else:
            self._rests_until = self._clock() + self._rest_s
            self._rest_s = min(2 * self._rest_s, MOST_REST_S)
        self._window.clear()
