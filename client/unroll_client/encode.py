"""What callers give as the bytes that are sent: the one place where numbers are printed."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unroll_client.errors import InvalidInput
from unroll_client.results import ModelRef, Numbers, Outputs, State


class Named(Protocol):
    """Columns by name: a dictionary, a pandas DataFrame."""

    def keys(self) -> Iterable[Any]:
        """Names of the columns."""

    def __getitem__(self, name: Any, /) -> Any:
        """A column."""


# One sequence: rows `[T, F]` in the model's order, or named columns `[T]`; what is static may be
# there once. Numbers, text for a category, booleans for a flag; NaN (None, NA) where missing.
Rows: TypeAlias = ArrayLike | Named

# Sequences, whose lengths may differ, or one array `[B, T, F]`.
Batch: TypeAlias = Sequence[Rows] | NDArray[Any]

# Decimal digits that tell most float32 apart, and all.
SHORT_DIGITS = 7
ALL_DIGITS = 9


def body(
    sequences: list[Any],
    initial_states: Sequence[State | None] | None,
    model: ModelRef | str | None,
    **options: Any,
) -> bytes:
    """The body of a request.

    Args:
        sequences: as `batch` and `rows` make them.
        initial_states: one entry a sequence.
        model: to be refused by any other.
        options: further fields; those that are None are left out.
    """
    document: dict[str, Any] = {"sequences": sequences}
    if initial_states is not None:
        document["initial_states"] = [
            state(entry, f"initial_states[{i}]") for i, entry in enumerate(initial_states)
        ]
    if isinstance(model, ModelRef):
        document["model"] = {"name": model.name, "version": model.version}
    elif model is not None:
        document["model"] = model
    return to_json(document | {k: v for k, v in options.items() if v is not None})


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document as JSON."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def batch(sequences: Batch) -> list[Any]:
    """Many sequences as JSON has them; raises `InvalidInput`."""
    if isinstance(sequences, str | bytes) or hasattr(sequences, "keys"):
        raise InvalidInput("sequences must be several; for a single one there is predict_one")
    if isinstance(sequences, np.ndarray) and sequences.ndim != 3:
        raise InvalidInput(f"sequences must be [B, T, F], got {_shape(sequences)}")
    return [rows(entry, f"sequences[{i}]") for i, entry in enumerate(sequences)]


def rows(sequence: Rows, name: str = "sequence") -> Any:
    """One sequence as JSON has it, rows or an object of columns.

    Args:
        sequence: `[T, F]`, or named columns.
        name: for errors.

    Raises:
        InvalidInput: no numbers, text or booleans, not of two dimensions, or infinite.
    """
    columns = _columns(sequence)
    if columns is None:
        return _printable(sequence, 2, name, "[T, F]")
    made = {}
    for key, column in columns.items():
        # What a sequence has once may come once.
        once = np.ndim(column) == 0
        values = _printable([column] if once else column, 1, f"{name}[{key!r}]", "[T]")
        made[key] = values[0] if once else values
    return made


def piece(given: Rows) -> tuple[Any, bool]:
    """One sequence as `rows` makes it, and whether it came as the single row of a time step.

    Args:
        given: as for `rows`, or one row: `[F]`, or numbers by name.
    """
    columns = _columns(given)
    if columns is None:
        array = _array(given, "sequence")
        return (rows(array[np.newaxis]), True) if array.ndim == 1 else (rows(array), False)
    if columns and all(np.ndim(number) == 0 for number in columns.values()):
        return rows({name: [number] for name, number in columns.items()}), True
    return rows(columns), False


def one_of(outputs: Numbers, single: bool, wanted: Outputs) -> Numbers:
    """`[O]` for the single row of a time step, whose outputs came as `[1, O]`."""
    return outputs[0] if single and wanted == "all" else outputs


def state(given: State | None, name: str = "initial_state") -> Any:
    """A state as JSON has it, in the form that it came in."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, list) and given and isinstance(given[0], dict):
        return [
            {part: _printable(x, 1, f"{name}[{i}][{part!r}]", "[H]") for part, x in layer.items()}
            for i, layer in enumerate(given)
        ]
    return _printable(given, 1, name, "[sum of H]")


def _columns(sequence: Any) -> dict[str, Any] | None:
    """Columns by name, or None if it has no names."""
    if not hasattr(sequence, "keys"):
        return None
    return {str(name): sequence[name] for name in sequence.keys()}  # noqa: SIM118


def _printable(given: Any, ndim: int, name: str, shape: str) -> Any:
    """Numbers as nested lists: NaN is None, and float32 has few digits."""
    array = _array(given, name)
    if array.ndim != ndim:
        raise InvalidInput(f"{name} must be {shape}, got {_shape(array)}")
    if array.dtype.kind == "O":
        return array.tolist()
    if np.isinf(array).any():
        place = ", ".join(str(i) for i in np.argwhere(np.isinf(array))[0])
        raise InvalidInput(f"{name} is infinite at [{place}]")
    numbers = _shortest(array) if array.dtype == np.float32 else array
    missing = np.isnan(array)
    if missing.any():
        numbers = numbers.astype(object)
        numbers[missing] = None
    return numbers.tolist()


def _array(given: Any, name: str) -> NDArray[Any]:
    """float32 as it is, other numbers as float64; with text or booleans among them, as JSON has
    them."""
    try:
        array = np.asarray(given)
        if array.dtype == np.float32:
            return array
        if array.dtype.kind in "UTb":
            # NumPy makes text of the numbers beside text.
            array = np.asarray(given, object)
        if array.dtype.kind == "O":
            array = _without_na(array)
            if any(isinstance(value, str | bool | np.bool_) for value in array.flat):
                return _mixed(array, name)
        if array.dtype.kind in "fiuO" or array.size == 0:
            return np.asarray(array, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be numbers in rows of one length: {error}") from None
    raise InvalidInput(f"{name} must be numbers, text or booleans, got {array.dtype}")


def _mixed(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Text, booleans and numbers as JSON has them; None for NaN."""
    made = np.empty_like(array)
    for place, value in np.ndenumerate(array):
        if isinstance(value, str) or value is None:
            made[place] = value
        elif isinstance(value, bool | np.bool_):
            made[place] = bool(value)
        elif np.isinf(number := float(value)):
            raise InvalidInput(f"{name} is infinite at {list(place)}")
        else:
            made[place] = None if np.isnan(number) else number
    return made


def _without_na(array: NDArray[Any]) -> NDArray[Any]:
    """None for each NA of pandas, which is no number and equals nothing, itself neither."""
    # Where pandas has not been imported, there is none.
    na = getattr(sys.modules.get("pandas"), "NA", None)
    missing = np.fromiter((entry is na for entry in array.flat), bool, array.size)
    made = array.copy()
    made[missing.reshape(array.shape)] = None
    return made


def _shortest(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 of the same float32 that print in fewer digits: 0.1, not 0.10000000149011612."""
    exact = array.astype(np.float64)
    with np.errstate(all="ignore"):
        magnitude = np.floor(np.log10(np.abs(exact)))
        made = exact
        for digits in (ALL_DIGITS, SHORT_DIGITS):
            # Powers of ten are exact up to 22, so that the quotient is the decimal's own double.
            scale = 10.0 ** np.clip(digits - 1 - magnitude, 0, 22)
            rounded = np.rint(exact * scale) / scale
            made = np.where(rounded.astype(np.float32) == array, rounded, made)
    return made


def _shape(array: NDArray[Any]) -> str:
    return str(list(array.shape))
