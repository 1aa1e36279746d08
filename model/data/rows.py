"""The rows of a task's table as its files have them, with their cells understood.

`table.py` cleans them and puts them in order.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from model.data.cells import (
    DataError,
    Decimal,
    Origin,
    categories,
    find_decimal,
    flags,
    is_text,
    numbers,
)
from model.data.formats import read_columns
from model.data.times import read_times, time_cells
from model.tasks.task import TaskConfig


@dataclass
class Rows:
    """Rows of a table.

    Attributes:
        times: datetime64 `[N]` in UTC, or numbers `[N]` where the task has no times; NaT and NaN
            where there is none.
        series: which series a row is of, `[N]`; none where that is not said.
        columns: float64 `[N]` each, NaN where there is no value; of a category the codes of its
            values.
        values: of each category.
        origin: where they are from.
    """

    times: np.ndarray
    series: pd.Categorical
    columns: dict[str, np.ndarray]
    values: dict[str, pd.Index]
    origin: Origin

    def __len__(self) -> int:
        return len(self.times)


def read_rows(task: TaskConfig) -> Rows:
    """Reads the rows of a task's table, in the order of its files.

    Raises:
        OSError: a file cannot be opened.
        DataError: it is broken, a column is absent or of another type, or a cell cannot be
            understood.
    """
    arrays, origin = _read(task)
    series = _series(arrays, task)
    times = _times(arrays, task, series.codes, origin)
    for name in set(arrays) - set(_measured(task)):
        del arrays[name]  # text of times and series, of a large table hundreds of megabytes
    columns, values = _columns(arrays, task, origin)
    return Rows(times, series, columns, values, origin)


def _of_kind(task: TaskConfig, kind: str) -> set[str]:
    return {feature.column for feature in task.features if feature.kind == kind}


def _measured(task: TaskConfig) -> list[str]:
    """The columns of the file that the task reads besides times and series, each once."""
    made = {f.column for f in task.features if f.calendar is not None}
    names = [*(f.column for f in task.features), *(o.column for o in task.outputs)]
    return [name for name in dict.fromkeys(names) if name not in made]


def _read(task: TaskConfig) -> tuple[dict[str, pa.ChunkedArray], Origin]:
    """The columns that the task names, as the file has them, and where they are from."""
    measured = _measured(task)
    wanted = [*filter(None, [task.time, task.time_of_day, task.series]), *measured]
    text = {
        task.time,
        task.time_of_day,
        task.series,
        *_of_kind(task, "category"),
        *_of_kind(task, "flag"),
    }
    quick = {name for name in measured if name not in text}
    found = read_columns(task.data, wanted, quick, task.decimal, task.missing_values)
    for column in wanted:
        if column not in found.names:
            raise DataError(f"{task.data}: no column {column!r}; it has {', '.join(found.names)}")
    if len(found.table) == 0:
        raise DataError(f"{task.data}: no usable row")
    return {name: found.table[name] for name in found.table.column_names}, found.origin


def _series(arrays: dict[str, pa.ChunkedArray], task: TaskConfig) -> pd.Categorical:
    """Which series a row is of; none, -1, where that is not said."""
    if task.series is None:
        rows = len(next(iter(arrays.values())))
        return pd.Categorical.from_codes(np.zeros(rows, np.int8), [""])
    return categories(arrays[task.series])


def _times(
    arrays: dict[str, pa.ChunkedArray], task: TaskConfig, series: np.ndarray, origin: Origin
) -> np.ndarray:
    if task.time is not None:
        return read_times(time_cells(arrays, task), task, series, origin)
    return np.asarray(pd.Series(series).groupby(series).cumcount(), np.int64)


def _columns(
    arrays: dict[str, pa.ChunkedArray], task: TaskConfig, origin: Origin
) -> tuple[dict[str, np.ndarray], dict[str, pd.Index]]:
    """The columns, float64 `[N]` each, and the values of categories, which are their codes there.

    It takes them out of `arrays`: of a table of millions of rows two copies of each column need
    not be there at once.
    """
    categorical, flagged = _of_kind(task, "category"), _of_kind(task, "flag")
    columns, values = {}, {}
    for name in [n for n in _measured(task) if n in categorical | flagged]:
        if name in categorical:
            found = categories(arrays[name])
            columns[name] = np.where(found.codes < 0, np.nan, found.codes)
            values[name] = found.categories
        else:
            columns[name] = flags(arrays[name], name, origin, task.missing_values)
    names = [name for name in _measured(task) if name not in columns]
    decimal: Decimal = task.decimal or find_decimal(
        ((name, arrays[name]) for name in names if is_text(arrays[name])), origin
    )
    for name in names:
        columns[name] = numbers(arrays.pop(name), name, origin, decimal, task.missing_values)
    return columns, values
