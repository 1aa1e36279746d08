"""Requests and answers as arrays, for the formats that carry bytes: Arrow and NPZ."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.codec.states import State

# Of the parts of a request, in every format.
INITIAL_STATE = "initial_state"
STATE = "state"


@dataclass(frozen=True)
class RequestArrays:
    """What a body in one of these formats is read as.

    Attributes:
        sequences: float32 `[T, F]` each.
        states: the initial state of each sequence, float32 `[sum of H]`, or None for zeros.
    """

    sequences: list[np.ndarray]
    states: list[State | None]


@dataclass(frozen=True)
class AnswerArrays:
    """What an answer in one of these formats is printed from.

    Attributes:
        about: the model, and the session if there is one; for JSON.
        names: of the outputs.
        outputs: float32 `[T, O]` for each sequence, float64 where one of them has a base; None if
            none are wanted.
        states: the final states, float32 `[B, sum of H]`, or tokens; None if none are wanted.
    """

    about: dict[str, Any]
    names: tuple[str, ...]
    outputs: list[np.ndarray] | None
    states: np.ndarray | list[str] | None
