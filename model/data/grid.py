"""Irregular rows on a grid: all rows of a step become one, column by column by a stated rule."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from model.tasks.task import TaskConfig
from model.tasks.time_config import Rule


def put_on_grid(
    times: np.ndarray, series: np.ndarray, columns: dict[str, np.ndarray], task: TaskConfig
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Rows at any time, on the grid of the task's `every`.

    A row of the grid is of the rows from its time on, up to the next one's. A step without a row is
    left out, as a gap.

    Args:
        times: datetime64 `[N]` in UTC.
        series: which series a row is of, int `[N]`.
        columns: float64 `[N]` each; NaN is not counted.
        task: has the grid and the rules.

    Returns:
        The same of the grid, sorted by series and time.
    """
    rules: Mapping[str, Rule] = task.every_rules
    told = {f.column for f in task.features if f.kind in ("flag", "category")}
    periods = {f.column: f.period for f in task.features if f.period is not None}
    order = np.argsort(times, kind="stable")
    keys = [series[order], pd.DatetimeIndex(times[order]).floor(pd.Timedelta(task.every))]
    put = {}
    groups = None
    for name, values in columns.items():
        grouped = pd.Series(values[order]).groupby(keys)
        rule = rules.get(name, "last" if name in told else "mean")
        if rule == "mean" and name in periods:
            put[name] = _circular_mean(values[order], keys, periods[name])
        elif rule == "sum":
            put[name] = grouped.sum(min_count=1)  # nothing is not zero
        else:
            put[name] = grouped.last() if rule == "last" else grouped.mean()
        groups = put[name].index
    if groups is None:
        raise AssertionError("this is a bug: a table without a column")
    found = groups.get_level_values(1).to_numpy()
    numbers = {name: column.to_numpy() for name, column in put.items()}
    return found, groups.get_level_values(0).to_numpy(), numbers


def _circular_mean(values: np.ndarray, keys: list[object], period: float) -> pd.Series:
    """The angle of the mean direction, from 0 to the period: of 359 and 1 degrees it is 0."""
    turn = values * (2 * np.pi / period)
    sine, cosine = (pd.Series(part(turn)).groupby(keys).mean() for part in (np.sin, np.cos))
    angle: pd.Series = np.arctan2(sine, cosine) * (period / (2 * np.pi)) % period
    return angle.where(angle < period, 0.0)  # of a number next to zero the remainder is the period
