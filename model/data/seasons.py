"""Seasons of a column: a day of hours, a week of days, a year of months."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.tasks.task import Calendar
from model.tasks.time_config import DAY_S, CalendarStep

WEEK_S = 7 * DAY_S
# How much more a column is like itself a season ago than in between, and how much at all, in
# correlations.
MORE, ENOUGH = 0.1, 0.2
# Fewer time steps are no season.
FEWEST_STEPS = 4


@dataclass(frozen=True)
class Season:
    """A season that shows.

    Attributes:
        name: for people.
        steps: time steps of it.
        calendar: the feature that tells the place within it.
        error: mean absolute difference from a season before.
    """

    name: str
    steps: int
    calendar: Calendar
    error: float


class _Candidate(NamedTuple):
    """A season that there may be, and the lags at which its column is like itself by chance."""

    name: str
    steps: int
    between: tuple[int, ...]
    calendar: Calendar


def find_seasons(
    values: np.ndarray, ticks: np.ndarray, step_s: float | None, step: CalendarStep | None
) -> list[Season]:
    """The seasons that show in a column.

    Args:
        values: float64 `[N]` of one series, NaN where there is no number.
        ticks: int64 `[N]`, in time steps.
        step_s: seconds of a time step.
        step: of the calendar, in its place.
    """
    line = np.full(int(ticks.max() - ticks.min()) + 1, np.nan)
    line[ticks - ticks.min()] = values
    found = []
    for name, steps, between, calendar in _candidates(step_s, step):
        if steps < FEWEST_STEPS or len(line) < 2 * steps + 2:
            continue
        level = _without_level(line, steps)
        like = _likeness(level, steps)
        unlike = np.mean([_likeness(level, lag) for lag in between])
        if like > ENOUGH and like - unlike > MORE:
            error = float(np.nanmean(np.abs(line[steps:] - line[:-steps])))
            found.append(Season(name, steps, calendar, error))
    return found


def _candidates(step_s: float | None, step: CalendarStep | None) -> list[_Candidate]:
    """Seasons that a time step may have."""
    if step is not None:
        of_year: dict[CalendarStep, int] = {"week": 52, "month": 12, "quarter": 4}
        if step in of_year:
            steps = of_year[step]
            return [_Candidate("a year", steps, (steps // 2,), "day_of_year")]
        of_week: dict[CalendarStep, int] = {"business day": 5, "day": 7}
        if step not in of_week:
            return []
        steps = of_week[step]
        found = [_Candidate("a week", steps, (steps // 2, steps // 2 + 1), "day_of_week")]
        return found + ([_Candidate("a year", 365, (182,), "day_of_year")] if steps == 7 else [])
    if step_s is None:
        return []
    found = []
    if step_s <= DAY_S / FEWEST_STEPS and DAY_S % step_s == 0:
        day = round(DAY_S / step_s)
        found.append(_Candidate("a day", day, (day // 2,), "hour_of_day"))
    if step_s <= DAY_S and WEEK_S % step_s == 0 and DAY_S % step_s == 0:
        day = round(DAY_S / step_s)
        found.append(_Candidate("a week", 7 * day, (3 * day, 4 * day), "day_of_week"))
    if step_s <= WEEK_S:
        # Of whole days, and half of whole weeks: what a day and a week do is not taken for a year.
        year, half = (round(days * DAY_S / step_s) for days in (365, 182))
        found.append(_Candidate("a year", year, (half,), "day_of_year"))
    return found


def _without_level(line: np.ndarray, steps: int) -> np.ndarray:
    """A column less its mean over a season around, since a level is like itself at any lag."""
    known = np.isfinite(line)
    sums = np.cumsum(np.append(0.0, np.where(known, line, 0.0)))
    counts = np.cumsum(np.append(0, known))
    first = np.maximum(np.arange(len(line)) - steps // 2, 0)
    last = np.minimum(first + steps, len(line))
    first = np.maximum(last - steps, 0)
    around = np.maximum(counts[last] - counts[first], 1)
    return np.asarray(line - (sums[last] - sums[first]) / around)


def _likeness(line: np.ndarray, lag: int) -> float:
    """The correlation of a column with itself so many time steps before; 0 where nothing tells."""
    if lag < 1:
        return 1.0
    now, before = line[lag:], line[:-lag]
    both = np.isfinite(now) & np.isfinite(before)
    if both.sum() < 3:
        return 0.0
    now, before = now[both] - now[both].mean(), before[both] - before[both].mean()
    spread = float(np.sqrt((now**2).mean() * (before**2).mean()))
    return float((now * before).mean() / spread) if spread > 0 else 0.0
