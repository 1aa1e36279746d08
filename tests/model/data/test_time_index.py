"""Clocks other than seconds: calendars, numbers that count rows, no time at all, and grids."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.data.cells import DataError
from model.data.dataset import Split, load
from model.data.table import read_table
from model.data.time_index import later, shown
from model.tasks.task import TaskConfig
from tests.model.tables import make_table, make_task, write_table

CALENDAR = {"hour_of_day": 24, "day_of_week": 7, "day_of_year": 365.25}


def write(folder: Path, times: Any, name: str = "table.csv") -> Path:
    table = make_table({"a": range(len(times))}).drop(columns="place").assign(time=times)
    return write_table(table, folder / name)


def task_of(path: Path, **changes: Any) -> TaskConfig:
    fields = {"time_step_s": None, "series": None, "season_steps": 4, **changes}
    return make_task(path, **fields)


def check_whole(split: Split) -> None:
    """One run, and each target is the number of the next row."""
    assert not split.run_starts.any()
    np.testing.assert_array_equal(split.targets[:-1, 0], split.features[1:, 0])


@pytest.mark.parametrize(
    ("step", "frequency"),
    [
        ("week", "W-WED"), ("month", "MS"), ("month", "ME"), ("quarter", "QS"),
        ("quarter", "QE"), ("year", "YS"), ("business day", "B"), ("month", "BME"),
    ],
)  # fmt: skip
def test_steps_of_the_calendar_are_no_gaps(tmp_path: Path, step: str, frequency: str) -> None:
    """A month has 28 to 31 days, a weekend none of business."""
    times = pd.date_range("1960-01-01", periods=80, freq=frequency)
    splits = load(task_of(write(tmp_path, times.strftime("%Y-%m-%d")), time_step=step))
    check_whole(splits["train"])
    hole = np.delete(times, 10)
    train = load(task_of(write(tmp_path, hole.strftime("%Y-%m-%d")), time_step=step))["train"]
    assert np.unique(train.run_starts).tolist() == [0, 10]
    later_times = later(splits["train"].times, 1, task_of(tmp_path, time_step=step))
    found = shown(later_times[0], task_of(tmp_path, time_step=step))
    assert abs(pd.Timestamp(found) - times[1]) < pd.Timedelta(days=366)


def test_a_day_of_no_business_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, pd.date_range("2024-01-01", periods=80, freq="D"))
    with pytest.raises(
        DataError, match="'time' has 2024-01-06, a Saturday, which is no business d"
    ):
        load(task_of(path, time_step="business day"))


def test_two_rows_of_a_month_are_refused(tmp_path: Path) -> None:
    times = pd.date_range("1960-01-01", periods=80, freq="MS").to_series()
    times.iloc[3] = pd.Timestamp("1960-05-20")
    message = "1960-05-20 00:00:00 and 1960-05-01 00:00:00 are of one month in column 'time', in ro"
    with pytest.raises(DataError, match=message):
        load(task_of(write(tmp_path, times.to_numpy()), time_step="month"))


@pytest.mark.parametrize("step", [1.0, 10.0, 0.1])
def test_a_number_may_count_rows(tmp_path: Path, step: float) -> None:
    numbers = 5 + step * np.delete(np.arange(81), 30)
    path = write(tmp_path, numbers)
    train = load(task_of(path, time_step=step))["train"]
    assert np.unique(train.run_starts).tolist() == [0, 30]
    np.testing.assert_allclose(train.times, numbers[: len(train)])
    with pytest.raises(
        DataError, match="which is no whole number of time steps of 3 after 5: does"
    ):
        load(task_of(path, time_step=3))


def test_without_times_rows_follow_each_other(tmp_path: Path) -> None:
    path = write(tmp_path, np.arange(80))
    splits = load(task_of(path, time=None))
    check_whole(splits["train"])
    assert [len(split) for split in splits.values()] == [40, 15, 15], "5 of horizon between"
    two = write_table(make_table({"a": range(40), "b": range(40)}), tmp_path / "two.csv")
    train = load(task_of(two, time=None, series="place"))["train"]
    assert np.unique(train.run_starts).tolist() == [0, 20]


def test_of_many_series_without_times_each_is_in_one_split(tmp_path: Path) -> None:
    """Nothing says that two of them are of one time; and a file may be sorted by what it tells."""
    sequences = np.random.default_rng(0).normal(size=(40, 6, 2))
    path = tmp_path / "ready.npz"
    np.savez(path, sequences=sequences, columns=["temp", "rain"])
    features = [{"name": "temp", "unit": ""}]
    task = task_of(path, time=None, series="sequence", features=features)
    splits = load(task)
    of = {name: set(map(int, split.series)) for name, split in splits.items()}
    assert set().union(*of.values()) == set(range(40))
    assert sum(map(len, of.values())) == 40, "none is in two"
    assert [len(found) for found in of.values()] == [20, 10, 10]
    assert of["train"] != set(range(20))
    again = load(task)
    assert {name: set(map(int, split.series)) for name, split in again.items()} == of


def test_a_shorter_run_is_told_by_what_each_split_would_span(tmp_path: Path) -> None:
    path = write(tmp_path, pd.date_range("2024-01-01", periods=30, freq="h"))
    with pytest.raises(DataError) as error:
        load(task_of(path, time_step_s=3600, validation_fraction=0.1))
    text = str(error.value)
    assert text.startswith("the validation split is empty: the table is too short for its longest")
    assert "(5 time steps)" in text
    assert re.search(r"train from 2024-01-01 00:00 to 2024-01-01 15:00, validation none", text)


def test_irregular_rows_are_put_on_a_grid_by_the_rule_of_each_column(tmp_path: Path) -> None:
    """The mean of 350 and 20 degrees is 5; of two rains, the sum; of two states, the last."""
    minutes = [0, 5, 59, 60, 190, 200]
    raw = pd.DataFrame(
        {
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min"),
            "temp": [1.0, 2.0, 6.0, 4.0, 5.0, np.nan],
            "wind_dir": [350.0, 20.0, np.nan, 90.0, 359.0, 3.0],
            "rain": [1.0, 2.0, 3.0, np.nan, 0.5, 0.25],
            "valve": [0.0, 0.0, 1.0, 1.0, np.nan, 0.0],
        }
    )
    features = [
        {"name": "temp", "unit": "", "missing": True},
        {"name": "wind_dir", "unit": "deg", "kind": "cyclic", "period": 360, "missing": True},
        *({"name": name, "unit": "", "missing": True} for name in ("rain", "valve")),
    ]
    task = task_of(
        write_table(raw[::-1], tmp_path / "raw.csv"), every="1h", time_step_s=3600,
        every_rules={"rain": "sum", "valve": "last"}, features=features,
        outputs=[{"name": "t", "unit": "", "column": "temp", "horizon": 1}],
    )  # fmt: skip
    found = read_table(task)
    assert found["time"].dt.hour.tolist() == [0, 1, 3], "nothing at 2: a gap"
    assert found["temp"].tolist() == [3.0, 4.0, 5.0]
    np.testing.assert_allclose(found["wind_dir"], [5.0, 90.0, 1.0])
    np.testing.assert_array_equal(found["rain"], [6.0, np.nan, 0.75])
    assert found["valve"].tolist() == [1.0, 1.0, 0.0]


def test_the_calendar_of_a_row_is_that_of_the_clock_on_its_wall(tmp_path: Path) -> None:
    """July 1st, 2024 was a Monday; at 22:30 UTC it is half past midnight in Berlin."""
    table = make_table({"a": range(60)})
    table["time"] = pd.date_range("2024-06-30 22:30", periods=60, freq="h")
    path = write_table(table, tmp_path / "table.csv")
    features = [
        {"name": "temp", "unit": ""},
        *(
            {"name": what, "unit": "", "kind": "cyclic", "period": period, "calendar": what}
            for what, period in CALENDAR.items()
        ),
    ]
    utc = read_table(make_task(path, features=features))
    assert utc.loc[0, list(CALENDAR)].tolist() == [22.5, 6, 182]
    table["time"] += pd.Timedelta(hours=2)
    write_table(table, path)
    local = read_table(make_task(path, features=features, timezone="Europe/Berlin"))
    assert local["time"][0] == utc["time"][0]
    assert local.loc[0, list(CALENDAR)].tolist() == [0.5, 0, 183]
