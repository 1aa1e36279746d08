"""The scheduler under any order of calls: what must hold whatever happens when."""

from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.engine.scheduler import Chunk, Scheduler
from app.engine.sequence import Sequence
from app.errors import Overloaded, RunFailed

TIMEOUT_S = 10.0
MAX_LENGTH = 40


class Calls(RuleBasedStateMachine):
    """Calls as the engine makes them: a lane returns its chunk before it asks for the next."""

    @initialize(
        lanes=st.integers(1, 3),
        slots=st.integers(1, 3),
        max_waiting=st.integers(1, 12),
        max_waiting_steps=st.sampled_from([MAX_LENGTH, 5 * MAX_LENGTH]),
        max_steps=st.integers(1, 20),
    )
    def start(
        self, lanes: int, slots: int, max_waiting: int, max_waiting_steps: int, max_steps: int
    ) -> None:
        self.now = 0.0
        self.lanes, self.slots, self.max_steps = lanes, slots, max_steps
        self.max_waiting, self.max_waiting_steps = max_waiting, max_waiting_steps
        self.scheduler = Scheduler(
            lanes, slots, max_waiting, max_waiting_steps, max_steps, lambda: self.now
        )
        self.added: list[Sequence] = []
        self.ended: Counter[Sequence] = Counter()
        self.admitted: set[Sequence] = set()
        self.in_flight: dict[int, Chunk] = {}

    @rule(lengths=st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=5))
    def add(self, lengths: list[int]) -> None:
        deadline = self.now + TIMEOUT_S
        new = [Sequence(np.zeros((length, 1), np.float32), deadline=deadline) for length in lengths]
        before = len(self.scheduler)
        left = [s for s in self.added if s not in self.ended]
        steps = sum(len(s.inputs) for s in left) + sum(lengths)
        try:
            self.scheduler.add(new)
        except Overloaded:
            fits = False
        else:
            fits = True
            self.added += new
        few, short = before + len(new) <= self.max_waiting, steps <= self.max_waiting_steps
        assert fits == (few and short)
        assert len(self.scheduler) == before + fits * len(new)

    @rule(lane=st.integers(0, 2))
    def next_chunk(self, lane: int) -> None:
        lane %= self.lanes
        if lane in self.in_flight:
            return
        elsewhere = {s for chunk in self.in_flight.values() for s in chunk.sequences}
        chunk = self.scheduler.next_chunk(lane)
        running = list(self.scheduler.running[lane].values())
        if chunk is None:
            assert not running
            return
        self.in_flight[lane] = chunk
        assert list(chunk.sequences) == running, "whoever runs, runs in every chunk"
        assert not elsewhere & set(chunk.sequences), "a sequence is in two chunks at once"
        assert len(chunk.sequences) <= self.slots
        for sequence, steps in zip(chunk.sequences, chunk.steps, strict=True):
            assert not sequence.ended
            assert sequence.deadline > self.now
            assert 1 <= steps <= min(self.max_steps, sequence.remaining)
        if self.scheduler.waiting:
            full = all(len(held) == self.slots for held in self.scheduler.running)
            assert full, "somebody waits beside a free slot"
            assert self.scheduler.waiting[0].deadline > self.now

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.in_flight)), label="lane")
        chunk = self.in_flight.pop(lane)
        failed = data.draw(st.sets(st.sampled_from(chunk.sequences), max_size=1), label="failed")
        for sequence in failed:
            sequence.error = sequence.error or RunFailed("the kernel failed")
        expected = [
            sequence.cursor + (steps if sequence.error is None else 0)
            for sequence, steps in zip(chunk.sequences, chunk.steps, strict=True)
        ]
        self.scheduler.advance(chunk)
        assert [sequence.cursor for sequence in chunk.sequences] == expected

    @precondition(lambda self: self.added)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Any of them, those that have ended too: a caller does not know."""
        indices = st.integers(0, len(self.added) - 1)
        chosen = data.draw(st.sets(indices, min_size=1, max_size=3), label="cancelled")
        self.scheduler.cancel([self.added[index] for index in chosen])

    @rule(seconds=st.sampled_from([1.0, 4.0, TIMEOUT_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def everything_is_in_its_place(self) -> None:
        self.ended.update(self.scheduler.take_ended())
        assert set(self.ended.values()) <= {1}, "a sequence ended twice"
        assert all(sequence.ended and sequence.slot is None for sequence in self.ended)
        waiting = list(self.scheduler.waiting)
        running = [s for lane in self.scheduler.running for s in lane.values()]
        assert len(self.scheduler) == len(waiting) + len(running)
        assert Counter([*waiting, *running, *self.ended]) == Counter(self.added), "one got lost"
        for lane in self.scheduler.running:
            for slot, sequence in lane.items():
                assert sequence.slot == slot
                assert 0 <= slot < self.slots
        flying = {s for chunk in self.in_flight.values() for s in chunk.sequences}
        assert flying <= set(running), "a slot was freed while its lane still computes"

    @invariant()
    def nobody_overtakes_in_the_line(self) -> None:
        order = {sequence: place for place, sequence in enumerate(self.added)}
        waiting = [order[sequence] for sequence in self.scheduler.waiting]
        assert waiting == sorted(waiting)
        self.admitted |= {s for lane in self.scheduler.running for s in lane.values()}
        last = max((order[sequence] for sequence in self.admitted), default=-1)
        assert all(place > last for place in waiting)

    def teardown(self) -> None:
        """Lanes that keep going end everything, in chunks of at least one time step each."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(2 + len(self.added) * MAX_LENGTH):
            for lane in range(self.lanes):
                if lane in self.in_flight:
                    self.scheduler.advance(self.in_flight.pop(lane))
                self.next_chunk(lane)
            self.everything_is_in_its_place()
            self.nobody_overtakes_in_the_line()
            if not len(self.scheduler):
                break
        assert len(self.scheduler) == 0
        assert set(self.ended) == set(self.added)
        for sequence in self.added:
            assert (sequence.error is None) == (sequence.remaining == 0)


TestCallsInAnyOrder = Calls.TestCase
TestCallsInAnyOrder.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
