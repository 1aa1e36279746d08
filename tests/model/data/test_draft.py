"""Tasks that are drafted: what is found of a table of which nothing is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.cells import DataError
from model.data.dataset import fit_outputs, load
from model.data.draft import Draft, draft_task
from model.data.names import plain_name
from model.table_options import TableOptions
from model.tasks.task import TaskConfig

HOURS = 24 * 40


def hourly(hours: int = HOURS) -> pd.DataFrame:
    """A daily wave with noise, and columns of each kind."""
    random = np.random.default_rng(0)
    hour = np.arange(hours)
    wave = 10 * np.sin(2 * np.pi * hour / 24)
    return pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=hours, freq="h"),
            "Power (MW)": (50 + wave + random.normal(0, 1, hours)).round(2),
            "wind dir [deg]": random.integers(0, 360, hours),
            "valve": random.integers(0, 2, hours),
            "serial": "A17",
        }
    )


def draft(table: pd.DataFrame, folder: Path, target: str = "Power (MW)", **said: Any) -> Draft:
    path = folder / "plant data.csv"
    table.to_csv(path, index=False)
    said = {"horizons": (1, 24), "target": (target,), **said}
    return draft_task(TableOptions(data=path, **said))


def test_all_that_is_not_said_is_found(tmp_path: Path) -> None:
    found = draft(hourly(), tmp_path)
    task = found.task
    assert (task.name, task.time, task.time_step_s, task.series) == (
        "plant_data",
        "time",
        3600,
        None,
    )
    assert task.season_steps == 24
    assert [(f.name, f.column, f.unit, f.kind, f.period) for f in task.features] == [
        ("Power", "Power (MW)", "MW", "number", None),
        ("wind_dir", "wind dir [deg]", "deg", "cyclic", 360),
        ("valve", "valve", "", "flag", None),
        ("hour_of_day", "hour_of_day", "h", "cyclic", 24),
    ]
    assert task.features[3].calendar == "hour_of_day"
    assert [(o.name, o.unit, o.column, o.horizon, o.change) for o in task.outputs] == [
        ("Power_1", "MW", "Power (MW)", 1, None),
        ("Power_24", "MW", "Power (MW)", 24, None),
    ]
    assert found.left_out == {"serial": "is 'A17' throughout"}
    splits = load(task)
    assert len(splits["train"]) == 0.7 * HOURS


def test_what_is_said_is_kept(tmp_path: Path) -> None:
    table = hourly().assign(other=pd.date_range("2020-01-01", periods=HOURS, freq="D"))
    task = draft(
        table, tmp_path, time="other", features=("valve",), horizons=(3,), timezone="Europe/Berlin"
    ).task
    assert (task.time, task.timezone) == ("other", "Europe/Berlin")
    assert [f.name for f in task.features] == ["valve"]
    assert [(o.name, o.change) for o in task.outputs] == [("Power_3", False)], "no feature: no now"


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("MS", {"time_step": "month"}), ("ME", {"time_step": "month"}),
        ("QS", {"time_step": "quarter"}), ("YS", {"time_step": "year"}),
        ("W-MON", {"time_step_s": 604_800.0}), ("B", {"time_step": "business day"}),
        ("D", {"time_step_s": 86_400.0}), ("15min", {"time_step_s": 900.0}),
        ("250ms", {"time_step_s": 0.25}),
    ],
)  # fmt: skip
def test_the_time_step_is_found(
    tmp_path: Path, frequency: str, expected: dict[str, object]
) -> None:
    times = pd.date_range("1950-01-02", periods=150, freq=frequency)
    y = np.random.default_rng(0).normal(size=150)
    table = pd.DataFrame({"time": times, "y": y}).drop(index=[40, 41, 90])
    task = draft(table, tmp_path, "y", horizons=(1,)).task
    assert {"time_step": None, "time_step_s": None} | expected == {
        "time_step": task.time_step, "time_step_s": task.time_step_s,
    }  # fmt: skip
    assert len(np.unique(load(task)["train"].run_starts)) == 3, "two gaps of one run"


def test_rows_at_any_time_are_put_on_a_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    seconds = np.cumsum(random.integers(40, 300, 2000))
    table = pd.DataFrame(
        {
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s"),
            "y": random.normal(size=2000),
            "on": random.integers(0, 2, 2000),
        }
    )
    task = draft(table, tmp_path, "y", horizons=(1,)).task
    assert (task.every, task.time_step_s) == ("5min", 300)
    assert task.every_rules == {"y": "mean", "on": "last"}
    assert draft(table, tmp_path, "y", every="1h").task.time_step_s == 3600
    load(task)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (1.7e9 + 3600 * np.arange(HOURS), {"time_unit": "s", "time_step_s": 3600}),
        (1_700_000_000_000 + 60_000 * np.arange(HOURS), {"time_unit": "ms", "time_step_s": 60}),
        (10 * np.arange(HOURS), {"time_step": 10.0}),
        (np.arange(1000, 1000 + HOURS), {"time_step": 1.0}),
        (np.arange(1, HOURS + 1) * 0.5, {"time_step": 0.5}),
        ([str(day) for day in pd.date_range("2020-01-01", periods=HOURS).strftime("%Y%m%d")],
         {"time_format": "%Y%m%d", "time_step_s": 86_400}),
    ],
)  # fmt: skip
def test_numbers_tell_times_or_count_rows(
    tmp_path: Path, times: Any, expected: dict[str, object]
) -> None:
    task = draft(hourly().assign(time=times), tmp_path).task
    assert task.time == "time"
    assert {name: getattr(task, name) for name in expected} == expected
    assert not load(task)["train"].run_starts.any()


def test_days_of_a_zone_are_days(tmp_path: Path) -> None:
    table = hourly(360).assign(time=pd.date_range("2024-01-01", periods=360, freq="D"))
    task = draft(table, tmp_path, timezone="Europe/Berlin").task
    assert (task.time_step, task.time_step_s) == ("day", None)
    table["time"] = table["time"].dt.strftime("day %j")
    with pytest.raises(DataError, match="--timezone is of times, but no column looks like it"):
        draft(table, tmp_path, timezone="Europe/Berlin")


@pytest.mark.parametrize("form", ["%H:%M:%S", "%H.%M.%S", "%I:%M %p"])
def test_a_date_and_a_time_of_day_may_stand_apart(tmp_path: Path, form: str) -> None:
    table = hourly()
    expected = load(draft(table, tmp_path).task)["train"]
    table["Time"] = table["time"].dt.strftime(form)
    table["Date"] = table.pop("time").dt.strftime("%d/%m/%Y")
    task = draft(table, tmp_path).task
    assert (task.time, task.time_of_day) == ("Date", "Time")
    found = load(task)["train"]
    np.testing.assert_array_equal(found.times, expected.times)
    assert "Time" not in [feature.column for feature in task.features]


def test_business_days_of_a_zone_are_not_those_of_utc(tmp_path: Path) -> None:
    """Midnight of a Monday in Berlin is a Sunday's in UTC."""
    table = hourly(300).assign(time=pd.date_range("2024-01-01", periods=300, freq="B"))
    task = draft(table, tmp_path, timezone="Europe/Berlin").task
    assert task.time_step == "business day"
    assert not load(task)["train"].run_starts.any()


