"""Where rows stand in time: every clock counts ticks, and a time step is so many of them.

Ticks are microseconds or nanoseconds of a time, weeks or months of a calendar, rows where there is
no time. All that cuts, shifts or finds gaps counts ticks and needs to know no more.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from model.data.cells import DataError
from model.tasks.task import TaskConfig
from model.tasks.time_config import CalendarStep

# What the column of times is called in a table that has none.
ROW = "row"
# pandas' periods: a week ends on Sunday, a quarter with March, June, September and December.
PERIODS: dict[CalendarStep, str] = {
    "day": "D",
    "week": "W",
    "month": "M",
    "quarter": "Q",
    "year": "Y",
}
# How far a number that counts rows may be from where it should: float64 has told 0.1 to less.
NEAR = 1e-6


@dataclass(frozen=True)
class Ticks:
    """Where rows stand.

    Attributes:
        of_rows: int64 `[N]`.
        step: ticks of a time step.
    """

    of_rows: np.ndarray
    step: int


def time_column(task: TaskConfig) -> str:
    """What the column of times of a table that is read is called."""
    return task.time or ROW


def count_ticks(times: np.ndarray, task: TaskConfig) -> Ticks:
    """Where rows stand, by their times.

    Args:
        times: datetime64 `[N]` in UTC, or numbers `[N]`; none is missing.
        task: says what a time step is.

    Raises:
        DataError: a time has no place: a weekend of business days, or 7.5 of a number that rises by
            1.
    """
    step = task.time_step
    if task.time is None:
        return Ticks(times.astype(np.int64), 1)
    if isinstance(step, float):
        return _of_numbers(times, step, _where(task))
    if step is None:
        return _of_seconds(times, float(task.time_step_s or 0))
    local = in_zone(times, task.timezone)
    if step == "business day":
        return _of_business_days(local, _where(task))
    return Ticks(local.to_period(PERIODS[step]).asi8, 1)


def in_zone(times: np.ndarray, zone: str | None) -> pd.DatetimeIndex:
    """Times in UTC, `[N]`, as the clock of a zone shows them; None for UTC itself."""
    local = pd.DatetimeIndex(times)
    if zone is not None:
        local = local.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    return local


def _where(task: TaskConfig) -> str:
    return f"{task.data}: column {task.time!r}"


def _of_seconds(times: np.ndarray, step_s: float) -> Ticks:
    unit = "ns" if step_s < 1e-6 or times.dtype == "datetime64[ns]" else "us"
    ticks = times.astype(f"datetime64[{unit}]").astype(np.int64)
    return Ticks(ticks, round(step_s * (10**9 if unit == "ns" else 10**6)))


def _of_numbers(numbers: np.ndarray, step: float, where: str) -> Ticks:
    first = numbers.min() if len(numbers) else 0.0
    places = (numbers - first) / step
    ticks = np.round(places)
    off = np.abs(places - ticks) > NEAR * np.maximum(1.0, np.abs(places))
    if off.any():
        raise DataError(
            f"{where} has {numbers[np.argmax(off)]:.16g}, which is no whole number of "
            f"time steps of {step:g} after {first:.16g}: does time_step = {step:g} hold?"
        )
    return Ticks(ticks.astype(np.int64), 1)


def _of_business_days(local: pd.DatetimeIndex, where: str) -> Ticks:
    weekend = local.day_of_week >= 5
    if weekend.any():
        raise DataError(
            f"{where} has {local[int(np.argmax(weekend))]:%Y-%m-%d, a %A}, which is no "
            "business day: use time_step_s = 86400, or leave such rows out of the file"
        )
    days = local.to_numpy().astype("datetime64[D]")
    return Ticks(np.busday_count(np.datetime64("1970-01-01"), days).astype(np.int64), 1)


def run_starts(ticks: np.ndarray, series: np.ndarray, step: int) -> np.ndarray:
    """The row, int64 `[N]`, at which each row's run starts: a stretch without a gap."""
    new_run = np.ones(len(ticks), dtype=bool)
    new_run[1:] = (np.diff(ticks) != step) | (np.diff(series) != 0)
    return np.asarray(np.maximum.accumulate(np.where(new_run, np.arange(len(ticks)), 0)))


def rows_later(ticks: np.ndarray, series: np.ndarray, later: int) -> np.ndarray:
    """The row of the same series that stands so many ticks later.

    Args:
        ticks: int64 `[N]`, rising within a series.
        series: int `[N]`, in one piece each.
        later: ticks; below zero for earlier.

    Returns:
        int64 `[N]`; -1 where there is no such row.
    """
    found = np.full(len(ticks), -1)
    starts = np.flatnonzero(np.diff(series, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(ticks)], strict=True):
        of_series = ticks[start:end]
        places = np.searchsorted(of_series, of_series + later)
        places = np.minimum(places, end - start - 1)
        there = of_series[places] == of_series + later
        found[start:end][there] = start + places[there]
    return found


def later(times: np.ndarray, steps: int, task: TaskConfig) -> np.ndarray:
    """Times so many time steps later, for people: `[N]` of the same type."""
    step = task.time_step
    if step is None:
        if task.time is None:
            return times + steps
        return times + np.timedelta64(round(steps * float(task.time_step_s or 0) * 1e9), "ns")
    if isinstance(step, float):
        return times + steps * step
    if step == "business day":
        return np.busday_offset(times.astype("datetime64[D]"), steps, roll="forward")
    periods = in_zone(times, task.timezone).to_period(PERIODS[step]) + steps
    moved: np.ndarray = periods.to_timestamp().to_numpy()
    return moved


def shown(time: np.datetime64 | float, task: TaskConfig) -> str:
    """A time for people, on the clock of the task's zone: to the minute, or to a time step."""
    if isinstance(time, np.datetime64):
        (local,) = in_zone(np.array([time]), task.timezone)
        step_s = 86_400 if isinstance(task.time_step, str) else task.time_step_s or 0
        form = "%Y-%m-%d" if step_s >= 86_400 else "%Y-%m-%d %H:%M"
        return str(local.strftime(f"{form}:%S" if step_s < 60 else form))
    return f"{task.time or ROW} {time:.16g}"


def shown_exactly(time: np.datetime64 | float) -> str:
    """A time in full."""
    return str(pd.Timestamp(time)) if isinstance(time, np.datetime64) else f"{time:.16g}"
