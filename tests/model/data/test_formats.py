"""Files of every kind: the same columns come out, or one line says what is wrong."""

import codecs
import decimal
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest

from model.data.cells import DataError
from model.data.dialect import find_dialect
from model.data.formats import FILE, read_columns
from model.data.ready_sequences import SEQUENCE
from model.data.table import left_out, read_table
from tests.model.tables import make_table, make_task, write_table


@pytest.fixture
def table() -> pd.DataFrame:
    return make_table({"a": range(60), "b": range(60)}).assign(temp=lambda t: t["temp"] + 0.25)


@pytest.fixture
def expected(table: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    return read_table(make_task(write_table(table, tmp_path / "expected.csv")))


def check(path: Path, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(read_table(make_task(path)), expected, check_dtype=False)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-32"]
)
def test_separators_and_encodings_are_found(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path, separator: str, encoding: str
) -> None:
    """With a letter that is not ASCII, in a column that nobody asks for and in a series."""
    table["Größe"] = "süß"
    table.to_csv(tmp_path / "table.csv", index=False, sep=separator, encoding=encoding)
    check(tmp_path / "table.csv", expected)
    names = read_columns(tmp_path / "table.csv").names
    assert names[-1] == "Größe"


def test_decimal_commas_and_marks_between_thousands_are_found(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path
) -> None:
    table["temp"] = [f"{t:,.2f}".translate({44: ".", 46: ","}) for t in table["temp"]]
    table.to_csv(tmp_path / "table.csv", index=False, sep=";", decimal=",")
    check(tmp_path / "table.csv", expected)
    table["temp"] = [t.translate({44: ".", 46: ","}) for t in table["temp"]]
    table.to_csv(tmp_path / "quoted.csv", index=False)
    check(tmp_path / "quoted.csv", expected)


def test_a_comma_that_may_be_either_is_refused_with_both_readings(tmp_path: Path) -> None:
    table = make_table({"a": range(60)}).assign(temp="1,234", rain=0.0)
    path = write_table(table, tmp_path / "table.csv")
    with pytest.raises(
        DataError, match=r"'temp', row 1 has '1,234', which is 1234 or 1\.234: say "
    ):
        read_table(make_task(path))
    for mark, value in ((".", 1234.0), (",", 1.234)):
        found = read_table(make_task(path, decimal=mark))
        assert set(found["temp"]) == {value}


@pytest.mark.parametrize(
    "name", ["table.csv.zst", "table.csv.tar", "table.CSV.GZ", "TABLE.PARQUET"]
)
def test_suffixes_tell_what_a_file_is_in_any_case(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name.endswith("zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(table.to_csv(index=False).encode())
    elif name.endswith("PARQUET"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    check(path, expected)


def test_parquet_has_its_time_as_index_its_numbers_as_decimals_and_its_text_as_categories(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path
) -> None:
    table["place"] = table["place"].astype("category")
    table["temp"] = [decimal.Decimal(str(t)) for t in table["temp"]]
    table.set_index("time").to_parquet(tmp_path / "indexed.parquet")
    check(tmp_path / "indexed.parquet", expected)
    nameless = table.set_index("time").rename_axis(None)
    nameless.to_parquet(tmp_path / "nameless.parquet")
    found = read_table(make_task(tmp_path / "nameless.parquet", time="index"))
    np.testing.assert_array_equal(found["index"], expected["time"])


def test_arrow_files_and_streams_are_read(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path
) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pa.feather.write_feather(arrow, tmp_path / "table.feather")
    check(tmp_path / "table.feather", expected)
    for name, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with writer(tmp_path / f"{name}.arrow", arrow.schema) as sink:
            sink.write_table(arrow)
        check(tmp_path / f"{name}.arrow", expected)


def test_a_pattern_finds_files_and_names_the_one_with_a_wrong_cell(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path
) -> None:
    for part in range(4):
        table[part * 30 : part * 30 + 30].to_csv(tmp_path / f"part-{part}.csv", index=False)
    pattern = tmp_path / "part-?.csv"
    check(pattern, expected)
    wrong = table[60:90].astype({"temp": object})
    wrong.loc[67, "temp"] = "mild"
    wrong.to_csv(tmp_path / "part-2.csv", index=False)
    with pytest.raises(DataError, match=r"part-2\.csv: column 'temp', row 8 has 'mild'"):
        read_table(make_task(pattern))
    table[60:90].drop(columns="wind").to_csv(tmp_path / "part-2.csv", index=False)
    with pytest.raises(DataError, match=r"part-2\.csv: no column 'wind', which .*part-0\.csv has"):
        read_table(make_task(pattern))
    with pytest.raises(FileNotFoundError, match=r"none-\*\.csv"):
        read_table(make_task(tmp_path / "none-*.csv"))


def test_a_time_in_two_files_is_told_with_both(table: pd.DataFrame, tmp_path: Path) -> None:
    table[:60].to_csv(tmp_path / "one.csv", index=False)
    table[50:60].assign(temp=7.0).to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(DataError, match=r"in row 51 of .*one\.csv and row 1 of .*two\.csv, with o"):
        read_table(make_task(tmp_path / "*.csv"))


def test_the_name_of_a_file_may_tell_the_series(table: pd.DataFrame, tmp_path: Path) -> None:
    for place in "ab":
        part = table[table["place"] == place].drop(columns="place")
        part.to_csv(tmp_path / f"{place}.csv", index=False)
    found = read_table(make_task(tmp_path / "*.csv", series=FILE))
    assert found[FILE].tolist() == ["a"] * 60 + ["b"] * 60


def test_ready_sequences_are_a_table_without_times(tmp_path: Path) -> None:
    sequences = np.arange(24.0).reshape(3, 4, 2)
    path = tmp_path / "ready.npz"
    np.savez(path, sequences=sequences, lengths=[4, 1, 2], columns=["x", "y"])
    found = read_columns(path)
    assert found.names == (SEQUENCE, "x", "y")
    assert found.table[SEQUENCE].to_pylist() == [0, 0, 0, 0, 1, 2, 2]
    assert found.table["y"].to_pylist() == [1, 3, 5, 7, 9, 17, 19]
    rows = np.concatenate([sequences[0], sequences[1, :1], sequences[2, :2]])
    np.savez(path, sequences=rows, lengths=[4, 1, 2])
    again = read_columns(path).table
    assert again["column_1"].to_pylist() == found.table["y"].to_pylist()
    for arrays, why in (
        ({"x": rows}, "it has no array 'sequences', but x"),
        ({"sequences": rows}, "'lengths' must be there and sum up to 7 rows"),
        ({"sequences": rows, "lengths": [4]}, "'lengths' must be there and sum up to 7 rows"),
        ({"sequences": rows[0]}, r"has the shape \[2\]"),
        ({"sequences": sequences, "columns": ["x"]}, "'columns' has 1 names for 2 columns"),
        ({"sequences": sequences, "lengths": [9, 1, 2]}, "'lengths' must have 3 numbers of at"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=f"cannot be read as a table: .*{why}"):
            read_columns(path)


def test_text_beside_a_table_and_names_of_rows_do_no_harm(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path
) -> None:
    """Comments above the names, Excel's line of the separator, and R's names of rows."""
    text = table.to_csv(index=False)
    (tmp_path / "comments.csv").write_text(f"# from our meters\n# 2020\n{text}")
    check(tmp_path / "comments.csv", expected)
    (tmp_path / "excel.csv").write_text("sep=;\n" + table.to_csv(index=False, sep=";"))
    check(tmp_path / "excel.csv", expected)
    named = table.to_csv(index=True).removeprefix(",")
    (tmp_path / "r.csv").write_text(named)
    check(tmp_path / "r.csv", expected)


def test_columns_may_stand_apart_by_spaces(tmp_path: Path) -> None:
    rows = "\n".join(f"{hour}   {hour * 1.5:6.2f}  a" for hour in range(30))
    (tmp_path / "spaces.txt").write_text(f"t    temp    place\n{rows}\n")
    found = read_columns(tmp_path / "spaces.txt")
    assert found.names == ("t", "temp", "place")
    assert found.table["temp"].to_pylist()[:3] == ["0.00", "1.50", "3.00"]


def test_a_byte_of_another_encoding_far_below_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_bytes(b"time,text\n" + b"2020-01-01,plain\n" * 40_000 + b"2020-01-02,s\xfc\xdf\n")
    assert read_columns(path).table["text"][-1].as_py() == "süß"


def test_a_row_of_another_length_is_named_by_its_number(tmp_path: Path) -> None:
    """Below the names, whatever stands above them."""
    for head in ("", "# a comment\n"):
        (tmp_path / "torn.csv").write_text(f"{head}time,temp\n2020-01-01,1\n2020-01-02,2\n2020-0")
        with pytest.raises(DataError, match="torn.csv: .*: row 3 has 1 fields, not 2: '2020-0'$"):
            read_columns(tmp_path / "torn.csv")


def test_names_alone_are_a_table_without_a_row(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("time,temp")
    found = read_columns(tmp_path / "names.csv")
    assert (found.names, len(found.table)) == (("time", "temp"), 0)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("time,temp,temp\n2020-01-01,1,2\n")
    with pytest.raises(DataError, match="the column 'temp' stands twice"):
        read_columns(tmp_path / "twice.csv")


def test_a_word_may_stand_for_no_number(table: pd.DataFrame, tmp_path: Path) -> None:
    changed = table.astype({"wind": object})
    changed.loc[[7, 8], "wind"] = ["nil", -999]
    path = write_table(changed, tmp_path / "table.csv")
    found = read_table(make_task(path, missing_values=["nil", "-999"]))
    assert found["wind"].isna().sum() == table["wind"].isna().sum() + 2
    with pytest.raises(DataError, match=r"row 8 has 'nil', .* missing_values = \[\"nil\"\]"):
        read_table(make_task(path))


def test_numbers_in_text_are_numbers_whatever_is_around_them(tmp_path: Path) -> None:
    texts = [" 1 ", "+2", "3e0", "4.", "true", "False", "1\u202f234 567.5", "-inf", "nan", ""]
    table = make_table({"a": range(60)})
    table["wind"] = [*texts, *["0"] * 50]
    path = write_table(table, tmp_path / "text.parquet")
    features = [{"name": "wind", "unit": "", "missing": True}, {"name": "temp", "unit": ""}]
    found = read_table(make_task(path, features=features))["wind"].to_numpy()
    # -inf is left out with its row.
    np.testing.assert_array_equal(found[:9], [1, 2, 3, 4, 1, 0, 1234567.5, np.nan, np.nan])


def test_a_row_that_another_repeats_is_left_out_and_told(
    table: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path
) -> None:
    path = write_table(pd.concat([table, table[5:8]]), tmp_path / "table.csv")
    found = read_table(make_task(path))
    assert left_out(found) == "3 of 123 rows left out: another row is the same in 3"
    pd.testing.assert_frame_equal(found, expected)


def test_dialects_are_found_in_the_first_bytes() -> None:
    """Where a decimal comma looks like a separator, and a time has a space in it."""
    german = find_dialect(b"zeit;y;z\n13.01.2024 05:00;1,5;2,5\n13.01.2024 06:00;1,5;2,5\n")
    assert (german.separator, german.names) == (";", ("zeit", "y", "z"))
    one = find_dialect(b"y\n1\n2\n")
    assert (one.separator, one.names) == (",", ("y",))
    torn = find_dialect(b"Temp (C),when,y\n4.5,2020-03-27 00:0")
    assert torn.names == ("Temp (C)", "when", "y")
    assert find_dialect(b"a name\n1\n2\n").names == ("a name",)
    quoted = find_dialect(b'"a;b",c\n"1;2",3\n')
    assert quoted.names == ("a;b", "c")
    assert find_dialect(codecs.BOM_UTF8 + b"a,b\n1,2\n").names == ("a", "b")
    with pytest.raises(ValueError, match="it is empty"):
        find_dialect(b"\n\n# nothing\n")
    with pytest.raises(ValueError, match="it is no text"):
        find_dialect(lzma.compress(b"a,b\n1,2\n"))


def test_an_array_whose_header_is_broken_is_named(tmp_path: Path) -> None:
    """NumPy reads it as an expression of Python: a parenthesis that never ends."""
    path = tmp_path / "broken.npz"
    header = b"{'descr': '<f4', 'shape': (1, \n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("sequences.npy", array)
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_columns(path)
