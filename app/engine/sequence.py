"""`Sequence`: one row of a request inside the engine. Routes make it, the scheduler moves it."""

from dataclasses import dataclass, field

import numpy as np

from app.errors import UnrollError

# One array for each state tensor of the model, in the manifest's order: h (and c) of each layer.
State = tuple[np.ndarray, ...]


@dataclass(eq=False)
class Sequence:
    """One row of a request: inputs, cursor, state and results.

    Attributes:
        inputs: float32 `[T, F]`, T at least 1.
        pointer: JSON pointer to it in its request, for errors.
        initial_state: float32 `[H]` for each state tensor; None for zeros.
        deadline: on the engine's clock in seconds; after it the sequence is dropped.
        cursor: time steps computed so far.
        slot: the slot it holds while running, else None.
        outputs: float32 `[T, O]`, filled up to the cursor.
        final_state: like `initial_state`, once the cursor is at T.
        error: why it ended before T.
    """

    inputs: np.ndarray
    pointer: str = "/sequences/0"
    initial_state: State | None = None
    deadline: float = float("inf")
    cursor: int = 0
    slot: int | None = None
    outputs: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    final_state: State = ()
    error: UnrollError | None = None

    @property
    def remaining(self) -> int:
        """Time steps still to compute."""
        return len(self.inputs) - self.cursor

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.error is not None or self.remaining == 0
