"""`Capacity`: how many sequences, and of how many time steps, the engine has admitted."""

from app.errors import Overloaded


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


def _overloaded(held: int, what: str, limit: int) -> Overloaded:
    return Overloaded(f"{held} {what} are waiting or running, the limit is {limit}")
