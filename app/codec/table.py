"""`Batch` and `Answer`: sequences and results as arrays, for formats that carry bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.codec.states import State

# Of the parts of a request, in every format.
INITIAL_STATE = "initial_state"
STATE = "state"


@dataclass(frozen=True)
class Batch:
    """What a request brings.

    Attributes:
        sequences: float32 `[T, F]` each.
        states: float32 `[sum of H]` each, or None for zeros.
    """

    sequences: list[np.ndarray]
    states: list[State | None]


@dataclass(frozen=True)
class Answer:
    """What an answer takes home.

    Attributes:
        about: the model, and the session if there is one; for JSON.
        names: of the outputs.
        outputs: float32 `[T, O]` for each sequence; None if none are wanted.
        states: float32 `[B, sum of H]`, or tokens; None if none are wanted.
    """

    about: dict[str, Any]
    names: tuple[str, ...]
    outputs: list[np.ndarray] | None
    states: np.ndarray | list[str] | None
