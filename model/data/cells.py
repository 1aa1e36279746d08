"""Cells of a table: text to numbers, where a row is from, and what is said of a cell that is wrong.

A column is an Arrow array as `formats.py` reads it: text from CSV, whatever type it has elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tomlkit

Decimal = Literal[".", ","]

# What stands for no number or no time in text, besides what a task names.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)

# Texts that are numbers: plain; with a comma before the decimals; with marks between thousands.
NUMBER = r"^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf|infinity|true|false))$"
DECIMAL_COMMA = r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$"
COMMA_THOUSANDS = r"^[+-]?\d{1,3}(?:,\d{3})+$"
COMMA_AND_POINT = r"^[+-]?\d{1,3}(?:,\d{3})+\.\d*$"
POINT_AND_COMMA = r"^[+-]?\d{1,3}(?:\.\d{3})+,\d*$"
TWO_COMMAS = r"^[+-]?\d{1,3}(?:,\d{3}){2,}$"


# Different texts of a column that is taken for a category: with more it may hold names, or notes.
MOST_VALUES = 64
# Words of a flag, in any case.
TRUE, FALSE = ("true", "yes", "1", "on", "t", "y"), ("false", "no", "0", "off", "f", "n")


class DataError(ValueError):
    """The table does not fit the task; the message says which column and why."""


@dataclass(frozen=True)
class Origin:
    """Which file the rows of a table are from.

    Attributes:
        files: each file and how many rows it has, in the order in which they were read.
        name: of all of them together: the path, or the pattern that found them.
    """

    files: tuple[tuple[Path, int], ...]
    name: Path

    def cell(self, column: str, row: int) -> str:
        """Where a cell is, to begin an error with: file, column and row, counted from 1."""
        path, place = self._of(row)
        return f"{path}: column {column!r}, row {place}"

    def row(self, row: int) -> str:
        """Which row it is, counted from 1, and of which file where there are several."""
        path, place = self._of(row)
        return f"row {place}" + (f" of {path}" if len(self.files) > 1 else "")

    def _of(self, row: int) -> tuple[Path, int]:
        for path, count in self.files:
            if row < count:
                return path, row + 1
            row -= count
        raise AssertionError(f"this is a bug: a table has no row {row} more")

    def column(self, column: str) -> str:
        """Where a column is, to begin an error with."""
        return f"{self.name}: column {column!r}"


def is_text(column: pa.ChunkedArray) -> bool:
    """Whether a column is of text."""
    kind = column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(column: pa.ChunkedArray) -> bool:
    """Whether a column is of a type of numbers, of true and false, or of nothing but nulls."""
    kind = column.type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def present(column: pa.ChunkedArray, missing: Sequence[str]) -> pa.ChunkedArray:
    """A column of text, without the space around it, null where it says that nothing is there."""
    trimmed = pc.utf8_trim_whitespace(column)
    absent = pc.is_in(trimmed, value_set=pa.array([*MISSING, *missing], trimmed.type))
    return pc.if_else(absent, pa.scalar(None, trimmed.type), trimmed)


def numbers(
    column: pa.ChunkedArray, name: str, origin: Origin, decimal: Decimal, missing: Sequence[str]
) -> np.ndarray:
    """A column as float64 `[N]`, NaN where there is no number.

    Args:
        column: of any type.
        name: of the column, for errors.
        origin: of its rows, for errors.
        decimal: what stands before the decimals in text.
        missing: texts, or numbers as text, that stand for no number besides the usual ones.

    Raises:
        DataError: a cell is text that is no number, or the column is of another type.
    """
    if is_text(column):
        texts = present(column, missing)
        values, wrong = parse_numbers(texts, decimal)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(_no_number(origin, name, row, texts, int(wrong.sum())))
        return values
    if not is_number(column):
        raise DataError(f"{origin.column(name)} holds {column.type}, no numbers")
    return without(float64(column), missing)


def float64(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64 `[N]`, NaN for null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def without(values: np.ndarray, missing: Sequence[str]) -> np.ndarray:
    """Numbers with NaN in the place of those that stand for none, such as -999."""
    marks = [float(text) for text in missing if _is_float(text)]
    return np.where(np.isin(values, marks), np.nan, values) if marks else values


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def categories(column: pa.ChunkedArray) -> pd.Categorical:
    """A column as the texts that it has, sorted; an empty cell has none.

    Nothing else is missing: a country may be called NA, and a series 007.
    """
    if not is_text(column):
        column = _as_text(column)
    blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    texts = pc.if_else(blank, pa.scalar(None, column.type), column).dictionary_encode()
    texts = texts.unify_dictionaries().combine_chunks()
    codes = pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)
    names = np.array(texts.dictionary.to_pylist(), object)
    order = np.argsort(names.astype(str), kind="stable")
    rank = np.empty(len(names) + 1, np.int32)
    rank[order], rank[-1] = np.arange(len(names)), -1
    return pd.Categorical.from_codes(rank[codes], names[order])


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers, and true and false, as text; whole numbers as their digits."""
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        # Whole numbers with gaps among them are floats.
        if pc.all(pc.equal(column, pc.round(column))).as_py():
            column = column.cast(pa.int64(), safe=False)
    return column.cast(pa.string())


