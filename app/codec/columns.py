"""What callers send for a feature as kernels take it: less a base, as 1 and 0, as a code.

A `Column` reads one feature's values. What callers of JSON, Arrow and NPZ send is read by those of
`columns_sent`; what is float32 in a protocol comes as kernels take it, and is read by those of
`columns_taken`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.codec.json_numbers import FLOAT32_MAX, NUMBERS_OR_NULL, echo
from app.columns import Category, Feature, Flag

BOOLEANS_OR_NULL = NUMBERS_OR_NULL | {bool}
TEXT_OR_NULL = frozenset({str, type(None)})


class Column(Protocol):
    """Reads one feature's values; null is NaN, whether it may be or not."""

    def read(self, values: Sequence[object]) -> np.ndarray | None:
        """float32 `[T]`, or None if one of them is wrong."""

    def fault(self, value: object) -> str | None:
        """What is wrong with a value that is not null, if anything is."""


@dataclass(frozen=True)
class NumberColumn:
    """Numbers, less `base`."""

    base: float = 0.0

    def read(self, values: Sequence[object]) -> np.ndarray | None:
        """See `Column`."""
        if not set(map(type, values)) <= NUMBERS_OR_NULL:
            return None
        array = self.relative(np.array(values, np.float64))
        return None if np.isinf(array).any() else array

    def relative(self, numbers: np.ndarray) -> np.ndarray:
        """float32 of numbers in any type; infinite where float32 cannot hold what is left."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (numbers.astype(np.float64) - self.base).astype(np.float32)

    def fault(self, value: object) -> str | None:
        """See `Column`."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"must be a number, got {echo(value)}"
        if np.isinf(self.relative(np.array(value))):
            of_base = f" from its base {self.base:.15g}" if self.base else ""
            return f"{echo(value)} is beyond the range of float32, {FLOAT32_MAX:.4g}{of_base}"
        return None


@dataclass(frozen=True)
class CodeColumn:
    """Codes: whole numbers from 0 to `last`."""

    last: int

    def read(self, values: Sequence[object]) -> np.ndarray | None:
        """See `Column`."""
        if not set(map(type, values)) <= NUMBERS_OR_NULL:
            return None
        codes = np.array(values, np.float64)
        return codes.astype(np.float32) if self.holds(codes).all() else None

    def holds(self, codes: np.ndarray) -> np.ndarray:
        """Whether each is a code, or NaN."""
        whole = (codes >= 0) & (codes <= self.last) & (codes == np.floor(codes))
        return np.asarray(whole | np.isnan(codes))

    def fault(self, value: object) -> str | None:
        """See `Column`."""
        if self.read([value]) is not None:
            return None
        return f"must be a whole number from 0 to {self.last}, got {echo(value)}"


@dataclass(frozen=True)
class FlagColumn:
    """True and false; also 1 and 0."""

    def read(self, values: Sequence[object]) -> np.ndarray | None:
        """See `Column`."""
        if not set(map(type, values)) <= BOOLEANS_OR_NULL:
            return None
        array = np.array(values, np.float64)
        return array.astype(np.float32) if CodeColumn(1).holds(array).all() else None

    def fault(self, value: object) -> str | None:
        """See `Column`."""
        return (
            None if self.read([value]) is not None else f"must be true or false, got {echo(value)}"
        )


class CategoryColumn:
    """Text; where known values are numbers, numbers too. What is not known has the code 0.

    Args:
        values: those that are known, of which `values[i]` has the code `i + 1`.

    Attributes:
        takes_numbers: whether a known value is a number.
    """

    def __init__(self, values: tuple[str, ...]) -> None:
        self.codes = {text: float(code) for code, text in enumerate(values, 1)}
        self.takes_numbers = any(_is_number(text) for text in values)
        self._types = TEXT_OR_NULL | NUMBERS_OR_NULL if self.takes_numbers else TEXT_OR_NULL
        self._expected = "text or a number" if self.takes_numbers else "text"

    def read(self, values: Sequence[object]) -> np.ndarray | None:
        """See `Column`."""
        if not set(map(type, values)) <= self._types:
            return None
        codes = self.codes
        found = [np.nan if value is None else codes.get(text_of(value), 0.0) for value in values]
        return np.array(found, np.float32)

    def fault(self, value: object) -> str | None:
        """See `Column`."""
        if type(value) in self._types:
            return None
        return f"must be {self._expected}, got {echo(value)}"


def text_of(value: object) -> str:
    """A value of a category as text; a whole number is its digits."""
    if isinstance(value, str):
        return value
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]


def _is_number(text: str) -> bool:
    try:
        return text_of(float(text)) == text
    except (ValueError, OverflowError):
        return False


def columns_sent(features: Iterable[Feature]) -> list[Column]:
    """What reads the values of a model's features as callers send them."""
    return [_sent(feature) for feature in features]


def _sent(feature: Feature) -> Column:
    transform = feature.transform
    if isinstance(transform, Category):
        return CategoryColumn(transform.values)
    if isinstance(transform, Flag):
        return FlagColumn()
    return NumberColumn(feature.base)


def columns_taken(features: Iterable[Feature]) -> list[Column]:
    """What reads the values of a model's features as kernels take them."""
    return [_taken(feature) for feature in features]


def _taken(feature: Feature) -> Column:
    transform = feature.transform
    if isinstance(transform, Category):
        return CodeColumn(len(transform.values))
    return CodeColumn(1) if isinstance(transform, Flag) else NumberColumn()
