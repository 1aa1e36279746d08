"""The values of a feature in an Arrow array, as kernels take them."""

from typing import Any

import numpy as np
import pyarrow as pa

from app.codec.columns import CategoryColumn, Column, FlagColumn, NumberColumn
from app.codec.json_numbers import float32_copy

TEXT = "text, or dictionaries of text"


def fits(kind: Any, column: Column | None) -> bool:
    """Whether values of an Arrow type are those of a feature; None is of plain numbers."""
    if isinstance(column, CategoryColumn):
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        return is_text(value) or (column.takes_numbers and bool(pa.types.is_integer(value)))
    if isinstance(column, FlagColumn) and pa.types.is_boolean(kind):
        return True
    if isinstance(column, NumberColumn) and column.base:
        # Fewer bits cannot tell what differs.
        return bool(pa.types.is_float64(kind) or pa.types.is_integer(kind))
    return is_number(kind)


def expected(column: Column | None) -> str:
    """What values of a feature are, for who sent others."""
    if isinstance(column, CategoryColumn):
        integers = column.takes_numbers
        return "text, dictionaries of text, or integers" if integers else TEXT
    if isinstance(column, FlagColumn):
        return "booleans, or the numbers 1 and 0"
    if isinstance(column, NumberColumn) and column.base:
        return f"float64 or integers, since they are near {column.base:.15g}"
    return "numbers"


def values_of(array: Any, column: Column | None) -> np.ndarray:
    """float32 `[N]`, NaN where null.

    Args:
        array: of a type that fits.
        column: of the feature; None for plain numbers, which may be of any type then.
    """
    if isinstance(column, CategoryColumn):
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        found = column.read(encoded.dictionary.cast(pa.large_string()).to_pylist())
        assert found is not None, "text is a value of every category"
        codes = np.append(found, np.float32(np.nan))
        places = encoded.indices.cast(pa.int64()).fill_null(len(found))
        return np.asarray(codes[places.to_numpy(zero_copy_only=False)])
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    numbers: np.ndarray = array.to_numpy(zero_copy_only=False)
    if isinstance(column, NumberColumn):
        return column.relative(numbers)
    return numbers if column is None else float32_copy(numbers)


def is_number(kind: Any) -> bool:
    """Whether a type is of numbers."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def is_text(kind: Any) -> bool:
    """Whether a type is of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
