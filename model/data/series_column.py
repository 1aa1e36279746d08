"""Which rows of a table are of one series, where nothing was said of it."""

import numpy as np
import pandas as pd
import pyarrow as pa

from model.data.cells import categories, is_text, parse_numbers, present
from model.data.formats import Columns
from model.data.ready_sequences import SEQUENCE

# So much of the rows may have the time of another of their series, which is refused later.
WRONG_PART = 0.01
# Of integers, a column with more values than a part of the first rows is no name of a series.
MOST_PART, SAMPLE = 0.1, 10_000


def series_codes(columns: Columns, series: str | None) -> np.ndarray:
    """Which series a row is of, int64 `[N]`, by their names; -1 where that is not said."""
    if series is None:
        return np.zeros(len(columns.table), np.int64)
    return np.asarray(categories(columns.table[series]).codes, np.int64)


def find_series(columns: Columns, times: np.ndarray | None, excluded: set[str]) -> str | None:
    """The column that tells series apart, if there are several.

    It is the one with the fewest values of those that leave no time twice, text before numbers.

    Args:
        columns: of the table.
        times: `[N]`; None where there are none.
        excluded: columns that are something else.

    Returns:
        None where no time stands twice, or no column explains it.
    """
    if times is None:
        return SEQUENCE if SEQUENCE in columns.names else None
    twice = pd.Series(times).duplicated(keep=False).to_numpy() & ~pd.isna(times)
    if not twice.any():
        return None
    rows = np.flatnonzero(twice)
    some = columns.table if twice.all() else columns.table.take(pa.array(rows))
    instants = pd.Series(times[rows])
    # Rows that another repeats tell nothing; and a few that are wrong are told as such later.
    allowed = _repeated(some) + WRONG_PART * len(rows)
    if instants.duplicated().sum() <= allowed:
        return None
    for name in candidates(some, excluded):
        codes = categories(some[name]).codes
        again = pd.DataFrame({"time": instants, "series": codes}).duplicated().sum()
        if again <= allowed:
            return name
    return None


def candidates(table: pa.Table, excluded: set[str]) -> list[str]:
    """The columns that may tell series apart: text before numbers, then those of fewest values."""
    found = []
    for name in table.column_names:
        array = table[name]
        if name in excluded or not (is_text(array) or pa.types.is_integer(array.type)):
            continue
        first = array[:SAMPLE]
        numeric = _numeric(first)
        if numeric and len(first.unique()) > max(2, MOST_PART * len(first)):
            continue
        count = len(categories(array).categories)
        if count > 1:
            found.append((numeric, count, name))
    return [name for _, _, name in sorted(found)]


def is_static(column: pa.ChunkedArray, series: np.ndarray) -> bool:
    """Whether a column has one value in each of two series or more, and not the same in all."""
    values = categories(column).codes
    known = (series >= 0) & (values >= 0)
    if not known.any():
        return False
    first = np.full(int(series.max()) + 1, -1)
    first[series[known][::-1]] = values[known][::-1]
    return bool((values[known] == first[series[known]]).all() and len(np.unique(first)) > 1)


def _numeric(array: pa.ChunkedArray) -> bool:
    """Whether a column is of numbers, or of text that says numbers."""
    return not is_text(array) or not parse_numbers(present(array, ()), ".")[1].any()


def _repeated(some: pa.Table) -> int:
    """How many rows repeat another in all columns."""
    hashes = np.zeros(len(some), np.uint64)
    for name in some.column_names:
        codes = some[name].dictionary_encode().unify_dictionaries().combine_chunks().indices
        values = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.uint64)
        hashes = pd.util.hash_array(hashes * np.uint64(1_000_003) + values)
    return int(pd.Series(hashes).duplicated().sum())
