"""The task's table: read, cleaned, and refused where training could not use it."""

import numpy as np
import pandas as pd

from model.data.calendar import calendar_column
from model.data.cells import DataError, Origin
from model.data.grid import put_on_grid
from model.data.rows import Rows, read_rows
from model.data.time_index import count_ticks, shown_exactly, time_column
from model.tasks.task import FeatureConfig, TaskConfig

# Where a table's `attrs` have what was left out of it.
LEFT_OUT = "left_out"


def read_table(task: TaskConfig) -> pd.DataFrame:
    """Reads the task's table, clean and sorted by series and time.

    Rows are left out that have no time or no series, where a feature that is never missing is
    missing, or where a feature is infinite or out of the task's limits; they become gaps. So is a
    row that another repeats in all that the task reads. `left_out` of the table tells how many and
    why.

    Returns:
        A column of times, `clock.time_column`: datetime64 in UTC, or numbers where the task has
        no times; the series, if there are any; and float64 columns, NaN where there is no number.

    Raises:
        OSError: the file cannot be opened.
        DataError: it is broken, a column is absent or of another type, a cell is no number or no
            time, a number is beyond float32, a time stands twice, or nothing is left.
    """
    rows = read_rows(task)
    faults = _faults(rows, task)
    told = ""
    if task.every is not None:
        rows, told = _on_grid(rows, faults, task)
        faults = _faults(rows, task)
    for feature in task.features:
        if feature.calendar is not None:
            made = calendar_column(rows.times, feature.calendar, task.timezone)
            rows.columns[feature.column] = made
    keep = ~_any(faults, len(rows))
    if task.every is None:
        for name, numbers in rows.columns.items():
            _check_float32(numbers, keep, name, rows.origin)
    order = _in_order(rows, keep, task, faults)
    told = ", ".join(filter(None, [told, _told(faults, len(rows))]))
    if len(order) == 0:
        raise DataError(f"{task.data}: no usable row{because(told)}")
    table = _frame(rows, order, task)
    _check_static(table, task)
    table.attrs[LEFT_OUT] = told
    return table


def left_out(table: pd.DataFrame) -> str:
    """How many rows `read_table` left out, and for what; empty if it left out none."""
    return str(table.attrs[LEFT_OUT])


def because(left_out: str) -> str:
    """What was left out, to end an error with; empty if that was nothing."""
    return f" ({left_out})" if left_out else ""


def _frame(rows: Rows, order: np.ndarray, task: TaskConfig) -> pd.DataFrame:
    """The rows of `order`, int64 `[K]`, as a table; takes their columns from them."""
    whole = len(order) == len(rows) and bool((np.diff(order) == 1).all())
    table = {time_column(task): rows.times if whole else rows.times[order]}
    if task.series is not None and (task.series not in rows.columns or task.series in rows.values):
        table[task.series] = rows.series if whole else rows.series[order]
    for name in list(rows.columns):
        column = rows.columns.pop(name) if whole else rows.columns.pop(name)[order]
        if name in rows.values:
            codes = np.nan_to_num(column, nan=-1).astype(np.int32)
            table[name] = pd.Categorical.from_codes(codes, rows.values[name])
        else:
            table[name] = column
    return pd.DataFrame(table, copy=False)


def _check_static(table: pd.DataFrame, task: TaskConfig) -> None:
    """Refuses a static column that changes within a series."""
    for feature in task.features:
        if not feature.static:
            continue
        column = table[feature.column].astype(object)
        first = column.groupby(table[task.series].astype(str)).transform("first")
        changed = (column != first) & column.notna()
        if changed.any():
            row = int(np.argmax(changed.to_numpy()))
            raise DataError(
                f"{task.data}: column {feature.column!r} is static, but in the series "
                f"{str(table[task.series].iloc[row])!r} it changes from {first.iloc[row]} to "
                f"{column.iloc[row]} at {table[time_column(task)].iloc[row]}: leave static out"
            )


def _faults(rows: Rows, task: TaskConfig) -> dict[str, np.ndarray]:
    """The rows, bool `[N]`, that cannot be used, by what is wrong with them."""
    faults = {f"{time_column(task)} is missing": pd.isna(rows.times)}
    if task.series:
        faults[f"{task.series} is missing"] = rows.series.codes < 0
    for feature in task.features:
        if feature.calendar is None:
            faults |= _faults_of(rows.columns[feature.column], feature)
    return {fault: wrong for fault, wrong in faults.items() if wrong.any()}


