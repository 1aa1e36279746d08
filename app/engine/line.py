"""`Line`: who waits for a slot, request by request, and who has how many."""

from collections import OrderedDict
from collections.abc import Iterator

from app.engine.sequence import Group, Sequence

# A request keeps one of so many slots, whoever else comes.
KEPT = 16


class Line:
    """Sequences that wait, in the order in which their requests arrived.

    A request with many sequences may have all slots while nobody else wants one. Its share is half
    of what the other requests leave, so that however many such requests there are, the next one
    finds a slot, if it has only one sequence within the time of a chunk.

    Args:
        slots: of all.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._kept = max(1, slots // KEPT)
        self._groups: OrderedDict[Group, None] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Sequences that wait."""
        return self._count

    def __iter__(self) -> Iterator[Sequence]:
        """Those who wait, oldest request first."""
        return (sequence for group in self._groups for sequence in group.waiting)

    def add(self, sequences: list[Sequence]) -> None:
        """Puts a request behind all others."""
        group = Group()
        for sequence in sequences:
            sequence.place, sequence.group = "waiting", group
        group.waiting.extend(sequences)
        self._groups[group] = None
        self._count += len(sequences)

    def remove(self, sequence: Sequence) -> None:
        """Takes out one that waits."""
        sequence.group.waiting.remove(sequence)
        self._left(sequence.group)

    def take(self, running: int) -> Sequence:
        """Takes out who gets the next free slot: the oldest that is within its request's share.

        If all are beyond, it is the oldest. There must be one.

        Args:
            running: slots that are taken.
        """
        within = (g for g in self._groups if g.running < self.share(g, running))
        return self._take(next(within, None) or next(iter(self._groups)))

    def take_newcomer(self) -> Sequence | None:
        """Takes out the oldest of whose request none runs; None if there is none."""
        group = next((group for group in self._groups if not group.running), None)
        return None if group is None else self._take(group)

    def put_back(self, sequence: Sequence) -> None:
        """Puts one that ran before all others of its request, and that before all others."""
        sequence.place = "waiting"
        group = sequence.group
        group.running -= 1
        group.waiting.appendleft(sequence)
        self._groups[group] = None
        # It has run already, so it is older than those who have not.
        self._groups.move_to_end(group, last=False)
        self._count += 1

    def share(self, group: Group, running: int) -> int:
        """Slots that a request may have while others want some.

        Args:
            group: the request.
            running: slots that are taken.
        """
        left = self._slots - (running - group.running)
        return max(self._kept, -(-left // 2))

    def _take(self, group: Group) -> Sequence:
        sequence = group.waiting.popleft()
        group.running += 1
        self._left(group)
        return sequence

    def _left(self, group: Group) -> None:
        self._count -= 1
        if not group.waiting:
            del self._groups[group]