def test_a_grid_finer_than_the_rows_is_told(tmp_path: Path) -> None:
    task = draft(hourly(300), tmp_path, every="5min", horizons=(1,)).task
    with pytest.raises(DataError, match="no row has another 1 time steps later: is the time step"):
        fit_outputs(task, load(task)["train"])


def test_a_published_layout_with_empty_columns_and_a_mark_of_its_own(tmp_path: Path) -> None:
    """Air quality as UCI has it: `Date;Time`, decimal commas, -200 for no number, two ends more."""
    table = hourly(600)
    table["CO(GT)"] = np.where(np.arange(600) % 50 == 7, -200.0, 2.1)
    table.loc[3, "CO(GT)"] = 2.6
    table.insert(0, "Date", table["time"].dt.strftime("%d/%m/%Y"))
    table.insert(1, "Time", table.pop("time").dt.strftime("%H.%M.%S"))
    text = table.to_csv(index=False, sep=";", decimal=",").replace("\n", ";;\n")
    (tmp_path / "air.csv").write_text(text)
    options = TableOptions(data=tmp_path / "air.csv", target=("Power (MW)",))
    found = draft_task(options)
    task = found.task
    assert (task.decimal, task.missing_values, task.time_step_s) == (",", ("-200",), 3600)
    assert (task.time, task.time_of_day) == ("Date", "Time")
    assert {"column_8", "column_9"} <= {c for c, why in found.left_out.items() if why == "is empty"}
    assert len(load(task)["train"]) == 420


