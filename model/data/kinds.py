"""What a column is, as far as its name and its cells tell: a number, an angle, a flag, a category.

`draft.py` asks for each column of a table of which nothing was said.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.data import cells
from model.data.cells import Decimal, Origin
from model.data.time_formats import looks_like_times

Kind = Literal["number", "cyclic", "flag", "category", "times", "none"]

# A name with its unit behind it: Temp (degC), speed [m/s].
WITH_UNIT = re.compile(r"^(?P<name>.*?)[\s_]*[\[(](?P<unit>[^\])]{1,20})[\])]\s*$")
DEGREES = {"deg", "degree", "degrees", "°"}
DIRECTIONS = {
    *("dir", "direction", "bearing", "azimuth", "heading", "angle", "wdir", "winddir"),
    *("winddirection", "drct"),
}
# Columns of the calendar by their names, with their periods and their units.
CYCLES = {
    "hour": (24.0, "h"),
    "hour_of_day": (24.0, "h"),
    "weekday": (7.0, "d"),
    "dayofweek": (7.0, "d"),
    "day_of_week": (7.0, "d"),
    "dayofyear": (365.25, "d"),
    "day_of_year": (365.25, "d"),
    "month": (12.0, "month"),
    "minute": (60.0, "min"),
}
FLAGS = [{yes, no} for yes, no in zip(cells.TRUE, cells.FALSE, strict=True)]
# Words that stand for no number, besides `cells.MISSING`; and numbers that do where they are far
# from all others.
WORDS = {
    *("nil", "none", "null", "missing", "unknown", "undefined", "void", "no data", "nodata", "bad"),
    *("n.a.", "n.a", "error", "#value!", "#div/0!", "m", "x", "*", "-", "--", "---", "?", "."),
}
MARKS = (
    -99.0,
    -99.9,
    -200.0,
    -999.0,
    -999.9,
    -9999.0,
    -9999.9,
    -99999.0,
    999.0,
    9999.0,
    99999.0,
    999999.0,
)
# Whole numbers that are called so, and are few, are codes of something.
CODES = {"id", "code", "type", "class", "category", "kind", "mode", "group", "zone", "status"}
MOST_CODES = 20
# Text of which so much is numbers is a column of numbers with something wrong in it.
MOSTLY = 0.9


@dataclass(frozen=True)
class Finding:
    """What was found out about a column.

    Attributes:
        column: its name.
        kind: what it is; `none` for what cannot be used.
        name: without its unit.
        unit: from its name, or of its kind; "" where nothing tells.
        period: of a cyclic column.
        values: float64 `[N]` of a column of numbers, NaN where there is none.
        of_numbers: whether it is one, whose values may be left out to save memory.
        missing: the part of the rows that have no value.
        words: texts that stand for no number in it.
        why: why it is of no use; "" if it is.
        static: whether each series has one value of it.
    """

    column: str
    kind: Kind
    name: str
    unit: str = ""
    period: float | None = None
    values: np.ndarray | None = None
    missing: float = 0.0
    words: tuple[str, ...] = ()
    why: str = ""
    of_numbers: bool = False
    static: bool = False


def find_kind(column: pa.ChunkedArray, name: str, decimal: Decimal, origin: Origin) -> Finding:
    """Finds out what a column is.

    Args:
        column: as it was read.
        name: of the column.
        decimal: what stands before the decimals in text.
        origin: of its rows, for errors.

    Raises:
        DataError: it is a column of numbers, and one of its cells is none.
    """
    plain, unit = _split_unit(name)
    if cells.is_text(column):
        return _of_text(column, name, plain, unit, decimal, origin)
    if pa.types.is_boolean(column.type):
        missing = column.null_count / len(column)
        values = cells.float64(column)
        return Finding(name, "flag", plain, unit, values=values, missing=missing, of_numbers=True)
    if cells.is_number(column):
        return _of_numbers(cells.float64(column), name, plain, unit)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return Finding(name, "times", plain, why="holds times")
    return Finding(name, "none", plain, why=f"holds {column.type}")


def _split_unit(name: str) -> tuple[str, str]:
    found = WITH_UNIT.match(name)
    return (found["name"], found["unit"]) if found and found["name"] else (name, "")


def _of_text(
    column: pa.ChunkedArray, name: str, plain: str, unit: str, decimal: Decimal, origin: Origin
) -> Finding:
    texts = cells.present(column, ())
    given = len(texts) - texts.null_count
    if given == 0:
        return Finding(name, "none", plain, missing=1.0, why="is empty")
    values, wrong = cells.parse_numbers(texts, decimal)
    if not wrong.any():
        return _of_numbers(values, name, plain, unit)
    odd = pc.unique(pc.filter(texts, pa.array(wrong))).to_pylist()
    if wrong.sum() <= (1 - MOSTLY) * given:
        words = tuple(text for text in odd if text.lower() in WORDS)
        cells.numbers(column, name, origin, decimal, words)  # names the cell that is neither
        return _of_numbers(values, name, plain, unit, words)
    missing = 1 - given / len(texts)
    distinct = pc.unique(pc.drop_null(texts))
    if len(distinct) == 1:
        return Finding(
            name, "none", plain, missing=missing, why=f"is {cells.shown(odd[0])} throughout"
        )
    if {text.lower() for text in distinct[:3].to_pylist()} in FLAGS and len(distinct) == 2:
        return Finding(name, "flag", plain, unit, missing=missing)
    if looks_like_times(texts):
        return Finding(name, "times", plain, missing=missing, why="holds times")
    if len(distinct) <= min(cells.MOST_VALUES, given / 2):
        return Finding(name, "category", plain, unit, missing=missing)
    why = f"is text with {len(distinct):,} different values"
    return Finding(name, "none", plain, missing=missing, why=why)


def _of_numbers(
    values: np.ndarray, name: str, plain: str, unit: str, words: tuple[str, ...] = ()
) -> Finding:
    marks = _marks(values)
    if marks:
        values = np.where(np.isin(values, marks), np.nan, values)
        words = (*words, *(f"{mark:g}" for mark in marks))
    finite = values[np.isfinite(values)]
    missing = 1 - len(finite) / max(1, len(values))
    if len(finite) == 0:
        return Finding(name, "none", plain, missing=1.0, why="is empty")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return Finding(
            name, "none", plain, unit, None, values, missing, words, f"is {low:g} throughout"
        )
    if _counts_rows(values):
        return Finding(name, "none", plain, unit, None, values, missing, words, "counts the rows")
    whole = bool((finite == np.round(finite)).all())
    kind: Kind = "number"
    if (low, high) == (0.0, 1.0) and whole:
        kind = "flag"
    elif whole and not unit and CODES & set(re.split(r"[^a-z]+", plain.lower())):
        kind = "category" if len(np.unique(finite)) <= MOST_CODES else kind
    period, unit = _cycle(plain, unit, low, high, whole)
    if period is not None:
        kind = "cyclic"
    return Finding(name, kind, plain, unit, period, values, missing, words, of_numbers=True)


def _counts_rows(values: np.ndarray) -> bool:
    """Whether a column is the number of each row, from 0 or 1: an index that was written too."""
    first = values[0]
    return first in (0.0, 1.0) and bool((values == first + np.arange(len(values))).all())


def _marks(values: np.ndarray) -> list[float]:
    """Numbers such as -999 that stand for none: far from all others, and often the same."""
    found = []
    finite = values[np.isfinite(values)]
    for mark in MARKS:
        same = finite == mark
        if same.sum() < 3 or same.all():
            continue
        others = finite[~same]
        low, high = float(others.min()), float(others.max())
        distance = max(low - mark, mark - high)
        if distance > max(high - low, 1.0) / 2 and same.mean() < 0.5:
            finite = others
            found.append(mark)
    return found


def _cycle(name: str, unit: str, low: float, high: float, whole: bool) -> tuple[float | None, str]:
    """The period of a cyclic column, and its unit; None of any other."""
    words = set(re.split(r"[^a-z°]+", name.lower()))
    degrees = unit.lower() in DEGREES or (not unit and words & (DIRECTIONS | DEGREES))
    if degrees and low >= -180 and 180 < high - min(low, 0) <= 360:
        return 360.0, unit or "deg"
    if unit.lower() in {"rad", "radian", "radians"} and math.pi < high - min(low, 0) <= 6.2832:
        return 2 * math.pi, unit
    cycle = CYCLES.get(name.lower().strip())
    if cycle is not None and low >= 0 and high <= cycle[0] + 1 and (whole or cycle[0] == 24):
        return cycle[0], unit or cycle[1]
    return None, unit
