"""`Line`: who waits for a slot."""

from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import takewhile
from operator import attrgetter

from app.engine.sequence import Sequence

# A request is large if it has more sequences than one of so many slots.
LARGE = 4
NUMBER = attrgetter("number")


class Line:
    """Sequences that wait, oldest first, but for those of large requests.

    A large request may have all slots while nobody else wants one. Else a part of the slots is not
    for such requests, however many there are, so that others do not wait through all their turns.

    Args:
        slots: of all.

    Attributes:
        large_running: slots that sequences of large requests have.
    """

    def __init__(self, slots: int) -> None:
        self._largest = max(1, slots // LARGE)
        # Slots that those of large requests may have while others wait.
        self._share = max(1, slots - self._largest)
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
        large = len(sequences) > self._largest
        for sequence in sequences:
            sequence.place, sequence.large = "waiting", large
        self._queue_of(sequences[0]).extend(sequences)

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
        return self.large_running >= self._share or self._small[0].number < self._large[0].number

    @property
    def is_crowded_out(self) -> bool:
        """Whether somebody waits while large requests have more than their share."""
        return bool(self._small) and self.large_running > self._share

    def put_back(self, sequence: Sequence) -> None:
        """Puts one of a large request, which has run already, where it was."""
        sequence.place = "waiting"
        older = (at for at, other in enumerate(self._large) if other.number > sequence.number)
        self._large.insert(next(older, len(self._large)), sequence)
        self.large_running -= 1

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
