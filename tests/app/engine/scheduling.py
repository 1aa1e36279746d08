"""A scheduler, sequences for it, and a clock that stands until it is set."""

import numpy as np

from app.engine.scheduler import Chunk, Scheduler
from app.engine.sequence import Sequence


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(
    lanes: int = 1,
    slots: int = 2,
    waiting: int = 100,
    steps: int = 16,
    clock: Clock | None = None,
    waiting_steps: int = 10**9,
) -> Scheduler:
    return Scheduler(lanes, slots, waiting, waiting_steps, steps, clock or Clock())


def sequences(*lengths: int, deadline: float = float("inf")) -> list[Sequence]:
    return [Sequence(np.zeros((length, 1), np.float32), deadline=deadline) for length in lengths]


def take(scheduler: Scheduler, lane: int = 0) -> Chunk:
    chunk = scheduler.next_chunk(lane)
    assert chunk is not None
    return chunk
