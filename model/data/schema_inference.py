"""What a table is as a whole: its time axis, its series, its time step.

`draft.py` asks, and `kinds.py` tells what each column is.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.data.cells import DataError, Decimal, find_decimal, is_text
from model.data.formats import Columns, read_columns
from model.data.series_column import candidates, find_series, series_codes
from model.data.time_axis import Axis, find_axis, find_step, provisional
from model.data.time_formats import found_format
from model.data.times import read_times, time_cells
from model.table_options import TableOptions


@dataclass(frozen=True)
class TableFinding:
    """A table as far as it is understood.

    Attributes:
        columns: as the file has them.
        decimal: what stands before the decimals.
        axis: of time.
        series: the column that tells series apart, or None.
        times: `[N]`; None where there are none.
        codes: which series a row is of, int64 `[N]`.
        step: the time step, a field of a task; empty without times.
    """

    columns: Columns
    decimal: Decimal
    axis: Axis
    series: str | None
    times: np.ndarray | None
    codes: np.ndarray
    step: dict[str, Any]


def understand(options: TableOptions, data: Path) -> TableFinding:
    """Reads a table and finds its time axis, its series and its time step.

    Raises:
        OSError: a file cannot be opened.
        DataError: it is no table, a column is absent, or its times cannot be read.
    """
    columns = read_columns(data)
    said = [*options.target, *options.features, *filter(None, [options.time, options.series])]
    for column in said:
        if column not in columns.names:
            raise DataError(f"{data}: no column {column!r}; it has {', '.join(columns.names)}")
    if len(columns.table) == 0:
        raise DataError(f"{data}: no usable row")
    texts = [(name, columns.table[name]) for name in columns.names if is_text(columns.table[name])]
    decimal = find_decimal(texts, columns.origin)
    others = {*options.target, *options.features, *filter(None, [options.series])}
    axis = _with_format(columns, find_axis(columns, options.time, others), options)
    if axis.time is None:
        _check_times_wanted(options, data)
    series, times = options.series, None
    if axis.time is not None:
        times = _times(columns, axis, options.timezone, series_codes(columns, series))
    if series is None:
        series = find_series(columns, times, {*options.target, *axis.columns})
    codes = series_codes(columns, series)
    if times is not None and series is not None and options.timezone is not None:
        times = _times(columns, axis, options.timezone, codes)
    return _with_step(TableFinding(columns, decimal, axis, series, times, codes, {}), options)


def _with_step(found: TableFinding, options: TableOptions) -> TableFinding:
    """A table with its time step; and with its series, where each is regular and all are not."""
    times, zone = found.times, options.timezone
    if times is None:
        return found
    if options.every is not None:
        return replace(found, step={"every": options.every})
    step = find_step(times, found.codes, zone)
    if found.series is None and "every" in step:
        for name in candidates(found.columns.table, {*options.target, *found.axis.columns}):
            codes = series_codes(found.columns, name)
            of_each = find_step(times, codes, zone)
            if "every" not in of_each:
                return replace(found, series=name, codes=codes, step=of_each)
    return replace(found, step=step)


def _check_times_wanted(options: TableOptions, data: Path) -> None:
    for name in ("time_format", "timezone", "every"):
        if getattr(options, name) is not None:
            raise DataError(
                f"{data}: --{name.replace('_', '-')} is of times, but no column looks like it: "
                "name it as --time"
            )


def _with_format(columns: Columns, axis: Axis, options: TableOptions) -> Axis:
    """The axis with the format of its written times, where one format says it all."""
    form = options.time_format or axis.time_format
    if axis.time is not None and axis.time_unit is None and not axis.counts and form is None:
        column = _cells(columns, axis)
        form = found_format(column, axis.time, columns.origin) if is_text(column) else None
    return replace(axis, time_format=form)


def _times(columns: Columns, axis: Axis, zone: str | None, codes: np.ndarray) -> np.ndarray:
    task = provisional(columns, axis, zone)
    return read_times(_cells(columns, axis), task, codes, columns.origin)


def _cells(columns: Columns, axis: Axis) -> pa.ChunkedArray:
    arrays = {name: columns.table[name] for name in (axis.time, axis.time_of_day) if name}
    return time_cells(arrays, provisional(columns, axis, None))
