"""`Sequence`: one row of a request in the engine; `Admission`: the request they are of.

The service makes a sequence, the scheduler moves it, the engine tells the request of its end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from app.errors import UnrollError

# float32 `[sum of H]`: every state tensor of the model in one row, in the manifest's order: h (and
# c) of each layer. One row a sequence is one copy in and one out of a chunk.
State = np.ndarray

NO_OUTPUTS = np.empty((0, 0), np.float32)

Status = Literal["new", "waiting", "ready", "in flight", "ended"]

# Is called with a sequence after each of its chunks, on the event loop: its outputs up to the
# cursor are there.
Listener = Callable[["Sequence"], None]
# Is called once, on the event loop: with None when all sequences of a request are complete, else
# with the error of the first that failed.
Done = Callable[[UnrollError | None], None]


@dataclass(eq=False, slots=True)
class Sequence:
    """One row of a request: inputs, cursor, state and results.

    Attributes:
        inputs: float32 `[T, F]`, T at least 1.
        pointer: JSON pointer to it in its request, for errors.
        state: float32 `[sum of H]` at the cursor: first the initial state, at the end the final
            one; None for zeros.
        deadline: on the engine's clock in seconds; after it the sequence is dropped.
        caller: who sent it: callers take turns.
        cursor: time steps computed so far.
        remaining: time steps still to compute; given by the scheduler.
        number: in the order of arrival, given by the scheduler.
        large: whether it is long or its request has many sequences; given by the waiting queue.
        keeps_room: whether its room in the engine stays taken when it has ended, since its piece
            may be computed again; given by the scheduler.
        status: where the scheduler has it; a sequence that is `ready` or `in flight` holds a slot.
        outputs: float32 `[T, O]`, filled up to the cursor.
        error: why it ended before T.
        listener: is called after each chunk; most sequences have none.
    """

    inputs: np.ndarray
    pointer: str = "/sequences/0"
    state: State | None = None
    deadline: float = float("inf")
    caller: str = ""
    cursor: int = 0
    remaining: int = 0
    number: int = 0
    large: bool = False
    keeps_room: bool = False
    status: Status = "new"
    outputs: np.ndarray = field(default_factory=NO_OUTPUTS.view)
    error: UnrollError | None = None
    listener: Listener | None = None


@dataclass(eq=False, slots=True)
class Admission:
    """A request in the engine, from when it is admitted until all of it has ended.

    A request brings its sequences when it is admitted. A piece of a session is admitted before.

    The piece has waited for its session when its sequence comes, and may come again with another
    one. Its room is its own from `Engine.admit` to `Engine.leave`.

    Attributes:
        steps: time steps of the piece; 0 for a request that brings its sequences.
        caller: who sent the piece.
        sequences: of the request; of the piece the last one.
        left: how many of them have not ended.
        done: is told when they have; None when it was told.
    """

    steps: int = 0
    caller: str = ""
    sequences: list[Sequence] = field(default_factory=list)
    left: int = 0
    done: Done | None = None
