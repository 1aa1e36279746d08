"""`WaitingQueue`: the sequences that wait for a slot, in turns of their callers."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from itertools import chain
from operator import attrgetter

from app.engine.sequence import Sequence

# A request has many sequences if it has more of them than one of so many slots.
LARGE = 4
BY_ARRIVAL = attrgetter("number")
NEVER = float("inf")
# A slot counts as so many time steps, beside those that are computed in it.
SLOT_STEPS = 16
# Callers whose turns are kept beyond those who wait, before they are looked through.
MANY_CALLERS = 1024


class Turns:
    """When, in virtual time, a caller's next turn begins: each has its share of the time steps.

    Start-time fair queuing (Goyal, Vin and Cheng, 1996): it begins where the caller's last one
    ended, or now if that is over; whose begins first is next. So the sequences of a single caller
    keep their order, and of several each is given as many time steps, however many sequences or
    connections it has.

    Attributes:
        now: where the last turn that was taken began.
        ends: of each caller's last turn; of one that is over there need be none.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.ends: dict[str, float] = {}

    def begin_of(self, caller: str) -> float:
        """Where a caller's next turn begins."""
        return max(self.now, self.ends.get(caller, 0.0))

    def take(self, caller: str, steps: int) -> None:
        """A caller has its next turn, of so many time steps."""
        self.ends[caller] = self.begin_of(caller) + steps

    def forget(self, waiting: int) -> None:
        """Drops callers who have had no more than their share: all if none waits."""
        if not waiting:
            self.ends.clear()
            self.now = 0.0
        elif len(self.ends) > MANY_CALLERS + 2 * waiting:
            self.ends = {caller: end for caller, end in self.ends.items() if end > self.now}


class Line:
    """Sequences of all callers that wait, either small or large ones.

    Args:
        turns: of the callers.

    Attributes:
        size: how many wait.
    """

    def __init__(self, turns: Turns) -> None:
        self.size = 0
        self._turns = turns
        self._of_callers: dict[str, deque[Sequence]] = {}
        # Begin, number and caller: one for each in the dictionary. That of one who has nothing left
        # or has had a turn meanwhile is put right when it comes first.
        self._order: list[tuple[float, int, str]] = []

    def __iter__(self) -> Iterator[Sequence]:
        return chain.from_iterable(self._of_callers.values())

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence at its place among those of its caller, by arrival."""
        self.size += 1
        caller = sequence.caller
        own = self._of_callers.get(caller)
        if own is None:
            own = self._of_callers[caller] = deque()
            begin = self._turns.begin_of(caller)
            heappush(self._order, (begin, sequence.number, caller))
        if not own or own[-1].number <= sequence.number:
            own.append(sequence)
            return
        older = (at for at, other in enumerate(own) if other.number > sequence.number)
        own.insert(next(older), sequence)

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that waits no more."""
        self._of_callers[sequence.caller].remove(sequence)
        self.size -= 1

    def first(self) -> tuple[float, deque[Sequence]]:
        """The begin and the sequences of the caller whose turn it is. One must wait."""
        order, ends = self._order, self._turns.ends
        while True:
            begin, number, caller = order[0]
            if not (own := self._of_callers[caller]):
                heappop(order)
                del self._of_callers[caller]
            elif begin < (end := ends.get(caller, 0.0)):
                heapreplace(order, (end, number, caller))
            else:
                return begin, own

    def take(self, newest: bool) -> Sequence:
        """Takes out a sequence of the caller whose turn it is: the last that came, or the first."""
        begin, own = self.first()
        sequence = own.pop() if newest else own.popleft()
        self.size -= 1
        turns = self._turns
        turns.now = max(turns.now, begin)
        turns.ends[sequence.caller] = begin + sequence.remaining + SLOT_STEPS
        return sequence


