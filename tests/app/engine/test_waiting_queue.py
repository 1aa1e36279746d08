"""The waiting queue by itself: who lends a slot, and whose deadline is over."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.engine.sequence import Sequence
from app.engine.waiting_queue import WaitingQueue
from tests.app.engine.scheduling import sequences

SLOTS, LONG = 4, 10


def test_those_that_lend_their_slots_wait_in_their_order() -> None:
    """With several lanes a younger one may be put back after an older one."""
    queue = WaitingQueue(8, 100)
    large = sequences(*[80] * 20)
    for number, sequence in enumerate(large):
        sequence.number = number
    queue.add(large)
    assert [queue.take() for _ in range(8)] == large[:8]
    others = [sequences(3) for _ in range(2)]
    for number, other in enumerate(others, start=len(large)):
        other[0].number = number
        queue.add(other)
    assert [queue.lend(large[at]) for at in (5, 3)] == [other[0] for other in others]
    assert list(queue) == [large[3], large[5], *large[8:]]
    assert queue.large_running == 6


def test_a_sequence_that_lent_its_slot_expires_as_it_waits_again() -> None:
    queue = WaitingQueue(1, LONG)
    (lender,) = sequences(LONG + 1, deadline=5.0)
    queue.add([lender])
    assert queue.take() is lender
    queue.add(sequences(3, deadline=9.0))
    assert queue.late(5.0) == [], "it runs"
    queue.lend(lender)
    assert queue.late(5.0) == [lender]


class Deadlines(RuleBasedStateMachine):
    """Beside a list of all that wait, in which every deadline is looked at each time."""

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.queue = WaitingQueue(SLOTS, LONG)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.arrived = 0

    @rule(
        length=st.sampled_from([1, LONG + 1]),
        seconds=st.lists(st.integers(-1, 9) | st.just(float("inf")), min_size=1, max_size=3),
    )
    def add(self, length: int, seconds: list[float]) -> None:
        """Deadlines come in any order; some are over already."""
        inputs = np.zeros((length, 1), np.float32)
        new = [Sequence(inputs, deadline=self.now + left) for left in seconds]
        for sequence in new:
            self.arrived += 1
            sequence.number = self.arrived
        self.queue.add(new)
        self.waiting += new

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        sequence = self.queue.take()
        self.waiting.remove(sequence)
        self.running.append(sequence)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        sequence = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.queue.remove(sequence)

    @precondition(lambda self: self.queue.is_crowded_out)
    @rule()
    def lend(self) -> None:
        lender = next(sequence for sequence in self.running if sequence.large)
        self.running.remove(lender)
        borrower = self.queue.lend(lender)
        self.waiting.remove(borrower)
        self.waiting.append(lender)
        self.running.append(borrower)

    @precondition(lambda self: self.running)
    @rule()
    def leave(self) -> None:
        self.queue.large_running -= self.running.pop().large

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        late = self.queue.late(self.now)
        assert len(late) == len(set(late))
        assert set(late) == {s for s in self.waiting if s.deadline <= self.now}
        for sequence in late:
            self.queue.remove(sequence)
            self.waiting.remove(sequence)
        assert set(self.queue) == set(self.waiting)


TestDeadlines = Deadlines.TestCase
