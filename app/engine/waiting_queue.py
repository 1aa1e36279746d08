"""`WaitingQueue`: the sequences that wait for a slot; `Capacity`: how many are admitted at all."""

from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import chain
from operator import attrgetter

from app.engine.sequence import Sequence
from app.errors import Overloaded

# A request has many sequences if it has more of them than one of so many slots.
LARGE = 4
BY_ARRIVAL = attrgetter("number")
NEVER = float("inf")


class Capacity:
    """Counts what waits and runs, and what was promised room; refuses what goes over the limits.

    Args:
        max_sequences: limit of the sequences.
        max_steps: limit of their time steps together.

    Attributes:
        sequences: admitted now.
        steps: time steps of these.
    """

    def __init__(self, max_sequences: int, max_steps: int) -> None:
        self._max_sequences = max_sequences
        self._max_steps = max_steps
        self.sequences = 0
        self.steps = 0

    def check(self, sequences: int, steps: int) -> None:
        """Whether so many more sequences, of so many time steps together, fit.

        Raises:
            Overloaded: they do not.
        """
        if self.sequences + sequences > self._max_sequences:
            raise _overloaded(self.sequences, "sequences", self._max_sequences)
        if self.steps + steps > self._max_steps:
            raise _overloaded(self.steps, "time steps", self._max_steps)

    def take(self, sequences: int, steps: int) -> None:
        """Admits them.

        Raises:
            Overloaded: they do not fit; nothing was taken.
        """
        self.check(sequences, steps)
        self.sequences += sequences
        self.steps += steps

    def give_back(self, steps: int) -> None:
        """One sequence of so many time steps has left."""
        self.sequences -= 1
        self.steps -= steps


class WaitingQueue:
    """Gives slots to the oldest first, except that large sequences have only a part of the slots.

    A sequence is large if it is long or its request has many. Large sequences may have all slots
    while no other sequence waits. Else a part of the slots is not for them, however many there are,
    so that the others do not wait through all their turns.

    Args:
        slots: of the scheduler.
        long: a sequence of more time steps is large.

    Attributes:
        large_running: slots that large sequences hold.
    """

    def __init__(self, slots: int, long: int) -> None:
        self._long = long
        self._largest = max(1, slots // LARGE)
        # Slots that large sequences may keep while others wait; of a single slot none.
        self._share = slots - self._largest
        self.large_running = 0
        self._small: deque[Sequence] = deque()
        self._large: deque[Sequence] = deque()
        # No sequence in the queue has an earlier deadline. It may be that of one that has left.
        self._earliest = NEVER

    def __len__(self) -> int:
        """Sequences that wait."""
        return len(self._small) + len(self._large)

    def __iter__(self) -> Iterator[Sequence]:
        """Those who wait, oldest first."""
        return merge(self._small, self._large, key=BY_ARRIVAL)

    def add(self, sequences: list[Sequence]) -> None:
        """Puts a request's sequences behind all others."""
        many = len(sequences) > self._largest
        for sequence in sequences:
            sequence.status = "waiting"
            sequence.large = many or len(sequence.inputs) > self._long
            self._queue_of(sequence).append(sequence)
            if sequence.deadline < self._earliest:
                self._earliest = sequence.deadline

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that waits no more."""
        self._queue_of(sequence).remove(sequence)

    def take(self) -> Sequence:
        """Takes out the sequence that gets the next free slot. The queue must not be empty."""
        if self._large and not self._small_first():
            self.large_running += 1
            return self._large.popleft()
        return self._small.popleft()

    def _small_first(self) -> bool:
        if not self._small:
            return False
        # A single slot goes to the older of the two: large sequences shall have their turns too.
        share_is_used = self.large_running >= max(1, self._share)
        return share_is_used or self._small[0].number < self._large[0].number

    @property
    def is_crowded_out(self) -> bool:
        """Whether a small sequence waits while large ones hold more than their share."""
        return bool(self._small) and self.large_running > self._share

    def lend(self, sequence: Sequence) -> Sequence:
        """Puts a large sequence that held a slot back to its place in the order of arrival.

        Small ones must be crowded out.

        Returns:
            The sequence that gets its slot.
        """
        sequence.status = "waiting"
        older = (at for at, other in enumerate(self._large) if other.number > sequence.number)
        self._large.insert(next(older, len(self._large)), sequence)
        self._earliest = min(self._earliest, sequence.deadline)
        self.large_running -= 1
        return self._small.popleft()

    def has_left(self, sequence: Sequence) -> None:
        """Counts out a sequence that held a slot and holds none any more."""
        self.large_running -= sequence.large

    def late(self, now: float) -> list[Sequence]:
        """The sequences whose deadline is over; the caller removes them.

        Deadlines are not in the order of arrival: a piece of a session has waited elsewhere before.
        All are looked at, but only once the earliest deadline is over: while slots become free in
        time, that is rarely.
        """
        if now < self._earliest:
            return []
        late: list[Sequence] = []
        self._earliest = NEVER
        for sequence in chain(self._small, self._large):
            if sequence.deadline <= now:
                late.append(sequence)
            elif sequence.deadline < self._earliest:
                self._earliest = sequence.deadline
        return late

    def _queue_of(self, sequence: Sequence) -> deque[Sequence]:
        return self._large if sequence.large else self._small


def _overloaded(held: int, what: str, limit: int) -> Overloaded:
    return Overloaded(f"{held} {what} are waiting or running, the limit is {limit}")
