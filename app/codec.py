"""JSON bytes <-> float32 arrays: the one place where numbers are parsed or printed.

Checking is quick where all is well: types, widths and ranges of a whole sequence at once. Only
where that finds something wrong is it gone through number by number, to say where.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.errors import Fault, InvalidRequest, NotJSON
from app.state_token import StateTokens

MAX_FAULTS = 10
MAX_ECHO = 80
FLOAT32_MAX = float(np.finfo(np.float32).max)

_NUMBERS = frozenset({float, int})
_NUMBERS_OR_NULL = frozenset({float, int, type(None)})

# float32 `[sum of H]`: layers in order, h before c.
State = np.ndarray


@dataclass(frozen=True)
class Limits:
    """What a request may hold."""

    max_sequences: int
    max_sequence_steps: int


@dataclass(frozen=True)
class LayerLayout:
    """A layer's state in JSON: its cell and the names of its parts, each `units` numbers."""

    cell: str
    units: int
    parts: tuple[str, ...]


def parse_json(body: bytes) -> Any:
    """Parses a body.

    Raises:
        NotJSON: with the position of the first byte that is not.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The second is what -Infinity gives.
        odd = error.msg.startswith(("unexpected character", "no digit after sign"))
        hint = "; NaN and Infinity are not JSON" if odd else ""
        raise NotJSON(Fault("", f"{error}{hint}")) from None


def echo(value: object) -> str:
    """A value as an error message shows it: short, and never what is inside of a container."""
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    text = orjson.dumps(value).decode()
    return text if len(text) <= MAX_ECHO else text[: MAX_ECHO - 3] + "..."


class Codec:
    """Parses sequences and states of one model and prints its results.

    Args:
        nullable: for each feature, whether it may be null.
        layers: the layers' states.
        limits: what a request may hold.
        tokens: of the model's states.

    Attributes:
        tokens: as given.
    """

    def __init__(
        self,
        nullable: tuple[bool, ...],
        layers: tuple[LayerLayout, ...],
        limits: Limits,
        tokens: StateTokens,
    ) -> None:
        self._nullable = np.array(nullable)
        self._may_be_null = any(nullable)
        self._layers = layers
        self._spans = _spans(layers)
        self._limits = limits
        self.tokens = tokens

    def parse_sequences(self, value: object) -> list[np.ndarray]:
        """Reads `sequences`.

        Returns:
            float32 `[T, F]` for each; NaN where null.

        Raises:
            InvalidRequest: with up to `MAX_FAULTS` places.
        """
        limit = self._limits.max_sequences
        if not isinstance(value, list):
            raise _invalid("/sequences", f"must be an array of sequences, got {echo(value)}")
        if not value:
            raise _invalid("/sequences", "must hold at least one sequence")
        if len(value) > limit:
            raise _invalid("/sequences", f"holds {len(value)} sequences, the limit is {limit}")
        arrays = [self._quick_sequence(rows) for rows in value]
        good = [array for array in arrays if array is not None]
        if len(good) < len(arrays):
            faults = _Faults()
            for index, (array, rows) in enumerate(zip(arrays, value, strict=True)):
                if array is None:
                    faults.extend(self._sequence_faults(rows, f"/sequences/{index}"))
            faults.raise_any()
        return good

    def parse_states(self, value: object, count: int) -> list[State | None]:
        """Reads `initial_states`: None, or one entry a sequence, in any form of an answer.

        Raises:
            InvalidRequest: with up to `MAX_FAULTS` places.
            OtherModel: a token is of another model or version.
        """
        if value is None:
            return [None] * count
        if not isinstance(value, list):
            raise _invalid("/initial_states", f"must be an array, got {echo(value)}")
        if len(value) != count:
            raise _invalid(
                "/initial_states", f"holds {len(value)} states for {count} sequences; one for each"
            )
        states: list[State | None] = []
        faults = _Faults()
        for index, entry in enumerate(value):
            pointer = f"/initial_states/{index}"
            if entry is None:
                states.append(None)
            elif isinstance(entry, str):
                states.append(self.tokens.open(entry, pointer))
            elif isinstance(entry, list) and entry and not isinstance(entry[0], dict):
                states.append(self._concatenated_state(entry, pointer, faults))
            else:
                states.append(self._layered_state(entry, pointer, faults))
        faults.raise_any()
        return states

    def layered(self, state: State) -> list[dict[str, np.ndarray]]:
        """A final state as answers have it: an object a layer."""
        return [{name: state[start:end] for name, start, end in layer} for layer in self._spans]

    def _quick_sequence(self, rows: object) -> np.ndarray | None:
        """The array, or None if anything at all is wrong."""
        width = len(self._nullable)
        if not isinstance(rows, list) or not 0 < len(rows) <= self._limits.max_sequence_steps:
            return None
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {width}:
            return None
        numbers = list(itertools.chain.from_iterable(rows))
        array = quick_numbers(numbers)
        if array is not None:
            return array.reshape(len(rows), width)
        return self._with_nulls(numbers) if self._may_be_null else None

    def _with_nulls(self, numbers: list[object]) -> np.ndarray | None:
        if not set(map(type, numbers)) <= _NUMBERS_OR_NULL:
            return None
        # Beyond float32 a number becomes infinite, which is what the check below is for.
        with np.errstate(over="ignore"):
            array = np.array(numbers, np.float32).reshape(-1, len(self._nullable))
        fine = np.isfinite(array) | (np.isnan(array) & self._nullable)
        return array if fine.all() else None

    def _sequence_faults(self, rows: object, pointer: str) -> Iterator[Fault]:
        width, limit = len(self._nullable), self._limits.max_sequence_steps
        if not isinstance(rows, list):
            yield Fault(pointer, f"must be an array of time steps, got {echo(rows)}")
        elif not rows:
            yield Fault(pointer, "must hold at least one time step")
        elif len(rows) > limit:
            yield Fault(
                pointer,
                f"holds {len(rows)} time steps, the limit is {limit}; "
                "send it in pieces and continue from the states",
            )
        else:
            for time, row in enumerate(rows):
                place = f"{pointer}/{time}"
                if not isinstance(row, list):
                    yield Fault(place, f"must be an array of {width} numbers, got {echo(row)}")
                elif len(row) != width:
                    yield Fault(place, f"must hold {width} features, got {len(row)}")
                else:
                    yield from _number_faults(row, place, self._nullable)

    def _layered_state(self, entry: object, pointer: str, faults: "_Faults") -> State | None:
        layers = self._layers
        if not isinstance(entry, list) or len(entry) != len(layers):
            faults.add(pointer, f"must be an array of {len(layers)} layers, got {echo(entry)}")
            return None
        arrays: list[np.ndarray | None] = []
        for index, (state, layer) in enumerate(zip(entry, layers, strict=True)):
            place, parts = f"{pointer}/{index}", " and ".join(layer.parts)
            if not isinstance(state, dict):
                faults.add(place, f"must be an object with {parts}, got {echo(state)}")
            elif {name for name, part in state.items() if part is not None} != set(layer.parts):
                faults.add(
                    place, f"layer {index} is {layer.cell} and its state has exactly {parts}"
                )
            else:
                arrays += [
                    _vector(state[name], layer.units, f"{place}/{name}", faults)
                    for name in layer.parts
                ]
        found = [array for array in arrays if array is not None]
        whole = len(found) == sum(len(layer.parts) for layer in layers)
        return np.concatenate(found) if whole else None

    def _concatenated_state(
        self, entry: list[object], pointer: str, faults: "_Faults"
    ) -> State | None:
        size = sum(layer.units * len(layer.parts) for layer in self._layers)
        return _vector(entry, size, pointer, faults)


def print_json(value: object) -> bytes:
    """Prints an answer; float32 as its shortest decimal that reads back the same.

    Arrays must be finite: JSON has no other numbers.
    """
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


class _Faults:
    """Collects faults and stops looking after `MAX_FAULTS`."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    def add(self, pointer: str, message: str) -> None:
        self.extend([Fault(pointer, message)])

    def extend(self, faults: Iterable[Fault]) -> None:
        room = MAX_FAULTS - len(self._found)
        self._found += itertools.islice(faults, room)
        if len(self._found) >= MAX_FAULTS:
            self.raise_any()

    def raise_any(self) -> None:
        if self._found:
            raise InvalidRequest(*self._found)


