"""The scheduler under any order of calls: what must hold whatever happens when."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.engine.cost_model import AMPLE, MIN_STEPS, QUANTUM_S, TYPICAL_STEPS, Cost
from app.engine.scheduler import SENIORS, TURNS, Chunk, Scheduler, Sizes
from app.engine.sequence import Sequence
from app.engine.waiting_queue import LARGE
from app.errors import Overloaded, RunFailed
from tests.app.engine.scheduling import costs

TIMEOUT_S = 10.0
MAX_LENGTH = 40

# Of the error of a request that fits, but could not be answered in time.
TOO_LATE = "would wait"


def refusal_of(call: Callable[[], None]) -> str:
    try:
        call()
    except Overloaded as error:
        return str(error)
    return ""


class Calls(RuleBasedStateMachine):
    """Calls as the engine makes them: a lane returns its chunk before it asks for the next."""

    @initialize(
        sizes=st.builds(
            Sizes,
            lanes=st.integers(1, 3),
            slots=st.integers(1, 9),
            chunk_rows=st.integers(1, 5),
            chunk_steps=st.integers(1, 20),
            waiting=st.integers(1, 12),
            waiting_steps=st.sampled_from([MAX_LENGTH, 5 * MAX_LENGTH]),
        ),
        cost=costs,
    )
    def start(self, sizes: Sizes, cost: Cost) -> None:
        self.now = 0.0
        self.sizes, self.cost = sizes, cost
        self.scheduler = Scheduler(sizes, cost, lambda: self.now)
        self.added: list[Sequence] = []
        self.ended: Counter[Sequence] = Counter()
        self.admitted: set[Sequence] = set()
        self.in_flight: list[Chunk] = []
        # Pieces that were promised room: their time steps, and the sequence they have sent, if any.
        self.pieces: list[tuple[int, Sequence | None]] = []
        self.was_overloaded = False
        # How many chunks have been cut while each has been ready.
        self.passed: Counter[Sequence] = Counter()

    def fits(self, *lengths: int) -> bool:
        """Room is taken by all that have not ended, and by pieces that may come or come again."""
        taken = [len(s.inputs) for s in self.added if s not in self.ended]
        for steps, sequence in self.pieces:
            if sequence is None or sequence in self.ended:
                taken.append(steps)
        few = len(taken) + len(lengths) <= self.sizes.waiting
        return few and sum(taken) + sum(lengths) <= self.sizes.waiting_steps

    def new(self, length: int, timeout_s: float = TIMEOUT_S) -> Sequence:
        return Sequence(np.zeros((length, 1), np.float32), deadline=self.now + timeout_s)

    @rule(lengths=st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=5))
    def add(self, lengths: list[int]) -> None:
        new = [self.new(length) for length in lengths]
        before, fits = len(self.scheduler), self.fits(*lengths)
        refused = refusal_of(lambda: self.scheduler.add(new))
        assert fits or refused
        assert not (fits and refused) or TOO_LATE in refused
        if not refused:
            self.added += new
        assert len(self.scheduler) == before + (not refused) * len(new)

    @rule(steps=st.integers(1, MAX_LENGTH))
    def admit_piece(self, steps: int) -> None:
        fits = self.fits(steps)
        refused = refusal_of(lambda: self.scheduler.admission.take(1, steps, left_s=TIMEOUT_S))
        assert fits or refused
        assert not (fits and refused) or TOO_LATE in refused
        if not refused:
            self.pieces.append((steps, None))

    @precondition(lambda self: self.pieces)
    @rule(data=st.data(), timeout_s=st.sampled_from([1.0, TIMEOUT_S]))
    def add_piece(self, data: st.DataObject, timeout_s: float) -> None:
        """It has waited elsewhere for a part of its time; it is never refused."""
        at = data.draw(st.integers(0, len(self.pieces) - 1), label="piece")
        steps, before = self.pieces[at]
        if before is None or before in self.ended:
            sequence = self.new(steps, timeout_s)
            self.scheduler.add([sequence], expected=True)
            self.added.append(sequence)
            self.pieces[at] = (steps, sequence)

    @precondition(lambda self: self.pieces)
    @rule(data=st.data())
    def release_piece(self, data: st.DataObject) -> None:
        """Its sequence may wait, run, or have ended."""
        at = data.draw(st.integers(0, len(self.pieces) - 1), label="piece")
        steps, last = self.pieces.pop(at)
        self.scheduler.release(steps, "", last)

    @precondition(lambda self: len(self.in_flight) < self.sizes.lanes)
    @rule()
    def next_chunk(self) -> None:
        flying = {s for chunk in self.in_flight for s in chunk.sequences}
        free_lanes = self.sizes.lanes - len(self.in_flight)
        ready = list(self.scheduler.ready)
        queued = [*ready, *self.scheduler.waiting]
        alive = [s for s in queued if s.deadline > self.now]
        self.was_overloaded |= self.scheduler.admission.is_overloaded
        chunk = self.scheduler.next_chunk()
        left = list(self.scheduler.ready)
        assert {s.status for s in queued if s not in alive} <= {"ended"}
        if chunk is None:
            self.check_wait(alive)
            return
        self.someone_waits_only_for_a_slot()
        self.in_flight.append(chunk)
        rows = chunk.sequences
        expected_s = self.cost.chunk_s(len(rows), max(chunk.steps))
        # Many times what it takes: the lane is not just slow.
        assert not self.scheduler.hangs(chunk, self.now + 5 * expected_s)
        assert self.scheduler.hangs(chunk, self.now + 20 * expected_s)
        assert len(set(rows)) == len(rows) == len(chunk.steps)
        assert not flying & set(rows), "a sequence is in two chunks at once"
        assert not set(left) & set(rows)
        for sequence, steps in zip(rows, chunk.steps, strict=True):
            assert sequence.error is None
            assert sequence.status == "in flight"
            assert sequence.deadline > self.now
            assert 1 <= steps <= min(self.sizes.chunk_steps, sequence.remaining)
        self.check_share(rows, [*rows, *left], free_lanes, len(alive))
        self.check_length(chunk)
        given = [s for s in ready if s.status == "waiting"]
        were_ready = [s for s in ready if s in alive and s not in given]
        # Who has been ready for longest, then those who have got a slot just now.
        assert rows[0] is [*were_ready, rows[0]][0], "the leader is not the one that waited longest"
        for part in (list(rows), left):
            kept = [s for s in were_ready if s in part]
            assert part[: len(kept)] == kept, "who was ready has lost its place"
        self.check_alike(rows, left)
        self.check_slots(were_ready, given)
        for sequence in given:
            self.passed.pop(sequence, None)
        for sequence in left:
            self.passed[sequence] += 1
            assert self.passed[sequence] < self.sizes.slots, "it starves"
        for sequence in rows:
            del self.passed[sequence]

    def can_start(self, alive: list[Sequence]) -> bool:
        """Whether as many can run as a chunk under way has rows: all, if none is, or in time."""
        taken = sum(len(chunk.sequences) for chunk in self.in_flight)
        flying = [len(c.sequences) for c in self.in_flight if not self.scheduler.hangs(c, self.now)]
        ready = min(len(alive), self.sizes.slots - taken)
        enough = self.cost.enough_rows(self.sizes.chunk_rows)
        return ready >= min([enough, *flying] if flying else [1])

    def check_wait(self, alive: list[Sequence]) -> None:
        assert not self.can_start(alive), "somebody waits for nothing"
        assert not alive or self.in_flight, "nobody would ever wake who waits"

    def someone_waits_only_for_a_slot(self) -> None:
        if self.scheduler.waiting.size:
            full = self.scheduler.running == self.sizes.slots
            assert full, "somebody waits beside a free slot"
            assert next(iter(self.scheduler.waiting)).deadline > self.now

    def check_slots(self, had: list[Sequence], given: list[Sequence]) -> None:
        """Large ones have not all slots while others wait; they give none up for less.

        Who has its slot only now may have a chunk first: else it would not go on with a single one.
        """
        large = [s for s in self.added if s.large and s.status in ("ready", "in flight")]
        share = self.sizes.slots - max(1, self.sizes.slots // LARGE)
        others_wait = any(not s.large for s in self.scheduler.waiting)
        if others_wait and any(sequence.large for sequence in had):
            assert len(large) <= share, "others have no slot at all"
        if given:
            assert all(sequence.large for sequence in given)
            assert len(large) >= share

    def check_share(
        self, rows: tuple[Sequence, ...], ready: list[Sequence], free_lanes: int, queued: int
    ) -> None:
        """Enough rows for the kernel, but nobody has two beside a lane that has none."""
        most = self.sizes.chunk_rows
        assert len(rows) <= most
        lead, longest = rows[0].remaining, max(sequence.remaining for sequence in ready)
        if longest <= lead < TYPICAL_STEPS:
            enough = self.cost.enough_rows(most, lead)
        elif {sequence.remaining for sequence in ready} == {lead}:
            enough = self.cost.enough_rows(most, enough=AMPLE)
        else:
            enough = max(self.cost.enough_rows(most), queued // TURNS)
            enough = min(self.cost.enough_rows(most, enough=AMPLE), enough)
        assert len(rows) == min(enough, (len(ready) + free_lanes - 1) // free_lanes)

    def check_alike(self, rows: tuple[Sequence, ...], left: list[Sequence]) -> None:
        """Who came first is taken; of the others nobody left is nearer to the leader in length."""
        longest = self.sizes.chunk_steps
        seniors = sorted([*rows, *left], key=lambda other: other.number)[: len(rows) // SENIORS]
        assert set(seniors) <= set(rows)

        def distance(other: Sequence) -> int:
            return abs(min(other.remaining, longest) - min(rows[0].remaining, longest))

        farthest = max((distance(row) for row in rows if row not in seniors), default=0)
        assert all(distance(other) >= farthest for other in left)

    def check_length(self, chunk: Chunk) -> None:
        steps = max(chunk.steps)
        remaining = [s.remaining for s in chunk.sequences]
        # Every row goes as far as the chunk does, or ends in it.
        assert chunk.steps == tuple(min(steps, left) for left in remaining)
        # A chunk stops where a row ends or where a limit stops it, nowhere else.
        a_step = self.cost.time_step_s + len(remaining) * self.cost.row_step_s
        limit = min(self.sizes.chunk_steps, max(remaining))
        if steps not in remaining and steps != limit:
            assert (steps + 1) * a_step > QUANTUM_S
            assert steps >= MIN_STEPS
        assert steps <= MIN_STEPS or steps * a_step <= QUANTUM_S * (1 + 1e-9)
        if len(remaining) == 1 and limit * a_step <= QUANTUM_S:
            assert steps == limit, "a lone sequence is cut for nobody"

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.in_flight) - 1), label="chunk")
        chunk = self.in_flight.pop(index)
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
        assert all(sequence.status == "ended" for sequence in self.ended)
        assert self.scheduler.in_flight == set(self.in_flight)
        places = {
            "waiting": list(self.scheduler.waiting),
            "ready": list(self.scheduler.ready),
            "in flight": [s for chunk in self.in_flight for s in chunk.sequences],
            "ended": list(self.ended),
        }
        for place, held in places.items():
            assert {s.status for s in held} <= {place}
        found = Counter(s for held in places.values() for s in held)
        assert found == Counter(self.added), "one got lost, or is in two places"
        running = len(places["ready"]) + len(places["in flight"])
        assert self.scheduler.running == running <= self.sizes.slots
        assert len(self.scheduler) == len(places["waiting"]) + running
        outside = [steps for steps, last in self.pieces if last is None or last in self.ended]
        held = [len(s.inputs) for s in self.added if s not in self.ended] + outside
        capacity = self.scheduler.admission.held
        assert (capacity.sequences, capacity.steps) == (len(held), sum(held))
        free = len(self.in_flight) < self.sizes.lanes
        alive = [*places["ready"], *places["waiting"]]
        assert self.scheduler.has_work == (free and self.can_start(alive))

    @invariant()
    def nobody_overtakes_in_the_queue(self) -> None:
        """Of large ones, and of the others: these may overtake large ones.

        While there is more than can be computed, every other slot is for those who came last.
        """
        if self.was_overloaded:
            return
        self.admitted |= {s for s in self.added if s.status in ("ready", "in flight")}
        for large in (False, True):
            queued = [s for s in self.added if s.large == large]
            new = [s.status == "waiting" and s not in self.admitted for s in queued]
            if True in new:
                late = queued[new.index(True) :]
                assert not self.admitted & set(late), "a younger one has begun before it"

    def teardown(self) -> None:
        """Lanes that keep going end everything, in chunks of at least one time step each."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(2 + len(self.added) * MAX_LENGTH):
            if self.in_flight:
                self.scheduler.advance(self.in_flight.pop(0))
            while self.scheduler.has_work:
                before = len(self.scheduler)
                self.next_chunk()
                # Those who have expired meanwhile leave instead.
                assert self.in_flight or len(self.scheduler) < before
            self.everything_is_in_its_place()
            self.nobody_overtakes_in_the_queue()
            if not len(self.scheduler):
                break
        assert len(self.scheduler) == 0
        assert set(self.ended) == set(self.added)
        for sequence in self.added:
            assert (sequence.error is None) == (sequence.remaining == 0)


TestCallsInAnyOrder = Calls.TestCase
TestCallsInAnyOrder.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