def test_years_are_times(tmp_path: Path) -> None:
    table = pd.DataFrame({"year": np.arange(1800, 2000), "y": np.arange(200) % 7})
    task = draft(table, tmp_path, "y", horizons=(1,)).task
    assert (task.time, task.time_format, task.time_step) == ("year", "%Y", "year")


def test_without_a_column_of_times_rows_follow_each_other(tmp_path: Path) -> None:
    task = draft(hourly().drop(columns="time"), tmp_path).task
    assert (task.time, task.time_step_s, task.season_steps) == (None, None, 1)
    assert not load(task)["train"].run_starts.any()


def test_series_are_found_where_a_time_stands_more_than_once(tmp_path: Path) -> None:
    """By the column that leaves none twice; a row that another repeats tells nothing."""
    parts = [
        hourly().assign(region=region, station=f"{region}{number}", number=number)
        for region in ("north", "south")
        for number in range(3)
    ]
    table = pd.concat([*parts, parts[0][5:9]]).sample(frac=1, random_state=0)
    found = draft(table, tmp_path)
    assert found.task.series == "station"
    assert len(np.unique(load(found.task)["train"].series)) == 6
    assert draft(parts[0], tmp_path).task.series is None


def test_series_of_their_own_times_are_found_where_each_is_regular(tmp_path: Path) -> None:
    """No time stands twice; taken together their steps are none."""
    starts = {"north": "00:00:00", "south": "00:17:30", "west": "00:41:10"}
    parts = [
        hourly(300).assign(
            sensor=name, time=pd.date_range(f"2024-01-01 {start}", periods=300, freq="h")
        )
        for name, start in starts.items()
    ]
    task = draft(pd.concat(parts), tmp_path).task
    assert (task.series, task.time_step_s, task.every) == ("sensor", 3600, None)
    assert len(np.unique(load(task)["train"].run_starts)) == 3


def test_what_stands_for_no_number_is_found(tmp_path: Path) -> None:
    """A word that people use so, and a number that is far from all others."""
    table = hourly().astype({"valve": object, "wind dir [deg]": float})
    table.loc[[7, 9], "valve"] = ["nil", "-"]
    table.loc[20:30, "wind dir [deg]"] = -999.0
    task = draft(table, tmp_path).task
    assert set(task.missing_values) == {"nil", "-", "-999"}
    assert {f.name for f in task.features if f.missing} == {"valve", "wind_dir"}
    assert task.features[1].period == 360
    table.loc[7, "valve"] = "stuck"
    with pytest.raises(DataError, match=r"column 'valve', row 8 has 'stuck', which is no number"):
        draft(table, tmp_path)


def test_text_and_codes_are_categories_and_two_words_a_flag(tmp_path: Path) -> None:
    """What has one value in each series is static."""
    parts = [
        hourly(300).assign(
            site=site,
            fuel=np.where(np.arange(300) % 7, fuel, "none"),
            size=size,
            mode_code=np.arange(300) % 5,
            on=np.where(np.arange(300) % 2, "yes", "No"),
        )
        for site, fuel, size in (("a", "gas", 10.0), ("b", "coal", 25.0))
    ]
    task = draft(pd.concat(parts), tmp_path).task
    assert task.series == "site"
    kinds = {f.name: (f.kind, f.static) for f in task.features}
    assert kinds["fuel"] == ("category", False)
    assert kinds["size"] == ("number", True)
    assert kinds["mode_code"] == ("category", False)
    assert kinds["on"] == ("flag", False)
    train = load(task)["train"]
    assert train.columns.values["fuel"].keys() == {"gas", "coal", "none"}


def test_a_target_with_few_holes_is_never_missing_to_callers(tmp_path: Path) -> None:
    table = hourly()
    table.loc[[100, 300], "Power (MW)"] = np.nan
    task = draft(table, tmp_path).task
    assert (task.features[0].missing, task.outputs[0].change) == (False, None)
    table.loc[100:300, "Power (MW)"] = np.nan
    task = draft(table, tmp_path).task
    assert (task.features[0].missing, task.outputs[0].change) == (True, False)


