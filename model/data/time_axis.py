"""The time axis of a table of which nothing was said: which column it is, what a step is.

`draft.py` asks; what is found is written into the task, where it can be changed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from model.data.cells import float64, is_number, is_text, present
from model.data.formats import INDEX, Columns
from model.data.time_formats import looks_like_times
from model.data.time_index import in_zone
from model.tasks.task import TaskConfig
from model.tasks.time_config import DAY_S, CalendarStep

TIME_NAMES = {
    *("time", "date", "datetime", "timestamp", "ts", "datum", "zeit", "zeitstempel", "date_time"),
    *("time_utc", "utc", "local_time", "epoch", "unixtime", "unix_time", "fecha", "day", "ds"),
    *("period", "month", "quarter", "year", "week", "dt", "index", "valid", "observed"),
}
COUNT_NAMES = {
    *("t", "step", "time_step", "idx", "row", "n", "i", "k", "id", "no", "unnamed: 0", INDEX)
}
# In which range numbers count from 1970 in a unit: 1973 to 2100.
EPOCHS = {
    unit: (1e8 * size, 4.1e9 * size)
    for unit, size in (("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
}
# Steps of a grid that people use, in seconds.
NICE_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600),
    *(7200, 10_800, 14_400, 21_600, 43_200, 86_400),
)
# A time of day, which no number is taken for; and a text that has one.
CLOCK = r"\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?(?: ?[AaPp][Mm])?|\d{1,2}\.\d{2}\.\d{2}"
HAS_CLOCK = r"\d:\d{2}"
# Of all steps so many are whole ones where rows are not irregular: others are gaps.
REGULAR = 0.95
SAMPLE = 2000


@dataclass(frozen=True)
class Axis:
    """What was found of a time axis: fields of a task.

    Attributes:
        time: the column.
        time_of_day: the column with the time of day, where `time` has the date alone.
        time_unit: of numbers.
        time_format: of numbers that are written dates.
        counts: whether it counts rows and is no time.
    """

    time: str | None = None
    time_of_day: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    counts: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns of the table."""
        return tuple(filter(None, (self.time, self.time_of_day)))


def find_axis(columns: Columns, said: str | None, excluded: set[str]) -> Axis:
    """Finds the column of times.

    Args:
        columns: of the table.
        said: its name, where that is known.
        excluded: columns that are something else.
    """
    names = [name for name in columns.names if name not in excluded] if said is None else [said]
    best, axis = math.inf, Axis(said)
    for name in names:
        rank, found = _axis_of(columns.table[name], name, said is not None) or (math.inf, axis)
        if rank < best:
            best, axis = rank, found
    return replace(axis, time_of_day=_time_of_day(columns, axis, excluded))


def _time_of_day(columns: Columns, axis: Axis, excluded: set[str]) -> str | None:
    """The column that has the time of day, where that of times has the date alone."""
    if axis.time is None or axis.time_unit is not None or axis.counts:
        return None
    if not is_text(columns.table[axis.time]) or _look_like(columns.table[axis.time], HAS_CLOCK):
        return None
    for name in columns.names:
        column = columns.table[name]
        free = name != axis.time and name not in excluded and is_text(column)
        if free and _look_like(column, f"^(?:{CLOCK})$"):
            return name
    return None


def _look_like(column: pa.ChunkedArray, pattern: str) -> bool:
    some = pc.drop_null(present(column[:SAMPLE], ()))
    return len(some) > 0 and bool(pc.all(pc.match_substring_regex(some, pattern)).as_py())


def _axis_of(column: pa.ChunkedArray, name: str, said: bool) -> tuple[int, Axis] | None:
    """How likely a column is to be that of times, 0 most; None for one that is not."""
    called = name.lower().strip() in TIME_NAMES or "time" in name.lower() or "date" in name.lower()
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return (0 if called else 1), Axis(name)
    if is_text(column):
        texts = present(column, ())
        if looks_like_times(texts):
            return (2 if called else 3), Axis(name)
        values = _values(texts)
    else:
        values = float64(column) if is_number(column) else None
    if values is None or not (called or said or name.lower().strip() in COUNT_NAMES):
        return None
    return _axis_of_numbers(values, name, said)


def _values(texts: pa.ChunkedArray) -> np.ndarray | None:
    try:
        values: np.ndarray = pc.drop_null(texts).cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    return values


