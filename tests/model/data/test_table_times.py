"""Times of a table: written with or without an offset, or as numbers of a unit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model.data.cells import DataError
from model.data.dataset import load
from model.data.table import read_table
from tests.model.tables import hours_of, make_table, make_task, write_table


@pytest.fixture
def table() -> pd.DataFrame:
    return make_table({"a": range(60), "b": range(60)})


def read(table: pd.DataFrame, folder: Path, name: str = "table.csv") -> pd.DataFrame:
    return read_table(make_task(write_table(table, folder / name)))


UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_times_may_be_numbers_whose_unit_the_task_names(
    table: pd.DataFrame, tmp_path: Path, name: str, unit: str
) -> None:
    expected = read(table, tmp_path)
    seconds = (table["time"] - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    path = write_table(table.assign(time=seconds * UNITS[unit]), tmp_path / f"numbers_{name}")
    found = read_table(make_task(path, time_unit=unit))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_seconds_with_a_fraction_have_no_gaps_of_rounding(tmp_path: Path) -> None:
    """float64 tells a tenth of a second of today to 0.2 microseconds."""
    table = make_table({"a": range(60)})
    table["time"] = 1.7e9 + 0.1 * np.arange(60)
    path = write_table(table, tmp_path / "tenths.csv")
    train = load(make_task(path, time_unit="s", time_step_s=0.1))["train"]
    assert not train.run_starts.any()


def test_a_row_without_a_numeric_time_is_left_out(table: pd.DataFrame, tmp_path: Path) -> None:
    table["time"] = (table["time"] - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    table.loc[7, "time"] = np.nan
    path = write_table(table, tmp_path / "table.csv")
    assert len(read_table(make_task(path, time_unit="s"))) == 119


@pytest.mark.parametrize("scale", [1, 1.0, 1000])
def test_numbers_for_times_are_refused_with_what_to_do(
    table: pd.DataFrame, tmp_path: Path, scale: float
) -> None:
    """They would be read as nanoseconds."""
    table["time"] = (table["time"] - pd.Timestamp(0)) // pd.Timedelta(seconds=1) * scale
    with pytest.raises(DataError, match=r"column 'time' holds numbers: .* time_unit = \"s\""):
        read(table, tmp_path)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_unit_of_written_times_is_refused(table: pd.DataFrame, tmp_path: Path, name: str) -> None:
    path = write_table(table, tmp_path / name)
    with pytest.raises(
        DataError, match="'time' holds no numbers, but the task has time_unit = 's'"
    ):
        read_table(make_task(path, time_unit="s"))


@pytest.mark.parametrize("offset", ["", "Z", "+00:00", "-05:00"])
def test_times_without_an_offset_are_utc(table: pd.DataFrame, tmp_path: Path, offset: str) -> None:
    shift = pd.Timedelta(hours=5 if offset == "-05:00" else 0)
    expected = table["time"] + shift
    table["time"] = table["time"].dt.strftime("%Y-%m-%d %H:%M") + offset
    found = read(table, tmp_path).sort_values(["place", "time"])["time"]
    assert hours_of(found) == hours_of(expected)


def test_parquet_times_with_a_zone_become_utc(table: pd.DataFrame, tmp_path: Path) -> None:
    expected = hours_of(table["time"] + pd.Timedelta(hours=5))
    table["time"] = table["time"].dt.tz_localize("Etc/GMT+5")
    assert hours_of(read(table, tmp_path, "zone.parquet")["time"]) == expected
