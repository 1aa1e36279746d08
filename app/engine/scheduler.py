"""`Scheduler`: which sequences run in the next chunk. No TensorFlow, no asyncio, no threads.

A sequence's way: waiting -> running (ready, in flight, ready, ...) -> ended. A running sequence
holds a slot; sequences that are long or of large requests lend some of theirs to others. A chunk is
led by the ready sequence that has waited longest since its last chunk, so that none starves; where
there are several callers, by one of the caller whose turn it is (`FairShare`). Some of the chunk's
rows are for the sequences that arrived first, so that long ones do not wait through all of their
turns; the rest are those whose lengths waste least beside the leader. The engine collects the ended
sequences with `take_ended`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest

from app.engine.admission import AdmissionControl
from app.engine.cost_model import AMPLE, MIN_STEPS, SHARED_QUANTUM_S, TYPICAL_STEPS, Cost
from app.engine.fair_share import FairShare
from app.engine.sequence import Sequence
from app.engine.waiting_queue import BY_ARRIVAL, LARGE, WaitingQueue
from app.errors import Cancelled, Expired, UnrollError

# A chunk that takes so many times as long as expected is overdue.
PATIENCE = 10
# Where many sequences wait, a chunk takes a third of them, so that all soon have their turn.
TURNS = 3
# A quarter of a chunk's rows is for the sequences that arrived first: those are the long ones,
# whose callers wait longest.
SENIORS = 4
# A sequence of more time steps than so many of the longest chunks, or than so many in all, is long:
# it would keep its slot from others for longer than they should wait.
LONG_CHUNKS, LONG_STEPS = 2, 512
# A sequence with a listener is cut after so many time steps: its caller reads each chunk's outputs
# as they come.
LISTENED_STEPS = 64


@dataclass(frozen=True, eq=False)
class Chunk:
    """The next time steps of some of the running sequences.

    Attributes:
        sequences: one a row.
        steps: time steps of each row; row i is computed up to `min(steps, remaining)`.
        began: on the engine's clock in seconds.
    """

    sequences: tuple[Sequence, ...]
    steps: tuple[int, ...]
    began: float


@dataclass(frozen=True)
class Sizes:
    """How much the engine takes at once.

    Attributes:
        lanes: threads that compute chunks.
        slots: sequences that run at once.
        chunk_rows: most rows of a chunk.
        chunk_steps: most time steps of a chunk.
        waiting: most sequences that are admitted: waiting, running and expected.
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
        self.waiting = WaitingQueue(sizes.slots, min(LONG_CHUNKS * sizes.chunk_steps, LONG_STEPS))
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
        # So many sequences are in the next chunk whatever else there is, and none of them is large.
        self._at_once = min(self._rows, sizes.slots // LARGE)
        all_rows = range(1, sizes.chunk_rows + 1)
        self._steps_of_rows = [cost.most_steps(rows, sizes.chunk_steps) for rows in all_rows]
        self._steps_of_rows_shared = [
            cost.most_steps(rows, sizes.chunk_steps, SHARED_QUANTUM_S) for rows in all_rows
        ]
        self.admission = AdmissionControl(
            sizes.waiting, sizes.waiting_steps, cost, self._rows_ample, clock
        )
        self._arrived = 0
        self._clock = clock
        # Since when there has always been enough for a full chunk; None while there is not.
        self._full_since: float | None = None
        self._share = FairShare()
        # Whether the last slot, while there is more than can be computed, went to a new sequence.
        self._took_newest = False

    def __len__(self) -> int:
        """Sequences waiting and running."""
        return self.waiting.size + self.running

    @property
    def is_shared(self) -> bool:
        """Whether several callers have sequences, or had some a moment ago."""
        return self._clock() < self._share.until

    @property
    def has_work(self) -> bool:
        """Whether a free lane should start a chunk now.

        While other lanes compute, it waits for as many rows as the smallest of their chunks has: a
        few rows cost nearly as much as many. So lone callers are computed at once, side by side,
        and under load chunks grow until they are large enough.
        """
        ready = len(self.ready) + min(self.waiting.size, self._sizes.slots - self.running)
        if not self.in_flight:
            return ready > 0
        now = self._clock()
        # A free lane does not wait for one that hangs.
        sizes = [len(chunk.sequences) for chunk in self.in_flight if not self.hangs(chunk, now)]
        smallest = min(sizes, default=1)
        return len(self.in_flight) < self._sizes.lanes and ready >= min(smallest, self._rows)

    def hangs(self, chunk: Chunk, now: float) -> bool:
        """Whether a chunk should long have been computed."""
        expected_s = self._cost.chunk_s(len(chunk.sequences), max(chunk.steps))
        return now >= chunk.began + PATIENCE * expected_s

    @property
    def holds_back(self) -> bool:
        """Whether a lane is free, and a sequence waits nevertheless."""
        return len(self.in_flight) < self._sizes.lanes and bool(self.ready or self.waiting.size)

    def add(self, sequences: list[Sequence], expected: bool = False) -> None:
        """Takes all of a request's sequences into the waiting queue, or none.

        Args:
            sequences: new ones, at least one.
            expected: they are admitted already, and stay so when they have ended.

        Raises:
            Overloaded: they do not fit.
        """
        if not expected:
            steps = sum([len(sequence.inputs) for sequence in sequences])
            first = sequences[0]
            left_s = first.deadline - self._clock()
            self.admission.take(len(sequences), steps, first.caller, left_s)
        for sequence in sequences:
            self._arrived += 1
            sequence.number = self._arrived
            sequence.remaining = len(sequence.inputs)
            sequence.keeps_room = expected
        if self._run_at_once(sequences):
            return
        self.waiting.add(sequences)

    def _run_at_once(self, sequences: list[Sequence]) -> bool:
        """Gives slots to new sequences if they would have them in the next chunk anyway."""
        if self.waiting.size or self.running + len(sequences) > self._at_once:
            return False
        if any(len(sequence.inputs) > self.waiting.long for sequence in sequences):
            return False
        for sequence in sequences:
            self._run(sequence)
        return True

    def release(self, steps: int, caller: str, last: Sequence | None) -> None:
        """Gives back the room that was kept for a piece.

        Args:
            steps: its time steps.
            caller: who sent it.
            last: its last sequence, if it had any; one that has not ended has the room till then.
        """
        if last is None or last.status == "ended":
            self.admission.give_back(steps, 0, caller)
        else:
            last.keeps_room = False

    def next_chunk(self) -> Chunk | None:
        """The next chunk for a lane that is free; None when none is, or it should wait."""
        if not self.ready and not self.waiting.size:
            return None
        now = self._clock()
        self._drop_expired(now)
        if not self.has_work:
            return None
        self._fill()
        callers, leader = self.admission.num_callers, self.ready[0]
        if callers > 1:
            leader = self._share.leader(self.ready, callers, now)
        sequences = self._pick(leader)
        remaining = [sequence.remaining for sequence in sequences]
        most, longest = self._most_steps(sequences, now), max(remaining)
        if min(remaining) == longest:
            # As nearly always, and so it would be by the costs.
            limit = min(longest, most)
        else:
            limit = self._cost.best_steps(sorted(remaining), most)
        if callers > 1:
            # It ends with its leader: who leads the next one waits for nobody who rides along.
            limit = min(limit, max(leader.remaining, MIN_STEPS))
        chunk = Chunk(sequences, tuple([min(limit, left) for left in remaining]), now)
        for sequence in sequences:
            sequence.status = "in flight"
        self.in_flight.add(chunk)
        if now < self._share.until:
            self._share.charge(sequences, chunk.steps)
        return chunk

    def advance(self, chunk: Chunk) -> None:
        """Takes a computed chunk back: moves cursors, frees the slots of sequences that ended."""
        self.in_flight.remove(chunk)
        computed = [n for s, n in zip(chunk.sequences, chunk.steps, strict=True) if not s.error]
        self._measure(chunk, sum(computed))
        for sequence, steps in zip(chunk.sequences, chunk.steps, strict=True):
            if sequence.error is None:
                sequence.cursor += steps
                sequence.remaining -= steps
            if sequence.error is not None or not sequence.remaining:
                self._free(sequence)
            else:
                sequence.status = "ready"
                self.ready.append(sequence)

    def cancel(self, sequences: Iterable[Sequence], error: UnrollError | None = None) -> None:
        """Ends sequences whose caller has gone; one in flight ends when its chunk is computed."""
        for sequence in sequences:
            if sequence.status == "ended" or sequence.error is not None:
                continue
            sequence.error = error or Cancelled("the caller has gone")
            if sequence.status == "waiting":
                self.waiting.remove(sequence)
                self._end(sequence)
            elif sequence.status == "ready":
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
        self.waiting.large_running -= sequence.large
        self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        sequence.status = "ended"
        if sequence.keeps_room:
            # It may be computed again.
            self.admission.restore(sequence.cursor)
        else:
            self.admission.give_back(len(sequence.inputs), sequence.cursor, sequence.caller)
        self._ended.append(sequence)

    def _measure(self, chunk: Chunk, steps: int) -> None:
        """Tells how long the work of a chunk took, if there was enough all the time.

        Args:
            chunk: computed.
            steps: time steps of it that count.
        """
        now = self._clock()
        self.admission.compute(steps)
        if self._full_since is not None:
            self.admission.pace.measure(now - self._full_since, steps * self.admission.step_s)
        is_full = self.waiting.size + len(self.ready) + len(chunk.sequences) >= self._rows_ample
        self._full_since = now if is_full else None

    def _drop_expired(self, now: float) -> None:
        if self.waiting.earliest <= now and (late := self.waiting.late(now)):
            self.cancel(late, Expired("its time ran out in the waiting queue"))
        if late := [sequence for sequence in self.ready if sequence.deadline <= now]:
            self.cancel(late, Expired("its time ran out before its last time step"))

    def _fill(self) -> None:
        """Gives free slots to waiting sequences, and lends them some that large ones hold."""
        # A large sequence that gets its slot only now keeps it for a chunk, else it would never go
        # on. The youngest of the others lend first, and go on later from where they were.
        if not self.waiting.size:
            return
        lenders = sorted((sequence for sequence in self.ready if sequence.large), key=BY_ARRIVAL)
        is_overloaded = self.admission.is_overloaded
        while self.waiting.size and self.running < self._sizes.slots:
            # While there is more than can be computed, those who came last are served as well as
            # those who came first, whose callers may be about to give up.
            self._took_newest = is_overloaded and not self._took_newest
            self._run(self.waiting.take(self._took_newest))
        while lenders and self.waiting.is_crowded_out:
            lender = lenders.pop()
            self.ready.remove(lender)
            self.running -= 1
            self._run(self.waiting.lend(lender))
        if self.admission.num_callers > 1:
            self._lend_to_callers()

    def _lend_to_callers(self) -> None:
        """Gives a slot to each caller who waits and has none."""
        flying = [sequence for chunk in self.in_flight for sequence in chunk.sequences]
        while self.waiting.size:
            lender = self._share.lender(self.waiting.next_caller, self.ready, flying)
            if lender is None:
                return
            self.ready.remove(lender)
            self.running -= 1
            self._run(self.waiting.take())
            self.waiting.put_back(lender)

    def _run(self, sequence: Sequence) -> None:
        sequence.status = "ready"
        self.ready.append(sequence)
        self.running += 1

    def _pick(self, leader: Sequence) -> tuple[Sequence, ...]:
        """Takes the rows of a chunk from `ready`: a fair share for a lane, alike in length."""
        free_lanes = self._sizes.lanes - len(self.in_flight)
        rows = min(self._most_rows(), -(-len(self.ready) // free_lanes))
        if rows == len(self.ready):
            picked = tuple(self.ready)
            self.ready.clear()
            return picked
        longest = self._sizes.chunk_steps
        lengths = {s: min(s.remaining, longest) for s in self.ready}
        seniors = nsmallest(rows // SENIORS, self.ready, key=BY_ARRIVAL)
        taken = {leader, *seniors}
        # Sorting is stable: of sequences alike, the one that is ready longest comes first.
        alike = sorted(self.ready, key=lambda other: abs(lengths[other] - lengths[leader]))
        for other in alike:
            if len(taken) == rows:
                break
            taken.add(other)
        picked = tuple(sequence for sequence in self.ready if sequence in taken)
        self.ready = deque(sequence for sequence in self.ready if sequence not in taken)
        return picked

    def _most_steps(self, sequences: tuple[Sequence, ...], now: float) -> int:
        """How many time steps a chunk of these sequences may have."""
        of_rows = self._steps_of_rows_shared if now < self._share.until else self._steps_of_rows
        most = of_rows[len(sequences) - 1]
        listened = any(sequence.listener is not None for sequence in sequences)
        return min(most, LISTENED_STEPS) if listened else most

    def _most_rows(self) -> int:
        """How many rows the next chunk may have.

        More where all end soon, or at the same time step, or where so many wait, or come, that the
        kernel's rate holds them up rather than the chunk before theirs.
        """
        steps = self.ready[0].remaining
        if steps < TYPICAL_STEPS and all(s.remaining <= steps for s in self.ready):
            return self._rows_of_short[steps - 1]
        if all(s.remaining == steps for s in self.ready) or self.admission.is_overloaded:
            return self._rows_ample
        queued = len(self.ready) + self.waiting.size
        return min(self._rows_ample, max(self._rows, queued // TURNS))