def flags(column: pa.ChunkedArray, name: str, origin: Origin, missing: Sequence[str]) -> np.ndarray:
    """A column of true and false as 1 and 0, float64 `[N]`, NaN where there is none.

    Raises:
        DataError: a cell is neither.
    """
    texts = pc.utf8_lower(present(column if is_text(column) else _as_text(column), missing))
    values = np.full(len(texts), np.nan)
    for words, value in ((TRUE, 1.0), (FALSE, 0.0)):
        values[pc.is_in(texts, pa.array(words, texts.type)).to_numpy()] = value
    wrong = np.isnan(values) & pc.is_valid(texts).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        text = str(column[row].as_py())
        more = f" ({wrong.sum():,} cells of the column are neither)" if wrong.sum() > 1 else ""
        raise DataError(
            f"{origin.cell(name, row)} has {shown(text)}: a flag is true or false, yes or no, on "
            f"or off, 1 or 0{more}"
        )
    return values


def parse_numbers(texts: pa.ChunkedArray, decimal: Decimal) -> tuple[np.ndarray, np.ndarray]:
    """Text to numbers.

    Args:
        texts: as `present` gives them.
        decimal: what stands before the decimals.

    Returns:
        Numbers, float64 `[N]`, NaN where there is none; and where a text is no number, bool `[N]`.
    """
    plain = texts
    if decimal == ",":
        plain = pc.replace_substring(_without_thousands(plain, "."), ",", ".")
    elif pc.any(pc.match_substring(plain, ",")).as_py():
        plain = _without_thousands(plain, ",")
    try:
        return plain.cast(pa.float64()).to_numpy(), np.zeros(len(texts), bool)
    except pa.ArrowInvalid:
        spaced = pc.replace_substring_regex(plain, r"[\x{a0}\x{202f}]", " ")
        plain = pc.replace_substring_regex(_without_thousands(spaced, " "), r"^\+", "")
    good = pc.fill_null(pc.match_substring_regex(plain, NUMBER), True)
    plain = pc.if_else(good, plain, pa.scalar(None, plain.type))
    for word, digit in (("true", "1"), ("false", "0")):
        same = pc.equal(pc.utf8_lower(plain), word)
        plain = pc.if_else(same, pa.scalar(digit, plain.type), plain)
    return plain.cast(pa.float64()).to_numpy(), ~good.to_numpy(zero_copy_only=False)


def _without_thousands(texts: pa.ChunkedArray, mark: str) -> pa.ChunkedArray:
    """Texts without the marks between thousands, where those stand where they should."""
    rest = rf"(?:\{',' if mark == '.' else '.'}\d*)?"
    grouped = pc.match_substring_regex(texts, rf"^[+-]?\d{{1,3}}(?:[{mark}]\d{{3}})+{rest}$")
    return pc.if_else(grouped, pc.replace_substring(texts, mark, ""), texts)


def _no_number(origin: Origin, name: str, row: int, texts: pa.ChunkedArray, count: int) -> str:
    text = texts[row].as_py()
    more = f" ({count:,} cells of the column are no numbers)" if count > 1 else ""
    return (
        f"{origin.cell(name, row)} has {shown(text)}, which is no number{more}: correct it, leave "
        "it empty, or say in the task that it stands for none, missing_values = "
        f"[{tomlkit.item(text).as_string()}]"
    )


def shown(text: str, most: int = 60) -> str:
    """A cell's text in quotes, cut where it is long."""
    return repr(text if len(text) <= most else f"{text[:most]}...")


def find_decimal(columns: Iterable[tuple[str, pa.ChunkedArray]], origin: Origin) -> Decimal:
    """What stands before the decimals, found in the texts of a table.

    Raises:
        DataError: nothing tells whether 1,234 is a thousand or a little more than one.
    """
    unclear = None
    for name, column in columns:
        texts = present(column, ())
        if not pc.any(pc.match_substring(texts, ",")).as_py():
            continue
        if _any(texts, COMMA_AND_POINT) or _any(texts, TWO_COMMAS):
            return "."
        commas = pc.filter(texts, pc.match_substring_regex(texts, DECIMAL_COMMA))
        if _any(texts, POINT_AND_COMMA) or len(commas) > _count(commas, COMMA_THOUSANDS):
            return ","
        if len(commas) and unclear is None:
            row = int(np.argmax(pc.fill_null(pc.equal(texts, commas[0]), False).to_numpy()))
            unclear = name, row, commas[0].as_py()
    if unclear is None:
        return "."
    name, row, text = unclear
    raise DataError(
        f"{origin.cell(name, row)} has {shown(text)}, which is {text.replace(',', '')} or "
        f'{text.replace(",", ".")}: say which, decimal = "." or decimal = "," in the task'
    )


def _any(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _count(texts: pa.ChunkedArray, pattern: str) -> int:
    return pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0