def _axis_of_numbers(values: np.ndarray, name: str, said: bool) -> tuple[int, Axis] | None:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    low, high = values.min(), values.max()
    whole = bool((values == np.round(values)).all())
    if whole and low >= 19000101 and high <= 21001231 and _are_dates(values):
        return 4, Axis(name, time_format="%Y%m%d")
    if whole and low >= 1500 and high <= 2200 and "id" not in name.lower() and _few(values):
        return 6, Axis(name, time_format="%Y")
    for unit, (earliest, latest) in EPOCHS.items():
        if earliest <= low and high <= latest:
            return 4, Axis(name, time_unit=unit)
    steps = np.diff(values)
    usual = float(np.median(steps))
    if usual > 0 and (said or np.isclose(steps, usual, atol=0.0).mean() > 0.9):
        return 7, Axis(name, counts=True)
    return None


def _are_dates(values: np.ndarray) -> bool:
    texts = pd.Series(values[:SAMPLE].astype(np.int64).astype(str))
    return bool(pd.to_datetime(texts, format="%Y%m%d", errors="coerce").notna().all())


def _few(values: np.ndarray) -> bool:
    """Whether numbers are years: neighbours are no more than some years apart."""
    return bool((np.abs(np.diff(np.unique(values))) <= 10).all())


def find_step(times: np.ndarray, series: np.ndarray, zone: str | None) -> dict[str, object]:
    """The time step: a field of a task, `time_step_s`, `time_step` or `every`.

    Args:
        times: datetime64 `[N]`, NaT where there is none; or numbers that count rows.
        series: which series a row is of, int `[N]`.
        zone: of the clock on the wall; None for UTC.
    """
    order = np.lexsort((times, series))
    times, series = times[order], series[order]
    steps = np.diff(times)[np.diff(series) == 0]
    if not np.issubdtype(times.dtype, np.datetime64):
        steps = steps[steps > 0]
        return {"time_step": _usual(steps)} if len(steps) else {"time_step": 1.0}
    seconds = steps[steps > np.timedelta64(0)] / np.timedelta64(1, "s")
    if len(seconds) == 0:
        return {"time_step_s": float(DAY_S)}
    local = in_zone(times[~np.isnat(times)], zone)
    if (local == local.normalize()).all() and (calendar := _calendar_step(local, seconds)):
        return calendar
    usual = _usual(seconds)
    whole = np.abs(seconds / usual - np.round(seconds / usual)) < 1e-6
    if whole.mean() >= REGULAR:
        return {"time_step_s": usual}
    return {"every": _grid(float(np.median(seconds)))}


def _usual(steps: np.ndarray) -> float:
    values, counts = np.unique(steps, return_counts=True)
    return float(values[np.argmax(counts)])


def _calendar_step(local: pd.DatetimeIndex, seconds: np.ndarray) -> dict[str, object] | None:
    """The step of dates, where it is no number of seconds; None where it is, or is irregular."""
    days = seconds / DAY_S
    usual = round(float(np.median(days)) * 24) / 24
    steps: dict[CalendarStep, tuple[float, float]] = {
        "month": (28, 31), "quarter": (89, 92), "year": (364, 366)
    }  # fmt: skip
    for step, (low, high) in steps.items():
        if low <= usual <= high:
            return {"time_step": step}
    if usual == 7:
        return {"time_step_s": 7.0 * DAY_S} if (days % 7 == 0).all() else {"time_step": "week"}
    if usual == 1 and len(days) >= 10 and not (local.day_of_week >= 5).any():
        return {"time_step": "business day"}
    if usual == 1 and (days % 1 != 0).any():
        return {"time_step": "day"}  # of 23 to 25 hours
    return None


def _grid(seconds: float) -> str:
    """The step of a grid that holds a row or more, as pandas writes it."""
    step = next((nice for nice in NICE_S if nice >= seconds), NICE_S[-1])
    for size, word in ((DAY_S, "D"), (3600, "h"), (60, "min")):
        if step % size == 0:
            return f"{step // size}{word}"
    return f"{step}s"


def clock_fields(axis: Axis) -> dict[str, object]:
    """What an axis says in a task, besides its step."""
    names = ("time", "time_of_day", "time_unit", "time_format")
    return {name: getattr(axis, name) for name in names if getattr(axis, name) is not None}


def provisional(columns: Columns, axis: Axis, timezone: str | None) -> TaskConfig:
    """A task with nothing but its times, to read them before all else is known."""
    step: dict[str, object] = {"time_step": 1.0} if axis.counts else {"time_step_s": 1.0}
    return TaskConfig.model_validate(
        {
            "name": "draft", "description": "", "data": columns.origin.name,
            **clock_fields(axis), **step, "timezone": timezone,
            "features": [{"name": "x", "unit": ""}],
            "outputs": [{"name": "x", "unit": "", "column": "x", "horizon": 0}],
        }
    )  # fmt: skip
