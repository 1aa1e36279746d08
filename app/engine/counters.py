"""`Counters`: what an engine has done and has to do, in words that other processes may read."""

from typing import Any

# Counters only rise; gauges say how it is now.
COUNTERS = ("chunks", "rows", "time_steps", "padding", "completed", "failed", "compilations")
GAUGES = ("waiting", "running")


def _word(name: str) -> Any:
    index = (*COUNTERS, *GAUGES).index(name)

    def read(self: "Counters") -> int:
        return self.words[index]

    def write(self: "Counters", value: int) -> None:
        self.words[index] = value

    return property(read, write)


class Counters:
    """One attribute a name. `rows / chunks` is the mean batch.

    Args:
        words: where to keep them, int64 `[len(COUNTERS) + len(GAUGES)]`; memory of its own if None.
    """

    chunks = _word("chunks")
    rows = _word("rows")
    time_steps = _word("time_steps")
    padding = _word("padding")
    completed = _word("completed")
    failed = _word("failed")
    compilations = _word("compilations")
    waiting = _word("waiting")
    running = _word("running")

    def __init__(self, words: memoryview | None = None) -> None:
        size = len(COUNTERS) + len(GAUGES)
        self.words = words if words is not None else memoryview(bytearray(8 * size)).cast("q")
