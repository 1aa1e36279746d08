"""`MixedSequences`: sequences of a model with columns that are no plain numbers.

Which codec a model has is decided when it is loaded: one of plain numbers has `SequenceCodec`,
which looks at all of them at once.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from app.codec.columns import (
    CategoryColumn,
    CodeColumn,
    Column,
    FlagColumn,
    NumberColumn,
    columns_sent,
    columns_taken,
)
from app.codec.json_numbers import BLOCK, Faults, float32_copy, invalid
from app.codec.sequences import Limits, SequenceCodec
from app.columns import Category, Feature
from app.errors import Fault

NULL = "null is not allowed here"


class MixedSequences(SequenceCodec):
    """Parses sequences column by column. See `SequenceCodec`.

    Args:
        features: of the model.
        columns: what reads the values of each.
        limits: what a request may hold.
    """

    def __init__(
        self, features: Sequence[Feature], columns: Sequence[Column], limits: Limits
    ) -> None:
        # A static column may be null after the first row; that it is not there, `_fill` checks.
        nullable = tuple(feature.missing or feature.static for feature in features)
        super().__init__(tuple(feature.name for feature in features), nullable, limits)
        self.columns = self._readers = tuple(columns)
        self.static = tuple(i for i, feature in enumerate(features) if feature.static)
        self.has_text = any(isinstance(column, CategoryColumn) for column in columns)
        self._required = [i for i in self.static if not features[i].missing]
        coded = [i for i, column in enumerate(columns) if not isinstance(column, NumberColumn)]
        self._coded = {i: CodeColumn(_last_code(columns[i])) for i in coded}
        self._bases = np.array(
            [column.base if isinstance(column, NumberColumn) else 0.0 for column in columns]
        )

    def from_numbers(self, array: np.ndarray, pointer: str) -> np.ndarray:
        """See `SequenceCodec`.

        Raises:
            InvalidRequest: the numbers are float32, which cannot tell what differs in a column.
        """
        relative = np.flatnonzero(self._bases)
        if len(relative) and array.dtype.kind == "f" and array.dtype.itemsize < 8:
            name, base = self.names[relative[0]], self._bases[relative[0]]
            raise invalid(pointer, of_too_few_digits(name, base, str(array.dtype)))
        return float32_copy(array.astype(np.float64) - self._bases)

    def cut(
        self, rows: np.ndarray, lengths: Sequence[int], pointer: str = "/sequences"
    ) -> list[np.ndarray]:
        """See `SequenceCodec`."""
        arrays = super().cut(rows, lengths, pointer)
        if not self.static:
            return arrays
        faults, made = Faults(), []
        for index, array in enumerate(arrays):
            # What came as JSON cannot be written.
            filled = array.copy()
            faults.extend(self._fill(filled, f"{pointer}/{index}"))
            made.append(filled)
        faults.raise_any()
        return made

    def _fill(self, array: np.ndarray, pointer: str) -> Iterator[Fault]:
        """Repeats what is static from the first row; tells where that is missing or changes."""
        for index in self.static:
            column, name = array[:, index], self.names[index]
            first = column[0]
            if np.isnan(first) and index in self._required:
                told = f"{name} is static: it must be in the first row"
                yield Fault(f"{pointer}/0/{index}", told)
            # NaN is neither larger nor smaller.
            changed = (column < first) | (column > first)
            if np.isnan(first):
                changed = ~np.isnan(column)
            if changed.any():
                row = int(np.argmax(changed))
                yield Fault(
                    f"{pointer}/{row}/{index}",
                    f"{name} is static: it must be that of the first row, or null",
                )
            column[:] = first

    def _quick_sequence(self, rows: object, booleans: bool) -> np.ndarray | None:
        array = super()._quick_sequence(
            self._expanded(rows) if isinstance(rows, dict) else rows, booleans
        )
        if array is None or not self.static:
            return array
        return None if any(self._fill(array, "")) else array

    def _expanded(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Named columns, with those that are static as lists though they came as one value."""
        steps = next((len(column) for column in columns.values() if isinstance(column, list)), 1)
        single = {
            name: [columns[name], *itertools.repeat(None, steps - 1)]
            for name in (self.names[index] for index in self.static)
            if name in columns and not isinstance(columns[name], list | dict)
        }
        return columns | single

    def _quick_numbers(self, numbers: list[object], booleans: bool) -> np.ndarray | None:
        width = len(self.columns)
        made = np.empty((len(numbers) // width, width), np.float32)
        for index, column in enumerate(self._readers):
            array = column.read(numbers[index::width])
            if array is None:
                return None
            made[:, index] = array
        return made if self._fine(made) else None

    def _fine(self, array: np.ndarray) -> bool:
        return super()._fine(array) and all(
            column.holds(array[:, index]).all() for index, column in self._coded.items()
        )

    def _cell_faults(self, array: np.ndarray, pointer: str) -> Iterator[Fault]:
        yield from super()._cell_faults(array, pointer)
        for index, column in self._coded.items():
            values = array[:, index]
            for time in np.flatnonzero(~column.holds(values) & np.isfinite(values)):
                told = f"{self.names[index]} is {values[time]:g}, no whole number from 0 to"
                yield Fault(f"{pointer}/{time}/{index}", f"{told} {column.last}")

    def _sequence_faults(self, rows: object, pointer: str) -> Iterator[Fault]:
        given = self._expanded(rows) if isinstance(rows, dict) else rows
        found = list(itertools.islice(super()._sequence_faults(given, pointer), BLOCK))
        yield from found
        if not found:
            # Of all else nothing is wrong.
            array = super()._quick_sequence(given, True)
            assert array is not None, "what has no faults is quick"
            yield from self._fill(array, pointer)

    def _value_faults(self, row: list[object], pointer: str) -> Iterator[Fault]:
        for index, value in enumerate(row):
            if told := self._told(value, index):
                yield Fault(f"{pointer}/{index}", told)

    def _named_faults(self, column: list[object], pointer: str, index: int) -> Iterator[Fault]:
        for start in range(0, len(column), BLOCK):
            block = column[start : start + BLOCK]
            array = self._readers[index].read(block)
            if array is None or (np.isnan(array).any() and not self._nullable[index]):
                for time, value in enumerate(block, start):
                    if told := self._told(value, index):
                        yield Fault(f"{pointer}/{time}", told)

    def _told(self, value: object, index: int) -> str | None:
        """What is wrong with a value of feature `index`, by its name."""
        told = None
        if value is not None:
            told = self._readers[index].fault(value)
        elif not self._nullable[index]:
            told = f"must be there; {NULL}"
        return f"{self.names[index]} {told}" if told else None


def of_too_few_digits(name: str, base: float, given: str) -> str:
    """Why numbers of a column with a base are refused in float32."""
    return f"must be float64 or whole numbers, not {given}: {name} is near {base:.15g}"


def sequence_codecs(
    features: Sequence[Feature], limits: Limits
) -> tuple[SequenceCodec, SequenceCodec]:
    """What reads the sequences of a model: those of callers, and those that are float32 tensors."""
    sent, taken = columns_sent(features), columns_taken(features)
    plain = NumberColumn()
    if all(column == plain for column in sent) and not any(f.static for f in features):
        nullable = tuple(feature.missing for feature in features)
        codec = SequenceCodec(tuple(feature.name for feature in features), nullable, limits)
        return codec, codec
    return MixedSequences(features, sent, limits), MixedSequences(features, taken, limits)


def texts_of(features: Sequence[Feature]) -> list[str]:
    """Of each feature that is text, the value with the most quotes."""
    transforms = [feature.transform for feature in features]
    values = [transform.values for transform in transforms if isinstance(transform, Category)]
    return [max(each, key=lambda value: value.count('"')) for each in values]


def _last_code(column: Column) -> int:
    if isinstance(column, CategoryColumn):
        return len(column.codes)
    return column.last if isinstance(column, CodeColumn) else int(isinstance(column, FlagColumn))
