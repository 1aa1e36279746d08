"""A scheduler, sequences for it, and a clock that stands until it is set."""

import numpy as np
from hypothesis import strategies as st

from app.engine.cost_model import Cost
from app.engine.scheduler import Chunk, Scheduler, Sizes
from app.engine.sequence import Sequence
from tests.app.fakes import WIDE

# Time steps cost nearly all there is, so none is computed in vain; four rows are enough.
FREE_CALLS = Cost(call_s=1e-9, time_step_s=1e-4, row_step_s=1.1e-4)

# From nothing at all to what no kernel costs; a call has always a price.
_step_s = st.just(0.0) | st.floats(1e-9, 1e-1)
costs = st.builds(Cost, call_s=st.floats(1e-9, 1e-1), time_step_s=_step_s, row_step_s=_step_s)
# The same of kernels so quick that nobody is refused because others wait.
quick_costs = st.builds(
    Cost,
    call_s=st.floats(1e-9, 1e-5),
    time_step_s=st.floats(0.0, 1e-5),
    row_step_s=st.floats(0.0, 1e-5),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(
    lanes: int = 1,
    rows: int = 2,
    slots: int | None = None,
    steps: int = 16,
    waiting: int = 100,
    waiting_steps: int = 10**9,
    cost: Cost = WIDE,
    clock: Clock | None = None,
) -> Scheduler:
    """Slots for full chunks in all lanes unless told."""
    slots = lanes * rows if slots is None else slots
    return Scheduler(
        Sizes(lanes, slots, rows, steps, waiting, waiting_steps), cost, clock or Clock()
    )


def sequences(*lengths: int, deadline: float = float("inf"), caller: str = "") -> list[Sequence]:
    return [
        Sequence(np.zeros((length, 1), np.float32), deadline=deadline, caller=caller)
        for length in lengths
    ]


def take(scheduler: Scheduler) -> Chunk:
    chunk = scheduler.next_chunk()
    assert chunk is not None
    return chunk
