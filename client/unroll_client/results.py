"""What answers are made into. Arrays are float32, outputs that float32 does not hold float64."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]

# Outputs: float64 where one of them is of a column that float32 cannot tell apart.
Numbers: TypeAlias = NDArray[np.floating[Any]]

# Which outputs an answer has: of all time steps, of the last one, none.
Outputs: TypeAlias = Literal["all", "last", "none"]

# The form of states in an answer.
States: TypeAlias = Literal["token", "per_layer", "concatenated", "none"]

# A state in any form: a token (opaque; it keeps the model's name and version), for each layer
# `{"h": [H]}` or `{"h": [H], "c": [H]}`, or one row of all layers. To be given back as it came.
State: TypeAlias = str | Array | list[dict[str, Array]]


@dataclass(frozen=True)
class ModelRef:
    """A version of a model. Send it with a request to be refused by any other."""

    name: str
    version: int | None = None


@dataclass(frozen=True)
class Feature:
    """An input column.

    Attributes:
        name, unit, description: of it.
        missing: whether it may be NaN.
        kind: `number`, `cyclic`, `flag` (true or false) or `category` (text).
        values: of a category, those that are known.
        ahead: time steps after the row from which its value is.
        static: whether it may be missing after the first row, which it is the same as.
    """

    name: str
    unit: str
    description: str
    missing: bool
    kind: str = "number"
    values: tuple[str, ...] = ()
    ahead: int = 0
    static: bool = False


@dataclass(frozen=True)
class Output:
    """An output; `horizon` is how many time steps ahead it looks."""

    name: str
    unit: str
    horizon: int


@dataclass(frozen=True)
class Layer:
    """A layer: `cell` is rnn, lstm or gru."""

    cell: str
    units: int


@dataclass(frozen=True)
class ModelInfo:
    """The model that answers: what goes in, what comes out."""

    ref: ModelRef
    description: str
    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]
    layers: tuple[Layer, ...]

    def to_frame(self, outputs: Numbers, index: Any = None) -> Any:
        """Outputs as a pandas DataFrame, a column for each by its name.

        Args:
            outputs: float32 `[T, O]`.
            index: of the time steps, such as that of the DataFrame that was sent.
        """
        import pandas

        names = [output.name for output in self.outputs]
        return pandas.DataFrame(outputs, index=index, columns=names)


@dataclass(frozen=True)
class Prediction:
    """The answer for many sequences, in their order.

    Attributes:
        model: that computed it.
        outputs: `[T, O]` for each sequence; `[O]` for "last"; no entries for "none".
        states: the final state of each sequence, to go on from; no entries for "none".
    """

    model: ModelRef
    outputs: list[Numbers]
    states: list[State]


@dataclass(frozen=True)
class SequencePrediction:
    """The answer for one sequence.

    Attributes:
        model: that computed it.
        outputs: `[T, O]`; `[O]` for "last"; `[0]` for "none".
        state: the final state, to go on from; None for "none".
    """

    model: ModelRef
    outputs: Numbers
    state: State | None


@dataclass(frozen=True)
class Chunk:
    """Outputs of some time steps of one sequence.

    Attributes:
        sequence: its place in the request.
        time_step: of the first of the outputs.
        outputs: `[C, O]`.
    """

    sequence: int
    time_step: int
    outputs: Numbers


@dataclass(frozen=True)
class SessionInfo:
    """What the service keeps of a session.

    Attributes:
        time_step: time steps so far.
        state: token of its state, to begin another session or request from.
        expires_in_s: seconds until it goes, if nothing comes for it.
    """

    time_step: int
    state: str
    expires_in_s: float


Document: TypeAlias = Mapping[str, Any]