def _faults_of(column: np.ndarray, feature: FeatureConfig) -> dict[str, np.ndarray]:
    name = feature.column
    if feature.kind == "category":
        return {} if feature.missing else {f"{name} has no value": np.isnan(column)}
    infinite = np.isinf(column)
    faults = {f"{name} is infinite": infinite}
    if not feature.missing:
        faults[f"{name} has no number"] = np.isnan(column)
    if feature.minimum is not None:
        faults[f"{name} is below its minimum"] = ~infinite & (column < feature.minimum)
    if feature.maximum is not None:
        faults[f"{name} is above its maximum"] = ~infinite & (column > feature.maximum)
    return faults


def _any(faults: dict[str, np.ndarray], rows: int) -> np.ndarray:
    found = np.zeros(rows, bool)
    for fault in faults.values():
        found |= fault
    return found


def _on_grid(rows: Rows, faults: dict[str, np.ndarray], task: TaskConfig) -> tuple[Rows, str]:
    """The rows on the grid of `every`, and what was left out before.

    A row without a number in one column still has the others: of the faults only those count that
    leave nothing to take a mean of.
    """
    lost = {f: w for f, w in faults.items() if not f.endswith(("has no number", "has no value"))}
    keep = ~_any(lost, len(rows))
    columns = {name: numbers[keep] for name, numbers in rows.columns.items()}
    times, codes, columns = put_on_grid(rows.times[keep], rows.series.codes[keep], columns, task)
    series = pd.Categorical.from_codes(codes, rows.series.categories)
    on_grid = Rows(times, series, columns, rows.values, rows.origin)
    return on_grid, _told(lost, len(rows))


def _told(faults: dict[str, np.ndarray], rows: int) -> str:
    """In one line, how many rows are left out and for what."""
    if not faults:
        return ""
    reasons = [f"{fault} in {wrong.sum():,}" for fault, wrong in faults.items()]
    count = int(_any(faults, rows).sum())
    return f"{count:,} of {rows:,} rows left out: {', '.join(reasons)}"


def _in_order(
    rows: Rows, keep: np.ndarray, task: TaskConfig, faults: dict[str, np.ndarray]
) -> np.ndarray:
    """The rows to keep, int64 `[K]`, by series and time; tells in `faults` which repeat others.

    Raises:
        DataError: a time stands twice in one series.
    """
    codes = rows.series.codes
    order = np.flatnonzero(keep)
    ticks = count_ticks(rows.times[order], task).of_rows
    by_time = np.lexsort((ticks, codes[order]))
    order, ticks = order[by_time], ticks[by_time]
    again = np.zeros(len(order), bool)
    again[1:] = (np.diff(ticks) == 0) & (np.diff(codes[order]) == 0)
    if not again.any():
        return order
    same = again.copy()
    for numbers in rows.columns.values():
        here, before = numbers[order][1:], numbers[order][:-1]
        same[1:] &= (here == before) | (np.isnan(here) & np.isnan(before))
    if (again & ~same).any():
        place = int(np.argmax(again & ~same))
        name = rows.series.categories[codes[order[place]]]
        raise DataError(_twice(rows, order[place - 1 : place + 1], str(name), task))
    repeated = np.zeros(len(rows), bool)
    repeated[order[same]] = True
    faults["another row is the same"] = repeated
    return order[~same]


def _twice(rows: Rows, both: np.ndarray, name: str, task: TaskConfig) -> str:
    one, other = (shown_exactly(rows.times[row]) for row in both)
    first, second = (rows.origin.row(int(row)) for row in both)
    of_series = "" if task.series is None else f" of the series {name!r}"
    what = (
        f"{one} stands twice" if one == other else f"{one} and {other} are of one {task.time_step}"
    )
    return (
        f"{task.data}: {what} in column {task.time!r}{of_series}, in {first} and "
        f"{second}, with other numbers: name the column that tells series apart as series, "
        "the zone of local times as timezone, or leave one out"
    )


def _check_float32(values: np.ndarray, keep: np.ndarray, name: str, origin: Origin) -> None:
    """Refuses a number that would be infinite in training: its loss would be too, after hours."""
    largest = float(np.finfo(np.float32).max)
    wrong = (np.abs(values) > largest) & keep
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{origin.cell(name, row)} has {float(values[row])!r}, more than float32 can hold "
            "(3.4e+38): correct it, or leave it empty if it is not known"
        )
