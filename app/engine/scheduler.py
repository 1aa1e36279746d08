"""`Scheduler`: which sequences run in the next chunk. No TensorFlow, no asyncio, no threads.

A sequence's way: waiting -> running (ready, in flight, ready, ...) -> ended. Whoever runs holds a
slot; sequences that are long or of large requests lend some of theirs to others. A chunk is led by
the ready sequence that has waited longest since its last chunk, so that nobody starves. Some of its
rows are for those who came first, so that long sequences do not wait through all of their turns;
the rest are those whose lengths waste least beside the leader. The engine collects the ended with
`take_ended`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest

from app.engine.cost_model import AMPLE, TYPICAL_STEPS, Cost
from app.engine.sequence import Sequence
from app.engine.waiting_queue import NUMBER, Line
from app.errors import Cancelled, Expired, Overloaded, UnrollError

# A chunk that takes so many times as long as expected is overdue.
PATIENCE = 10
# Where many are in line, a chunk takes one of so many of them, so that all soon have their turn.
TURNS = 3
# One row of so many is for who came first: those are the long ones, whose callers wait longest.
SENIORS = 4
# Who has more time steps than so many of the longest chunks, or than so many in all, is long: it
# would keep its slot from others for longer than they should wait.
LONG_CHUNKS, LONG_STEPS = 2, 512
# Who listens hears of a sequence after each of its chunks, so those are no longer than that.
LISTENED_STEPS = 64


@dataclass(frozen=True, eq=False)
class Chunk:
    """The next time steps of some of the running sequences.

    Attributes:
        sequences: one a row.
        steps: time steps of each row; row i is computed up to `min(steps, remaining)`.
        overdue: on the engine's clock in seconds; by then it should long have been computed.
    """

    sequences: tuple[Sequence, ...]
    steps: tuple[int, ...]
    overdue: float


@dataclass(frozen=True)
class Sizes:
    """How much the engine takes at once.

    Attributes:
        lanes: threads that compute chunks.
        slots: sequences that run at once.
        chunk_rows: most rows of a chunk.
        chunk_steps: most time steps of a chunk.
        waiting: most sequences waiting and running.
        waiting_steps: most time steps of them.
    """

    lanes: int
    slots: int
    chunk_rows: int
    chunk_steps: int
    waiting: int
    waiting_steps: int


class Scheduler:
    """Gives slots to waiting sequences, oldest first, and cuts chunks.

    Args:
        sizes: limits.
        cost: of chunks; decides how many rows and time steps they have.
        clock: now, in seconds; deadlines are on it.
    """

    def __init__(self, sizes: Sizes, cost: Cost, clock: Callable[[], float]) -> None:
        self.waiting = Line(sizes.slots, min(LONG_CHUNKS * sizes.chunk_steps, LONG_STEPS))
        # Running and not in flight, in the order of their last chunks.
        self.ready: deque[Sequence] = deque()
        self.in_flight: set[Chunk] = set()
        self.running = 0
        self._ended: list[Sequence] = []
        self._sizes = sizes
        self._cost = cost
        self._rows = cost.enough_rows(sizes.chunk_rows)
        self._rows_ample = cost.enough_rows(sizes.chunk_rows, enough=AMPLE)
        # A call of few time steps wants more rows to be worth its price.
        self._rows_of_short = [
            cost.enough_rows(sizes.chunk_rows, steps) for steps in range(1, TYPICAL_STEPS)
        ]
        # Sequences that will come: room is kept for them.
        self.expected = 0
        self._steps = 0
        self._arrived = 0
        self._oldest_leads = False
        self._clock = clock

    def __len__(self) -> int:
        """Sequences waiting and running."""
        return len(self.waiting) + self.running

    @property
    def has_work(self) -> bool:
        """Whether a free lane should start a chunk now.

        While others compute, it waits for as many rows as the smallest of their chunks has: a few
        rows cost nearly as much as many. So lone callers are computed at once, side by side, and
        under load chunks grow until they are large enough.
        """
        ready = len(self.ready) + min(len(self.waiting), self._sizes.slots - self.running)
        now = self._clock()
        # Nobody waits for a lane that hangs.
        sizes = [len(chunk.sequences) for chunk in self.in_flight if chunk.overdue > now]
        smallest = min(sizes, default=1)
        return len(self.in_flight) < self._sizes.lanes and ready >= min(smallest, self._rows)

    @property
    def holds_back(self) -> bool:
        """Whether a lane is free, and somebody waits nevertheless."""
        return len(self.in_flight) < self._sizes.lanes and bool(self.ready or self.waiting)

    def add(self, sequences: list[Sequence]) -> None:
        """Takes all of a request's sequences into the waiting line, or none.

        Raises:
            Overloaded: they do not fit.
        """
        steps = sum(len(sequence.inputs) for sequence in sequences)
        self.check_room(len(sequences), steps)
        self._steps += steps
        for sequence in sequences:
            self._arrived += 1
            sequence.number = self._arrived
        self.waiting.add(sequences)

    def check_room(self, count: int, steps: int) -> None:
        """Whether so many more sequences, of so many time steps together, fit.

        Raises:
            Overloaded: they do not.
        """
        for what, held, asked, limit in (
            ("sequences", len(self) + self.expected, count, self._sizes.waiting),
            ("time steps", self._steps, steps, self._sizes.waiting_steps),
        ):
            if held + asked > limit:
                raise Overloaded(f"{held} {what} are waiting or running, the limit is {limit}")

    def keep_room(self, steps: int) -> None:
        """Counts a sequence of so many time steps that will come."""
        self.expected += 1
        self._steps += steps

    def give_room(self, steps: int) -> None:
        """Counts it no longer: it is there, or will not come."""
        self.expected -= 1
        self._steps -= steps

    def next_chunk(self) -> Chunk | None:
        """The next chunk for a lane that is free; None when none is, or it should wait."""
        self._drop_expired()
        if not self.has_work:
            return None
        self._fill()
        sequences = self._pick()
        remaining = [sequence.remaining for sequence in sequences]
        limit = self._cost.best_steps(sorted(remaining), self._most_steps(sequences))
        patience_s = PATIENCE * self._cost.chunk_s(len(sequences), limit)
        chunk = Chunk(
            sequences,
            tuple([min(limit, left) for left in remaining]),
            self._clock() + patience_s,
        )
        for sequence in sequences:
            sequence.place = "in flight"
        self.in_flight.add(chunk)
        return chunk

    def advance(self, chunk: Chunk) -> None:
        """Takes a computed chunk back: moves cursors, frees the slots of those that ended."""
        self.in_flight.remove(chunk)
        for sequence, steps in zip(chunk.sequences, chunk.steps, strict=True):
            if sequence.error is None:
                sequence.cursor += steps
            if sequence.ended:
                self._free(sequence)
            else:
                sequence.place = "ready"
                self.ready.append(sequence)

    def cancel(self, sequences: Iterable[Sequence], error: UnrollError | None = None) -> None:
        """Ends sequences whose caller has gone; one in flight leaves with its chunk."""
        for sequence in sequences:
            if sequence.place == "ended" or sequence.ended:
                continue
            sequence.error = error or Cancelled("the caller has gone")
            if sequence.place == "waiting":
                self.waiting.remove(sequence)
                self._end(sequence)
            elif sequence.place == "ready":
                self.ready.remove(sequence)
                self._free(sequence)

    def cancel_all(self, error: UnrollError) -> None:
        """Ends everything with `error`."""
        flying = [sequence for chunk in self.in_flight for sequence in chunk.sequences]
        self.cancel([*self.waiting, *self.ready, *flying], error)

    def take_ended(self) -> list[Sequence]:
        """The sequences that ended since the last call, complete or with an error."""
        ended, self._ended = self._ended, []
        return ended

    def _free(self, sequence: Sequence) -> None:
        self.running -= 1
        self.waiting.has_left(sequence)
        self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        sequence.place = "ended"
        self._steps -= len(sequence.inputs)
        self._ended.append(sequence)

    def _drop_expired(self) -> None:
        now = self._clock()
        # All wait equally long, so the line is in the order of deadlines.
        late = self.waiting.late(now)
        self.cancel(late, Expired("its time ran out in the waiting line"))
        late = [sequence for sequence in self.ready if sequence.deadline <= now]
        self.cancel(late, Expired("its time ran out before its last time step"))

    def _fill(self) -> None:
        """Gives free slots to those who wait, and some of the slots of large sequences."""
        # Who gets its slot only now has a chunk first, else it would never go on. The youngest of
        # the others lend first, and go on later, where they were.
        givers = sorted((sequence for sequence in self.ready if sequence.large), key=NUMBER)
        while self.waiting and self.running < self._sizes.slots:
            self._admit(self.waiting.take())
        while givers and self.waiting.is_crowded_out:
            giver = givers.pop()
            self.ready.remove(giver)
            self.running -= 1
            self._admit(self.waiting.lend(giver))

    def _admit(self, sequence: Sequence) -> None:
        sequence.place = "ready"
        self.ready.append(sequence)
        self.running += 1

    def _pick(self) -> tuple[Sequence, ...]:
        """Takes the rows of a chunk from the ready: a fair share for a lane, alike in length."""
        free_lanes = self._sizes.lanes - len(self.in_flight)
        rows = min(self._most_rows(), -(-len(self.ready) // free_lanes))
        if rows == len(self.ready):
            picked = tuple(self.ready)
            self.ready.clear()
            return picked
        longest = self._sizes.chunk_steps
        lengths = {s: min(s.remaining, longest) for s in self.ready}
        leader = self.ready[0]
        seniors = nsmallest(rows // SENIORS, self.ready, key=NUMBER)
        taken = {leader, *seniors}
        # Sorting is stable: of those alike, the one that is ready longest.
        alike = sorted(self.ready, key=lambda other: abs(lengths[other] - lengths[leader]))
        for other in alike:
            if len(taken) == rows:
                break
            taken.add(other)
        picked = tuple(sequence for sequence in self.ready if sequence in taken)
        self.ready = deque(sequence for sequence in self.ready if sequence not in taken)
        return picked

    def _most_steps(self, sequences: tuple[Sequence, ...]) -> int:
        """How many time steps a chunk of them may have."""
        most = self._sizes.chunk_steps
        listened = any(sequence.listener is not None for sequence in sequences)
        return min(most, LISTENED_STEPS) if listened else most

    def _most_rows(self) -> int:
        """How many rows the next chunk may have.

        More where all end soon, or at the same step, or where so many are in line that what they
        wait for is the kernel's rate rather than the chunk beside them.
        """
        steps = self.ready[0].remaining
        if steps < TYPICAL_STEPS and all(s.remaining <= steps for s in self.ready):
            return self._rows_of_short[steps - 1]
        if all(s.remaining == steps for s in self.ready):
            return self._rows_ample
        in_line = len(self.ready) + len(self.waiting)
        return min(self._rows_ample, max(self._rows, in_line // TURNS))
