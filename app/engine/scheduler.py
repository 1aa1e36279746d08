"""`Scheduler`: which sequences run in the next chunk. No TensorFlow, no asyncio, no threads.

A sequence's way: waiting -> running in a slot of one lane -> ended. It stays in its lane and slot
to the end, so that its state stays where it is and the same request alone is always cut the same
way. The engine calls all methods under its lock and collects the ended with `take_ended`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.engine.sequence import Sequence
from app.errors import Cancelled, Expired, Overloaded, UnrollError

# Below this a chunk costs more in calls than early finishers would wait for.
MIN_CHUNK_STEPS = 8


@dataclass(frozen=True)
class Chunk:
    """The next time steps of every sequence that runs in a lane.

    Attributes:
        lane: the lane that computes it.
        sequences: one a row.
        steps: time steps of each row; row i is computed up to `min(steps, remaining)`.
    """

    lane: int
    sequences: tuple[Sequence, ...]
    steps: tuple[int, ...]


class Scheduler:
    """Puts waiting sequences into slots, oldest first, and cuts chunks.

    Args:
        num_lanes: lanes that call `next_chunk`.
        slots_per_lane: sequences that run in a lane at once.
        max_waiting: most sequences waiting and running.
        max_waiting_steps: most time steps of them.
        max_chunk_steps: most time steps of a chunk.
        clock: now, in seconds; deadlines are on it.
    """

    def __init__(
        self,
        num_lanes: int,
        slots_per_lane: int,
        max_waiting: int,
        max_waiting_steps: int,
        max_chunk_steps: int,
        clock: Callable[[], float],
    ) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[dict[int, Sequence]] = [{} for _ in range(num_lanes)]
        self._free = [list(range(slots_per_lane))[::-1] for _ in range(num_lanes)]
        self._in_flight: list[Chunk | None] = [None] * num_lanes
        self._ended: list[Sequence] = []
        self._max_waiting = max_waiting
        self._max_waiting_steps = max_waiting_steps
        self._steps = 0
        self._max_chunk_steps = max_chunk_steps
        self._clock = clock

    def __len__(self) -> int:
        """Sequences waiting and running."""
        return len(self.waiting) + sum(map(len, self.running))

    def add(self, sequences: list[Sequence]) -> None:
        """Takes all of a request's sequences into the waiting line, or none.

        Raises:
            Overloaded: they do not fit.
        """
        steps = sum(len(sequence.inputs) for sequence in sequences)
        self.check_room(len(sequences), steps)
        self._steps += steps
        self.waiting.extend(sequences)

    def check_room(self, count: int, steps: int) -> None:
        """Whether so many more sequences, of so many time steps together, fit.

        Raises:
            Overloaded: they do not.
        """
        for what, held, asked, limit in (
            ("sequences", len(self), count, self._max_waiting),
            ("time steps", self._steps, steps, self._max_waiting_steps),
        ):
            if held + asked > limit:
                raise Overloaded(f"{held} {what} are waiting or running, the limit is {limit}")

    def next_chunk(self, lane: int) -> Chunk | None:
        """The next chunk of a lane; None when it has nothing to do."""
        assert self._in_flight[lane] is None, "this is a bug: the lane's last chunk is not back"
        self._drop_expired(lane)
        self._fill()
        sequences = tuple(self.running[lane].values())
        if not sequences:
            return None
        limit = self._chunk_limit(sequences)
        chunk = Chunk(lane, sequences, tuple(min(limit, s.remaining) for s in sequences))
        self._in_flight[lane] = chunk
        return chunk

    def advance(self, chunk: Chunk) -> None:
        """Takes a computed chunk back: moves cursors, frees the slots of those that ended."""
        assert self._in_flight[chunk.lane] is chunk, "this is a bug: the chunk is not in flight"
        self._in_flight[chunk.lane] = None
        for sequence, steps in zip(chunk.sequences, chunk.steps, strict=True):
            if sequence.error is None:
                sequence.cursor += steps
            if sequence.ended:
                self._release(chunk.lane, sequence)

    def cancel(self, sequences: Iterable[Sequence], error: UnrollError | None = None) -> None:
        """Ends sequences whose caller has gone; one in flight leaves with its chunk."""
        for sequence in sequences:
            if not sequence.ended:
                sequence.error = error or Cancelled("the caller has gone")
                self._leave(sequence)

    def cancel_all(self, error: UnrollError) -> None:
        """Ends everything with `error`."""
        self.cancel([*self.waiting, *(s for lane in self.running for s in lane.values())], error)

    def take_ended(self) -> list[Sequence]:
        """The sequences that ended since the last call, complete or with an error."""
        ended, self._ended = self._ended, []
        return ended

    def _leave(self, sequence: Sequence) -> None:
        if sequence.slot is None:
            self.waiting.remove(sequence)
            self._end(sequence)
            return
        lane = next(i for i, held in enumerate(self.running) if held.get(sequence.slot) is sequence)
        chunk = self._in_flight[lane]
        if chunk is None or sequence not in chunk.sequences:
            self._release(lane, sequence)

    def _release(self, lane: int, sequence: Sequence) -> None:
        assert sequence.slot is not None, "this is a bug: the sequence holds no slot"
        del self.running[lane][sequence.slot]
        self._free[lane].append(sequence.slot)
        sequence.slot = None
        self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        self._steps -= len(sequence.inputs)
        self._ended.append(sequence)

    def _drop_expired(self, lane: int) -> None:
        now = self._clock()
        # All wait equally long, so the line is in the order of deadlines.
        while self.waiting and self.waiting[0].deadline <= now:
            self.cancel([self.waiting[0]], Expired("its time ran out in the waiting line"))
        late = [s for s in self.running[lane].values() if s.deadline <= now]
        self.cancel(late, Expired("its time ran out before its last time step"))

    def _fill(self) -> None:
        """Gives free slots to the oldest waiting, each in the lane with the fewest running."""
        while self.waiting:
            lane = min(range(len(self.running)), key=lambda i: len(self.running[i]))
            if not self._free[lane]:
                return
            sequence = self.waiting.popleft()
            sequence.slot = self._free[lane].pop()
            self.running[lane][sequence.slot] = sequence

    def _chunk_limit(self, sequences: tuple[Sequence, ...]) -> int:
        """Up to where the first one ends, so that its slot is free for the next as soon."""
        shortest = min(s.remaining for s in sequences)
        return min(max(shortest, MIN_CHUNK_STEPS), self._max_chunk_steps)
