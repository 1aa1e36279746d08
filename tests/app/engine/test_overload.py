"""Goodput beyond the peak, in simulated time: a scheduler, and callers who do not wait for it.

A worker's event loop reads what has come, computes a chunk, answers, and so on; each has its price.
"""

import random
from collections import Counter
from heapq import heappop, heappush

import numpy as np
import pytest

from app.engine.cost_model import AMPLE, Cost
from app.engine.scheduler import Scheduler, Sizes
from app.engine.sequence import Sequence
from app.errors import Overloaded

# About 3 x LSTM 512 on a core, and a model that is ten times slower.
LARGE = Cost(1e-3, 2e-4, 1e-4)
SLOW = Cost(1e-2, 2e-3, 1e-3)
STEPS, DEADLINE_S, SECONDS = 40, 60.0, 40.0
# Seconds of the event loop for a sequence that is taken, or answered, and for a refusal.
TAKE_S, ANSWER_S, REFUSE_S = 1e-4, 1e-4, 2.5e-5


class Request:
    def __init__(self, came: float, sequences: list[Sequence]) -> None:
        self.came = came
        self.sequences = sequences
        self.left = len(sequences)
        self.is_over = False


class Simulation:
    """Time passes by what the event loop does; `found` counts how requests end."""

    def __init__(self, cost: Cost, per_request: int, patience_s: float) -> None:
        self.now = 0.0
        self.found: Counter[str] = Counter()
        self.cost = cost
        sizes = Sizes(1, 64, 64, 256, 4096, 4_000_000)
        self.scheduler = Scheduler(sizes, cost, lambda: self.now)
        self._per_request = per_request
        self._patience_s = patience_s
        self._requests: dict[Sequence, Request] = {}
        self._leave: list[tuple[float, int, Request]] = []

    def run(self, rate: float) -> float:
        """Good answers a second."""
        chance, self.now = random.Random(1), 0.0
        comes = chance.expovariate(rate)
        while self.now < SECONDS:
            while comes <= self.now:
                self._read(comes)
                comes += chance.expovariate(rate)
            self._let_go()
            if not self._compute():
                self.now = max(self.now, comes)
        return self.found["answered"] / SECONDS

    def _read(self, came: float) -> None:
        inputs = np.broadcast_to(np.float32(0), (STEPS, 1))
        new = [Sequence(inputs, deadline=self.now + DEADLINE_S) for _ in range(self._per_request)]
        try:
            self.scheduler.add(new)
        except Overloaded:
            self.found["refused"] += 1
            self.now += REFUSE_S
            return
        self.now += TAKE_S * len(new)
        request = Request(came, new)
        self._requests |= dict.fromkeys(new, request)
        heappush(self._leave, (came + self._patience_s, id(request), request))

    def _let_go(self) -> None:
        """Those whose patience is over hang up."""
        while self._leave and self._leave[0][0] <= self.now:
            *_, request = heappop(self._leave)
            if not request.is_over:
                request.is_over = True
                self.found["gave up"] += 1
                self.scheduler.cancel(request.sequences)

    def _compute(self) -> bool:
        chunk = self.scheduler.next_chunk()
        if chunk is not None:
            self.now += self.cost.chunk_s(len(chunk.sequences), max(chunk.steps))
            self.scheduler.advance(chunk)
        for sequence in self.scheduler.take_ended():
            request = self._requests.pop(sequence)
            request.left -= 1
            if request.left == 0 and not request.is_over:
                request.is_over = True
                self.now += ANSWER_S * self._per_request
                in_time = self.now - request.came <= self._patience_s
                self.found["answered" if in_time and sequence.error is None else "late"] += 1
        return chunk is not None


def peak_of(cost: Cost, per_request: int) -> float:
    """Requests a second where there are always enough for chunks as wide as the scheduler's."""
    rows = cost.enough_rows(64, enough=AMPLE)
    sequence_s = cost.chunk_s(rows, STEPS) / rows + TAKE_S + ANSWER_S
    return 1 / (sequence_s * per_request)


@pytest.mark.long
@pytest.mark.parametrize("is_patient", [True, False])
@pytest.mark.parametrize("factor", [2.0, 4.0, 10.0])
@pytest.mark.parametrize(
    ("cost", "per_request", "patience_s"),
    [(LARGE, 1, 2.0), (LARGE, 16, 2.0), (SLOW, 1, 20.0)],
    ids=["large, single", "large, 16 a request", "ten times slower"],
)
def test_as_much_is_answered_in_time_beyond_the_peak(
    cost: Cost, per_request: int, patience_s: float, factor: float, is_patient: bool
) -> None:
    """Of the time that refusals leave."""
    peak = peak_of(cost, per_request)
    simulation = Simulation(cost, per_request, DEADLINE_S if is_patient else patience_s)
    refusing = (factor - 1) * peak * REFUSE_S
    assert simulation.run(factor * peak) >= 0.9 * peak * (1 - refusing)
    assert simulation.found["late"] <= 0.01 * simulation.found["answered"] + 2
    # Few give up after they were taken: what they waited for is lost.
    assert simulation.found["gave up"] <= 0.3 * simulation.found["answered"]


def test_below_the_peak_nobody_is_refused() -> None:
    peak = peak_of(LARGE, 1)
    simulation = Simulation(LARGE, 1, 60.0)
    simulation.run(0.9 * peak)
    assert simulation.found.keys() == {"answered"}


def test_without_the_rule_for_overload_callers_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: what the tests above would see."""
    monkeypatch.setattr("app.engine.admission.EXCESS", float("inf"))
    peak = peak_of(LARGE, 1)
    simulation = Simulation(LARGE, 1, 2.0)
    assert simulation.run(4 * peak) < 0.7 * peak
