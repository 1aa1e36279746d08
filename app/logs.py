"""`set_up`: the log of a process, on stderr, which nobody can fill."""

import logging
import time
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Lines of one place in the code within so many seconds; the trace of a request that fails is one.
MAX_LINES, PERIOD_S = 10, 60.0


def set_up() -> None:
    """Has this process log, unless it does already."""
    handler = logging.StreamHandler()
    handler.addFilter(FewOfAKind())
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=[handler])


class FewOfAKind(logging.Filter):
    """Leaves out further lines of a place in the code that has had many; the next one tells.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # By file and line: since when they are counted, and how many there were.
        self._counted: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        place, now = (record.pathname, record.lineno), self._clock()
        since, count = self._counted.get(place, (now, 0))
        if now - since >= PERIOD_S:
            if count > MAX_LINES:
                left_out = f" ({count - MAX_LINES} more lines like this were left out)"
                record.msg, record.args = record.getMessage() + left_out, None
            since, count = now, 0
        self._counted[place] = since, count + 1
        return count < MAX_LINES