def test_columns_of_no_use_are_left_out_with_the_reason(tmp_path: Path) -> None:
    table = hourly().assign(
        same=3.0, nothing=np.nan, seldom=np.nan, begun=pd.Timestamp("2024-01-01 00:00"),
        note=[f"note {n}" for n in range(HOURS)],
    )  # fmt: skip
    table.loc[:20, "seldom"] = np.arange(21)
    left_out = draft(table, tmp_path).left_out
    assert left_out["same"] == "is 3 throughout"
    assert left_out["nothing"] == "is empty"
    assert left_out["seldom"] == "is missing in 98% of the rows"
    assert left_out["note"] == f"is text with {HOURS} different values"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"target": "none"}, "no column 'none'; it has time, Power"),
        ({"features": ("none",)}, "no column 'none'"),
        ({"target": "serial"}, "column 'serial' .*: a target is of numbers"),
        ({"target": "time"}, "column 'time' .*: a target is of numbers"),
        ({"features": ("serial",)}, "column 'serial' .*: it can be no feature"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, said: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        draft(hourly(), tmp_path, **said)


def test_seasons_show_where_they_are_and_only_there(tmp_path: Path) -> None:
    """Of a day and a week in hours, of a year in months with a trend, of none in a random walk."""
    random = np.random.default_rng(0)
    hours = pd.date_range("2024-01-01", periods=24 * 120, freq="h")
    week = np.where(hours.day_of_week >= 5, -8.0, 0.0) + 5 * np.sin(2 * np.pi * hours.hour / 24)
    months = pd.date_range("1960-01-01", periods=240, freq="MS")
    year = np.exp(np.arange(240) / 100) * (10 + np.sin(2 * np.pi * np.arange(240) / 12))
    walk = np.cumsum(random.normal(size=len(hours)))
    for times, y, expected, season_steps in (
        (hours, week + random.normal(size=len(hours)), ["day", "week"], 168),
        (months, year, ["year"], 12),
        (hours, walk, [], 24),
    ):
        found = draft(pd.DataFrame({"time": times, "y": y}), tmp_path, "y", horizons=(1,))
        assert [season.name.removeprefix("a ") for season in found.seasons] == expected
        assert found.task.season_steps == season_steps
        made = [f.calendar for f in found.task.features if f.calendar]
        assert made == [season.calendar for season in found.seasons]


def test_a_season_that_most_series_have_is_one(tmp_path: Path) -> None:
    """The longest of four has none; a table of ten years has room for a year of months."""
    random = np.random.default_rng(0)
    wave = 5 * np.sin(2 * np.pi * np.arange(120) / 12)
    table = pd.concat(
        pd.DataFrame(
            {
                "month": pd.date_range("2000-01-01", periods=119 + (place == "a"), freq="MS"),
                "place": place,
                "y": (random.normal(size=120) + (place != "a") * wave)[: 119 + (place == "a")],
            }
        )
        for place in "abcd"
    )
    found = draft(table, tmp_path, "y", horizons=(1, 12))
    assert [season.steps for season in found.seasons] == [12]
    assert found.task.season_steps == 12


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_counts_the_rows_is_left_out(tmp_path: Path, first: int) -> None:
    """As an index that was written beside the table: a caller would have to count on."""
    table = hourly()
    counted = table.assign(rownames=np.arange(first, HOURS + first))
    counted["valve_count"] = counted["rownames"] * 2
    found = draft(counted, tmp_path)
    assert found.left_out["rownames"] == "counts the rows"
    assert "valve_count" in [feature.name for feature in found.task.features]


@given(columns=st.lists(st.text(max_size=80), min_size=1, max_size=20))
@settings(max_examples=200)
def test_any_column_gets_a_name_that_callers_can_send(columns: list[str]) -> None:
    taken: list[str] = []
    for column in columns:
        taken.append(plain_name(column, taken))
    fields = [{"name": name, "unit": ""} for name in taken]
    TaskConfig.model_validate(
        {
            "name": taken[0], "description": "", "data": "t.csv", "features": fields,
            "outputs": [{"name": "x", "unit": "", "column": "x", "horizon": 1}],
        }
    )  # fmt: skip
    assert len(set(taken)) == len(columns)