def quick_numbers(numbers: list[object]) -> np.ndarray | None:
    """float32 `[N]`, or None if anything is not a number within the range of float32.

    `struct` is twice as fast as NumPy from a list, and refuses what rounds to infinity.
    """
    if not set(map(type, numbers)) <= _NUMBERS:
        return None
    try:
        # Only the form with a byte order refuses what does not fit.
        return np.frombuffer(struct.pack(f"<{len(numbers)}f", *numbers), "<f4")
    except OverflowError:
        return None


def _invalid(pointer: str, message: str) -> InvalidRequest:
    return InvalidRequest(Fault(pointer, message))


def _vector(value: object, size: int, pointer: str, faults: _Faults) -> np.ndarray | None:
    """float32 `[size]`, or None with the faults recorded."""
    if not isinstance(value, list) or len(value) != size:
        faults.add(pointer, f"must be an array of {size} numbers, got {echo(value)}")
        return None
    array = quick_numbers(value)
    if array is not None:
        return array
    faults.extend(_number_faults(value, pointer, np.zeros(size, bool)))
    return None


def _spans(layers: tuple[LayerLayout, ...]) -> list[list[tuple[str, int, int]]]:
    """For each layer: the names of its parts, and from where to where they stand in a state."""
    spans, end = [], 0
    for layer in layers:
        found = []
        for name in layer.parts:
            start, end = end, end + layer.units
            found.append((name, start, end))
        spans.append(found)
    return spans


def _number_faults(row: list[object], pointer: str, nullable: np.ndarray) -> Iterator[Fault]:
    for column, value in enumerate(row):
        place = f"{pointer}/{column}"
        if value is None:
            if not nullable[column]:
                yield Fault(place, "must be a number; null is not allowed here")
        elif type(value) not in _NUMBERS:
            yield Fault(place, f"must be a number, got {echo(value)}")
        elif not _fits_float32(value):
            yield Fault(place, f"{echo(value)} is beyond the range of float32, {FLOAT32_MAX:.4g}")


def _fits_float32(value: Any) -> bool:
    if -FLOAT32_MAX <= value <= FLOAT32_MAX:
        return True
    # What is above by less than half a step is rounded down.
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(value)))
