"""`FairShare`: callers who share the engine take turns in its chunks, and each has a slot.

The waiting queue gives slots in turns. That is not enough: who came first with many long sequences
holds all slots for long, and a newcomer's sequence would have to wait for many chunks of theirs.
"""

from collections import Counter, deque
from collections.abc import Iterable

from app.engine.sequence import Sequence
from app.engine.waiting_queue import BY_ARRIVAL, Turns

# Callers share the engine for so many seconds after two of them were in it: one who comes now and
# then finds it so.
SHARED_S = 30.0


class FairShare:
    """See the module. Each turn is a row of a chunk, as long as its time steps.

    Attributes:
        until: so long several callers share the engine, on its clock in seconds.
    """

    def __init__(self) -> None:
        self.until = 0.0
        self._turns = Turns()

    def leader(self, ready: deque[Sequence], callers: int, now: float) -> Sequence:
        """The sequence that the next chunk is cut for.

        Args:
            ready: in the order of their last chunks; at least one.
            callers: of all that waits and runs, at least two.
            now: on the engine's clock, in seconds.
        """
        turns = self._turns
        # Nobody can have had more than the others of what is long over.
        turns.forget(callers if now < self.until else 0)
        self.until = now + SHARED_S
        counts = Counter([sequence.caller for sequence in ready])
        # Of several whose turn it is, who has least.
        caller = min(counts, key=lambda caller: (turns.begin_of(caller), counts[caller]))
        turns.now = turns.begin_of(caller)
        return next(sequence for sequence in ready if sequence.caller == caller)

    def charge(self, sequences: Iterable[Sequence], steps: Iterable[int]) -> None:
        """So many time steps of each are computed."""
        for sequence, count in zip(sequences, steps, strict=True):
            self._turns.take(sequence.caller, count)

    def lender(
        self, caller: str, ready: Iterable[Sequence], flying: Iterable[Sequence]
    ) -> Sequence | None:
        """The sequence whose slot a caller is given who waits; None if it has its share.

        It is the youngest of those who have most slots, so that it loses least.

        Args:
            caller: whose turn it is to have a slot.
            ready, flying: who have slots; only those who are ready can lend theirs.
        """
        slots = Counter([sequence.caller for sequence in (*ready, *flying)])
        if slots[caller]:
            return None
        lenders = [sequence for sequence in ready if slots[sequence.caller] > 1]
        if not lenders:
            return None
        most = max(slots[sequence.caller] for sequence in lenders)
        return max((s for s in lenders if slots[s.caller] == most), key=BY_ARRIVAL)
