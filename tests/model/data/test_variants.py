"""A published table as 25 people might have it: the same splits come out, or a line that helps.

It is a month of the weather at two of New York's airports, with its gaps and missing values.
"""

import bz2
import gzip
import lzma
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest

from model.data.cells import DataError
from model.data.dataset import Split, load
from model.data.draft import draft_task
from model.table_options import TableOptions

WEATHER = Path(__file__).parents[3] / "data" / "weather.csv.xz"
COLUMNS = ["date", "origin", "temp", "wind_dir", "pressure"]


@cache
def table() -> pd.DataFrame:
    whole = pd.read_csv(WEATHER, parse_dates=["time_hour"]).rename(columns={"time_hour": "date"})
    some = whole[whole["origin"].isin(["EWR", "LGA"]) & (whole["date"] < "2013-02-01")]
    return some[COLUMNS].reset_index(drop=True)


def splits_of(path: Path, **said: object) -> dict[str, Split]:
    options = TableOptions(data=path, target=("temp",), horizons=(1, 24), **said)
    return load(draft_task(options).task)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    path = tmp_path_factory.mktemp("plain") / "table.csv"
    table().to_csv(path, index=False)
    return splits_of(path)


Writer = Callable[[pd.DataFrame, Path], Path]


def csv(**how: object) -> Writer:
    def write(data: pd.DataFrame, folder: Path) -> Path:
        data.to_csv(folder / "table.csv", index=False, **how)
        return folder / "table.csv"

    return write


def dates(form: str, **how: object) -> Writer:
    return lambda data, folder: csv(**how)(data.assign(date=data["date"].dt.strftime(form)), folder)


def packed(suffix: str, opener: Callable[..., object]) -> Writer:
    def write(data: pd.DataFrame, folder: Path) -> Path:
        path = folder / f"table.csv{suffix}"
        with opener(path, "wb") as file:  # type: ignore[attr-defined]
            file.write(data.to_csv(index=False).encode())
        return path

    return write


def parquet(data: pd.DataFrame, folder: Path) -> Path:
    data.to_parquet(folder / "table.PARQUET")
    return folder / "table.PARQUET"


def feather(data: pd.DataFrame, folder: Path) -> Path:
    pa.feather.write_feather(pa.Table.from_pandas(data), folder / "table.feather")
    return folder / "table.feather"


def pieces(data: pd.DataFrame, folder: Path) -> Path:
    for number in range(3):
        data.iloc[number::3].to_csv(folder / f"piece-{number}.csv", index=False)
    return folder / "piece-*.csv"


def in_zone(zone: str) -> Writer:
    def write(data: pd.DataFrame, folder: Path) -> Path:
        return csv()(data.assign(date=data["date"].dt.tz_convert(zone)), folder)

    return write


SAME: dict[str, Writer] = {
    "semicolons": csv(sep=";"),
    "tabs": csv(sep="\t"),
    "bars": csv(sep="|"),
    "decimal commas": csv(sep=";", decimal=","),
    "quotes": csv(quoting=1),
    "a mark of UTF-8": csv(encoding="utf-8-sig"),
    "UTF-16": csv(encoding="utf-16"),
    "lines of Windows": csv(lineterminator="\r\n"),
    "gzip": packed(".gz", gzip.open),
    "xz": packed(".xz", lzma.open),
    "bz2": packed(".bz2", bz2.open),
    "German dates": dates("%d.%m.%Y %H:%M"),
    "American dates": dates("%m/%d/%Y %I:%M %p"),
    "ISO with T and Z": dates("%Y-%m-%dT%H:%M:%SZ"),
    "offsets": in_zone("Etc/GMT+8"),
    "seconds from 1970": lambda data, folder: csv()(
        data.assign(date=data["date"].dt.as_unit("s").astype("int64")), folder
    ),
    "the last first": lambda data, folder: csv()(data[::-1], folder),
    "shuffled": lambda data, folder: csv()(data.sample(frac=1, random_state=0), folder),
    "rows twice": lambda data, folder: csv()(pd.concat([data, data[100:150]]), folder),
    "Parquet": parquet,
    "Parquet with the time as index": lambda data, folder: parquet(data.set_index("date"), folder),
    "Feather": feather,
    "three files": pieces,
}


@pytest.mark.parametrize("variant", SAME)
def test_a_variant_of_a_table_gives_the_same_splits(
    tmp_path: Path, expected: dict[str, Split], variant: str
) -> None:
    found = splits_of(SAME[variant](table(), tmp_path))
    for name, split in expected.items():
        np.testing.assert_array_equal(found[name].times, split.times)
        np.testing.assert_array_equal(found[name].run_starts, split.run_starts)
        np.testing.assert_array_equal(found[name].features, split.features)
        np.testing.assert_array_equal(found[name].targets, split.targets)
    assert len(expected["train"]) > 1000


REFUSED: dict[str, tuple[Writer, str]] = {
    "other numbers at the same time": (
        lambda data, folder: csv()(
            pd.concat([data, data[100:101].assign(temp=99.5)]), folder
        ),
        r"'date' of the series 'EWR', in row 101 and row 1475, with other numbers",
    ),
    "a cell that is no number": (
        lambda data, folder: csv()(
            data.assign(temp=data["temp"].astype(object).where(data.index != 7, "wet")), folder
        ),
        "column 'temp', row 8 has 'wet', which is no number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", REFUSED)
def test_a_variant_that_says_other_things_is_refused(tmp_path: Path, variant: str) -> None:
    write, message = REFUSED[variant]
    with pytest.raises(DataError, match=message):
        splits_of(write(table(), tmp_path))


def test_there_are_25_variants() -> None:
    assert len(SAME) + len(REFUSED) == 25