class WaitingQueue:
    """Gives slots to the oldest first, except that large sequences have only a part of the slots.

    That is so for the sequences of a caller; callers take turns (`Turns`).

    A sequence is large if it is long or its request has many. Large sequences may have all slots
    while no other sequence waits. Else a part of the slots is not for them, however many there are,
    so that the others do not wait through all their turns.

    Args:
        slots: of the scheduler.
        long: a sequence of more time steps is large.

    Attributes:
        size: how many wait.
        long: as given.
        large_running: slots that large sequences hold.
        earliest: no sequence that waits has an earlier deadline; it may be that of one that has
            left.
    """

    def __init__(self, slots: int, long: int) -> None:
        self.size = 0
        self.long = long
        self._largest = max(1, slots // LARGE)
        # Slots that large sequences may keep while others wait; of a single slot none.
        self._share = slots - self._largest
        self.large_running = 0
        self._turns = Turns()
        self._small = Line(self._turns)
        self._large = Line(self._turns)
        self.earliest = NEVER

    def __iter__(self) -> Iterator[Sequence]:
        """Those who wait, oldest first."""
        return iter(sorted(chain(self._small, self._large), key=BY_ARRIVAL))

    def add(self, sequences: list[Sequence]) -> None:
        """Puts a request's sequences behind all others of its caller."""
        self._turns.forget(self.size)
        self.size += len(sequences)
        many = len(sequences) > self._largest
        for sequence in sequences:
            sequence.status = "waiting"
            sequence.large = many or len(sequence.inputs) > self.long
            self._line_of(sequence).add(sequence)
            if sequence.deadline < self.earliest:
                self.earliest = sequence.deadline

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that waits no more."""
        self.size -= 1
        self._line_of(sequence).remove(sequence)

    def take(self, newest: bool = False) -> Sequence:
        """Takes out the sequence that gets the next free slot. The queue must not be empty.

        Args:
            newest: of those of the caller whose turn it is, not the one that has waited longest but
                the last that came.
        """
        line = self._next_line(newest)
        self.size -= 1
        self.large_running += line is self._large
        return line.take(newest)

    @property
    def next_caller(self) -> str:
        """Whose sequence `take` would take out. The queue must not be empty."""
        _, own = self._next_line(newest=False).first()
        return own[0].caller

    def _next_line(self, newest: bool) -> Line:
        if self._large.size and not self._small_first(newest):
            return self._large
        return self._small

    def _small_first(self, newest: bool) -> bool:
        if not self._small.size:
            return False
        # A single slot goes to the older of the two: large sequences shall have their turns too.
        if self.large_running >= max(1, self._share):
            return True
        of_small, small = self._small.first()
        of_large, large = self._large.first()
        if small[0].caller == large[0].caller:
            at = -1 if newest else 0
            return (small[at].number < large[at].number) is not newest
        return of_small <= of_large

    @property
    def is_crowded_out(self) -> bool:
        """Whether a small sequence waits while large ones hold more than their share."""
        return self._small.size > 0 and self.large_running > self._share

    def lend(self, sequence: Sequence) -> Sequence:
        """Takes a large sequence back, as `put_back` does; small ones must be crowded out.

        Returns:
            The sequence that gets its slot.
        """
        self.put_back(sequence)
        self.size -= 1
        return self._small.take(newest=False)

    def put_back(self, sequence: Sequence) -> None:
        """Puts a sequence that held a slot back to its place in the order of arrival."""
        sequence.status = "waiting"
        self.size += 1
        self.large_running -= sequence.large
        self._line_of(sequence).add(sequence)
        self.earliest = min(self.earliest, sequence.deadline)

    def late(self, now: float) -> list[Sequence]:
        """The sequences whose deadline is over; the caller removes them.

        Deadlines are not in the order of arrival: a piece of a session has waited elsewhere before.
        All are looked at, so it is asked only once `earliest` is over: while slots become free in
        time, that is rarely.
        """
        late: list[Sequence] = []
        self.earliest = NEVER
        for sequence in chain(self._small, self._large):
            if sequence.deadline <= now:
                late.append(sequence)
            elif sequence.deadline < self.earliest:
                self.earliest = sequence.deadline
        return late

    def _line_of(self, sequence: Sequence) -> Line:
        return self._large if sequence.large else self._small
