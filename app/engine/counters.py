"""`Counters`: what an engine has done and has to do, as int64s that other processes may read."""

import ctypes

# Counters only rise; gauges say how it is now.
COUNTERS = ("chunks", "rows", "time_steps", "padding", "completed", "failed", "compilations")
GAUGES = ("waiting", "running")


class Counters(ctypes.Structure):
    """An int64 for each name. `rows / chunks` is the mean batch.

    `computed_at` is when the last chunk was computed, in nanoseconds of the monotonic clock.

    `Counters()` has memory of its own; `Counters.from_buffer` keeps them in that of others.
    """

    _fields_ = [(name, ctypes.c_int64) for name in (*COUNTERS, *GAUGES, "computed_at")]

    chunks: int
    rows: int
    time_steps: int
    padding: int
    completed: int
    failed: int
    compilations: int
    waiting: int
    running: int
    computed_at: int
