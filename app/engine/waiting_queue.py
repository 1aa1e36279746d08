"""`Line`: who waits for a slot."""

from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import takewhile
from operator import attrgetter

from app.engine.sequence import Sequence

# A request has many sequences if they are more than one of so many slots.
LARGE = 4
NUMBER = attrgetter("number")


class Line:
    """Sequences that wait, oldest first, but for large ones: those that are long or of many.

    Large ones may have all slots while nobody else wants one. Else a part of the slots is not for
    them, however many there are, so that others do not wait through all their turns.

    Args:
        slots: of all.
        long: a sequence of more time steps is large.

    Attributes:
        large_running: slots that large ones have.
    """

    def __init__(self, slots: int, long: int) -> None:
        self._long = long
        self._largest = max(1, slots // LARGE)
        # Slots that large ones may keep while others wait; of a single slot none.
        self._share = slots - self._largest
        self.large_running = 0
        self._small: deque[Sequence] = deque()
        self._large: deque[Sequence] = deque()

    def __len__(self) -> int:
        """Sequences that wait."""
        return len(self._small) + len(self._large)

    def __iter__(self) -> Iterator[Sequence]:
        """Those who wait, oldest first."""
        return merge(self._small, self._large, key=NUMBER)

    def add(self, sequences: list[Sequence]) -> None:
        """Puts a request behind all others."""
        many = len(sequences) > self._largest
        for sequence in sequences:
            sequence.place = "waiting"
            sequence.large = many or len(sequence.inputs) > self._long
            self._queue_of(sequence).append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Takes out one that waits."""
        self._queue_of(sequence).remove(sequence)

    def take(self) -> Sequence:
        """Takes out who gets the next free slot. There must be one."""
        if self._large and not self._small_first():
            self.large_running += 1
            return self._large.popleft()
        return self._small.popleft()

    def _small_first(self) -> bool:
        if not self._small:
            return False
        # A single slot goes to whoever is older: large ones shall have their turns too.
        share_is_used = self.large_running >= max(1, self._share)
        return share_is_used or self._small[0].number < self._large[0].number

    @property
    def is_crowded_out(self) -> bool:
        """Whether somebody waits while large ones have more than their share."""
        return bool(self._small) and self.large_running > self._share

    def lend(self, sequence: Sequence) -> Sequence:
        """Puts a large one, which has run already, where it was; returns who gets its slot.

        Somebody must be crowded out.
        """
        sequence.place = "waiting"
        older = (at for at, other in enumerate(self._large) if other.number > sequence.number)
        self._large.insert(next(older, len(self._large)), sequence)
        self.large_running -= 1
        return self._small.popleft()

    def has_left(self, sequence: Sequence) -> None:
        """Counts one that has run, and does so no more."""
        self.large_running -= sequence.large

    def late(self, now: float) -> list[Sequence]:
        """Those whose time is over. All wait equally long, so each line is in their order."""
        return [
            sequence
            for queue in (self._small, self._large)
            for sequence in takewhile(lambda waiting: waiting.deadline <= now, queue)
        ]

    def _queue_of(self, sequence: Sequence) -> deque[Sequence]:
        return self._large if sequence.large else self._small
