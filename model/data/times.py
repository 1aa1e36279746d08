"""The column of times to UTC, or to numbers where it counts rows."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from model.data.cells import (
    DataError,
    Origin,
    float64,
    is_number,
    is_text,
    numbers,
    parse_numbers,
    present,
)
from model.data.local_times import to_utc
from model.data.time_formats import parse_times
from model.tasks.task import TaskConfig
from model.tasks.time_config import TimeConfig

NS_IN_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
# A clock that was never set says 1970 or 2000, a broken one 2099. Such rows are few, and far from
# all others: further than those reach.
FEW = 0.01
# The years that calendars have names for, in seconds from 1970: 1 to 9999.
EARLIEST_S, LATEST_S = -62_135_596_800, 253_402_300_799


def time_cells(columns: Mapping[str, pa.ChunkedArray], task: TimeConfig) -> pa.ChunkedArray:
    """The cells with the times of a table's rows; of a date and a time of day, both in one."""
    column = columns[str(task.time)]
    if task.time_of_day is None:
        return column
    dates, clocks = (
        present(c if is_text(c) else c.cast(pa.string()), ())
        for c in (column, columns[task.time_of_day])
    )
    return pc.binary_join_element_wise(dates, clocks, " ")


def read_times(
    column: pa.ChunkedArray, task: TaskConfig, series: np.ndarray, origin: Origin
) -> np.ndarray:
    """The times of a table's rows, in the order of its file.

    Args:
        column: of times, as `time_cells` gives it.
        task: says how they are written.
        series: which series a row is of, int `[N]`, for the hour that stands twice.
        origin: of the rows, for errors.

    Returns:
        datetime64 `[N]` in UTC, NaT where there is none; where the task's `time_step` is a number,
        float64 `[N]`, NaN where there is none.

    Raises:
        DataError: a time cannot be read, or is far from all others.
    """
    name = str(task.time)
    if isinstance(task.time_step, float):
        return numbers(column, name, origin, task.decimal or ".", ())
    times, aware = _absolute(column, task, name, origin)
    if task.timezone is not None and not aware.all():
        local = np.where(aware, np.datetime64("NaT"), times)
        times = np.where(aware, times, to_utc(local, series, task.timezone, name, origin))
    _check_clock(times, name, origin)
    return times


def _absolute(
    column: pa.ChunkedArray, task: TaskConfig, name: str, origin: Origin
) -> tuple[np.ndarray, np.ndarray]:
    """Times, datetime64 `[N]`, and bool `[N]`: which are in UTC; others are of a local clock."""
    where, unit = origin.column(name), task.time_unit
    if is_text(column) and task.time_format is None:
        column = _numbers_in_text(column)
    if task.time_format is not None and is_number(column):
        column = column.cast(pa.int64()).cast(pa.string())  # 20200131, or a year
    if is_number(column):
        if unit is None and column.null_count < len(column):
            raise DataError(
                f"{where} holds numbers: if they count from 1970-01-01 UTC, say in the task what, "
                'time_unit = "s" (or "ms", "us", "ns"); if they count rows, say by how much they '
                "rise, time_step = 1; if they are dates, how they are written, such as "
                'time_format = "%Y" or "%Y%m%d"'
            )
        times = _counted(column, unit or "s", name, origin)
        return times, np.ones(len(times), bool)
    if unit is not None:
        if is_text(column) and not parse_numbers(present(column, ()), ".")[1].all():
            numbers(column, name, origin, ".", ())  # names the cell that is none
        raise DataError(f"{where} holds no numbers, but the task has time_unit = {unit!r}")
    if is_text(column):
        return parse_times(column, name, origin, task.time_format)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return _typed(column)
    raise DataError(f"{where} holds {column.type}, no times")


def _numbers_in_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text as numbers if all of its cells are, whole ones if they can be."""
    texts = present(column, ())
    for kind in (pa.int64(), pa.float64()):
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _typed(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    aware = pa.types.is_timestamp(column.type) and column.type.tz is not None
    unit = column.type.unit if pa.types.is_timestamp(column.type) else "s"
    times = column.cast(pa.timestamp(unit)).cast(pa.timestamp("ns" if unit == "ns" else "us"))
    return times.to_numpy(), np.full(len(column), aware)


def _counted(column: pa.ChunkedArray, unit: str, name: str, origin: Origin) -> np.ndarray:
    """Numbers of a unit from 1970 on, in times."""
    whole = pa.types.is_integer(column.type)
    values = float64(column)
    seconds = values * (NS_IN_UNIT[unit] / 1e9)
    with np.errstate(invalid="ignore"):
        far = ~np.isnan(seconds) & ~((seconds >= EARLIEST_S) & (seconds <= LATEST_S))
    if far.any():
        row = int(np.argmax(far))
        raise DataError(
            f"{origin.cell(name, row)} has {values[row]:.16g}, which is no year of four digits if "
            f'it counts {unit} from 1970 on: does time_unit = "{unit}" hold?'
        )
    empty = np.isnan(values)
    if whole:
        filled: np.ndarray = column.fill_null(0).cast(pa.int64()).to_numpy()
        times = filled.astype(f"datetime64[{unit}]")
    else:
        # Seconds with a fraction are told to a quarter of a microsecond by float64, and a
        # difference that is not exactly a time step would be a gap.
        scaled = np.where(empty, 0.0, values) * (NS_IN_UNIT[unit] / 1000)
        times = np.round(scaled).astype(np.int64).astype("datetime64[us]")
    if unit != "ns" or not whole:
        times = times.astype("datetime64[us]")
    times[empty] = np.datetime64("NaT")
    return times


def _check_clock(times: np.ndarray, name: str, origin: Origin) -> None:
    """Refuses a few rows that are further from all others than those reach."""
    found = np.sort(times[~np.isnat(times)])
    if len(found) < 3:
        return
    gaps = np.diff(found)
    widest = int(np.argmax(gaps))
    below, above = widest + 1, len(found) - widest - 1
    few = min(below, above)
    rest = found[below:] if below <= above else found[:below]
    if few > max(1, FEW * len(found)) or gaps[widest] <= max(rest[-1] - rest[0], _MONTH):
        return
    outside = (times < rest[0]) | (times > rest[-1])
    row = int(np.argmax(outside))
    more = f", and {few - 1:,} more are as far" if few > 1 else ""
    raise DataError(
        f"{origin.cell(name, row)} has {_shown(times[row])}, far from all others "
        f"({_shown(rest[0])} to {_shown(rest[-1])}){more}: the table would span "
        f"{_length(found[-1] - found[0])} and not {_length(rest[-1] - rest[0])}: correct or remove "
        "the row"
    )


_DAY = np.timedelta64(1, "D")
_MONTH = np.timedelta64(30, "D")


def _shown(time: np.datetime64) -> str:
    return str(pd.Timestamp(time))


def _length(span: np.timedelta64) -> str:
    days = span / _DAY
    for size, word in ((365.25, "years"), (1, "days"), (1 / 24, "hours")):
        if days >= 2 * size:
            return f"{days / size:,.0f} {word}"
    return f"{span / np.timedelta64(1, 's'):,.0f} s"
