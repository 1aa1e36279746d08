"""Sequences: rows of numbers or named columns as JSON, and arrays that came as bytes."""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.codec.columns import Column
from app.codec.json_numbers import (
    BLOCK,
    MAX_FAULTS,
    Faults,
    echo,
    escaped,
    float32_copy,
    invalid,
    nullable_numbers,
    number_faults,
    quick_numbers,
)
from app.errors import Fault


@dataclass(frozen=True)
class Limits:
    """What a request may hold."""

    max_sequences: int
    max_sequence_steps: int


class SequenceCodec:
    """Parses sequences of one model.

    Args:
        names: of the features.
        nullable: for each feature, whether it may be null.
        limits: what a request may hold.

    Attributes:
        names, limits: as given.
        columns: what reads the values of each feature; None for plain numbers.
        static: places of the features that are null after the first row, or repeated.
        has_text: whether some feature is text.
    """

    columns: tuple[Column | None, ...]
    static: tuple[int, ...] = ()
    has_text = False

    def __init__(self, names: tuple[str, ...], nullable: tuple[bool, ...], limits: Limits) -> None:
        self.names = names
        self.limits = limits
        self.columns = (None,) * len(names)
        self._nullable = np.array(nullable)
        self._may_be_null = any(nullable)

    def parse(self, value: object, booleans: bool = True) -> list[np.ndarray]:
        """Reads `sequences`.

        Args:
            value: whatever is there.
            booleans: whether `true` or `false` may be in it.

        Returns:
            float32 `[T, F]` for each; NaN where null.

        Raises:
            InvalidRequest: with up to `MAX_FAULTS` places.
        """
        if not isinstance(value, list):
            raise invalid("/sequences", f"must be an array of sequences, got {echo(value)}")
        self.check_count(len(value))
        arrays = [self._quick_sequence(rows, booleans) for rows in value]
        good = [array for array in arrays if array is not None]
        if len(good) < len(arrays):
            faults = Faults()
            for index, (array, rows) in enumerate(zip(arrays, value, strict=True)):
                if array is None:
                    faults.extend(self._sequence_faults(rows, f"/sequences/{index}"))
            faults.raise_any()
        return good

    def parse_one(self, value: object, pointer: str, booleans: bool = True) -> np.ndarray:
        """Reads one sequence, float32 `[T, F]`; as `parse`."""
        array = self._quick_sequence(value, booleans)
        if array is None:
            faults = Faults()
            faults.extend(self._sequence_faults(value, pointer))
            faults.raise_any()
        assert array is not None, "what has no faults is quick"
        return array

    def check_count(self, count: int, pointer: str = "/sequences") -> None:
        """Whether a request may have so many sequences; raises `InvalidRequest`."""
        limit = self.limits.max_sequences
        if count == 0:
            raise invalid(pointer, "must hold at least one sequence")
        if count > limit:
            raise invalid(pointer, f"holds {count} sequences, the limit is {limit}")

    def check_lengths(self, lengths: Sequence[int], pointer: str = "/sequences") -> None:
        """Whether a request may have sequences of so many time steps; raises as `parse`."""
        self.check_count(len(lengths), pointer)
        if min(lengths) > 0 and max(lengths) <= self.limits.max_sequence_steps:
            return
        faults = Faults()
        for index, length in enumerate(lengths):
            faults.extend(self._length_faults(length, f"{pointer}/{index}"))
        faults.raise_any()

    def from_numbers(self, array: np.ndarray, pointer: str) -> np.ndarray:
        """Numbers `[..., F]` in any type that came as bytes, as kernels take them; float32.

        Args:
            array: a number each; of a category its code.
            pointer: to them in the request.
        """
        return float32_copy(array)

    def cut(
        self, rows: np.ndarray, lengths: Sequence[int], pointer: str = "/sequences"
    ) -> list[np.ndarray]:
        """Sequences that came as bytes, one after the other.

        Args:
            rows: float32 `[sum of lengths, F]`; NaN where null.
            lengths: time steps of each.
            pointer: to them in the request.

        Raises:
            InvalidRequest: with up to `MAX_FAULTS` places.
        """
        self.check_lengths(lengths, pointer)
        ends = list(itertools.accumulate(lengths))
        arrays = [rows[end - n : end] for n, end in zip(lengths, ends, strict=True)]
        if not self._fine(rows):
            faults = Faults()
            for index, array in enumerate(arrays):
                if not self._fine(array):
                    faults.extend(self._cell_faults(array, f"{pointer}/{index}"))
            faults.raise_any()
        return arrays

    def _quick_sequence(self, rows: object, booleans: bool) -> np.ndarray | None:
        """The array, or None if anything at all is wrong."""
        if isinstance(rows, dict):
            return self._quick_columns(rows, booleans)
        if not isinstance(rows, list) or not 0 < len(rows) <= self.limits.max_sequence_steps:
            return None
        return self._quick_rows(rows, booleans)

    def _quick_rows(self, rows: list[Any], booleans: bool = True) -> np.ndarray | None:
        """The array of rows, at least one, or None if anything at all is wrong."""
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(self._nullable)}:
            return None
        return self._quick_numbers(list(itertools.chain.from_iterable(rows)), booleans)

    def _quick_columns(self, columns: dict[str, object], booleans: bool) -> np.ndarray | None:
        """The array of named columns, or None if anything at all is wrong."""
        if columns.keys() != set(self.names):
            return None
        found = [columns[name] for name in self.names]
        lists = [column for column in found if isinstance(column, list)]
        lengths = set(map(len, lists))
        if len(lists) < len(found) or len(lengths) != 1:
            return None
        steps = lengths.pop()
        if not 0 < steps <= self.limits.max_sequence_steps:
            return None
        numbers = list(itertools.chain.from_iterable(zip(*lists, strict=True)))
        return self._quick_numbers(numbers, booleans)

    def _quick_numbers(self, numbers: list[object], booleans: bool) -> np.ndarray | None:
        """The array of numbers, row by row, or None if one of them is wrong."""
        shape = (-1, len(self._nullable))
        array = quick_numbers(numbers, booleans)
        if array is not None:
            return array.reshape(shape)
        array = nullable_numbers(numbers) if self._may_be_null else None
        if array is None or not self._fine(array.reshape(shape)):
            return None
        return array.reshape(shape)

    def _fine(self, array: np.ndarray) -> bool:
        """Whether all numbers are finite, or missing where they may be."""
        fine = np.isfinite(array)
        return bool(fine.all() or (fine | (np.isnan(array) & self._nullable)).all())

    def _cell_faults(self, array: np.ndarray, pointer: str) -> Iterator[Fault]:
        wrong = ~(np.isfinite(array) | (np.isnan(array) & self._nullable))
        for time, column in np.argwhere(wrong):
            value, name = array[time, column], self.names[column]
            what = "missing, which it may not be" if np.isnan(value) else f"{value}, not finite"
            yield Fault(f"{pointer}/{time}/{column}", f"{name} is {what}")

    def _sequence_faults(self, rows: object, pointer: str) -> Iterator[Fault]:
        if isinstance(rows, dict):
            yield from self._column_faults(rows, pointer)
        elif not isinstance(rows, list):
            yield Fault(pointer, f"must be an array of time steps, got {echo(rows)}")
        elif wrong := list(self._length_faults(len(rows), pointer)):
            yield from wrong
        else:
            size = -(-BLOCK // len(self._nullable))
            for start in range(0, len(rows), size):
                block = rows[start : start + size]
                if self._quick_rows(block) is None:
                    yield from self._row_faults(block, start, pointer)

    def _row_faults(self, rows: list[object], start: int, pointer: str) -> Iterator[Fault]:
        """What is wrong with rows, the first of which is time step `start`."""
        width = len(self._nullable)
        for time, row in enumerate(rows, start):
            place = f"{pointer}/{time}"
            if not isinstance(row, list):
                yield Fault(place, f"must be an array of {width} numbers, got {echo(row)}")
            elif len(row) != width:
                yield Fault(place, f"must hold {width} features, got {len(row)}")
            else:
                yield from self._value_faults(row, place)

    def _value_faults(self, row: list[object], pointer: str) -> Iterator[Fault]:
        """What is wrong with the values of a time step."""
        return number_faults(row, pointer, self._nullable)

    def _length_faults(self, length: int, pointer: str) -> Iterator[Fault]:
        limit = self.limits.max_sequence_steps
        if length == 0:
            yield Fault(pointer, "must hold at least one time step")
        elif length > limit:
            yield Fault(
                pointer,
                f"holds {length} time steps, the limit is {limit}; "
                "send it in pieces and continue from the states",
            )

    def _column_faults(self, columns: dict[str, object], pointer: str) -> Iterator[Fault]:
        """What is wrong with named columns."""
        for name in self.names:
            if name not in columns:
                yield Fault(pointer, f"column {echo(name)} is missing")
        # A body may have very many of them.
        for name in heapq.nsmallest(MAX_FAULTS, columns.keys() - set(self.names)):
            yield Fault(pointer, f"there is no feature {echo(name)}")
        first, steps = "", None
        for index, name in enumerate(self.names):
            if name not in columns:
                continue
            column, place = columns[name], f"{pointer}/{escaped(name)}"
            if not isinstance(column, list):
                yield Fault(place, f"must be an array of numbers, got {echo(column)}")
                continue
            if steps is None:
                first, steps = name, len(column)
                yield from self._length_faults(steps, place)
            if len(column) != steps:
                yield Fault(place, f"holds {len(column)} time steps, {echo(first)} {steps}")
            elif steps <= self.limits.max_sequence_steps:
                yield from self._named_faults(column, place, index)

    def _named_faults(self, column: list[object], pointer: str, index: int) -> Iterator[Fault]:
        """What is wrong with the values of a named column, that of feature `index`."""
        return number_faults(column, pointer, np.broadcast_to(self._nullable[index], len(column)))
