"""Kinds of columns: text and flags read, bases and values found, the future, what never changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.cells import DataError, Origin, categories, flags
from model.data.column_encoding import (
    MOST_COLUMNS,
    MOST_KNOWN,
    RELATIVE,
    Columns,
    as_callers_send,
)
from model.data.dataset import Split, fit_features, fit_outputs, load
from model.transforms import Change, Embedding, Feature, Flag, OneHot, Relative, Standardize
from tests.model.tables import make_table, make_task, write_table

HOURS = 101  # of which 50 are the training split
NUMBER = {"name": "temp", "unit": "degC"}
OUTPUT = {"name": "rain", "unit": "mm", "column": "rain", "horizon": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def split_table(folder: Path, columns: dict[str, Any], **changes: Any) -> dict[str, Split]:
    """Splits of a table with these columns; the task has `temp` and what `changes` says."""
    table = make_table({"a": range(HOURS)}).assign(**columns)
    fields = {"features": [NUMBER], "outputs": [OUTPUT]} | changes
    return load(make_task(write_table(table, folder / "table.parquet"), **fields))


def arrow(column: Any) -> pa.ChunkedArray:
    """A column as a file of Parquet has it."""
    table = pa.Table.from_pandas(pd.DataFrame({"x": column}))["x"]
    return table.cast(pa.string()) if pa.types.is_dictionary(table.type) else table


def fitted(train: Split, *features: dict[str, Any]) -> Feature:
    """The only feature of a task."""
    task = make_task(Path("table.parquet"), features=features, outputs=[OUTPUT])
    (feature,) = fit_features(task, train)
    return feature


@settings(max_examples=25)
@given(
    level=st.integers(10**6, 10**12) | st.integers(-(10**12), -(10**6)),
    spread=st.integers(1, 10**9),
    seed=st.integers(0, 100),
)
def test_what_is_small_beside_its_magnitude_is_held_relative_to_a_base(
    folder: Path, level: int, spread: int, seed: int
) -> None:
    """Every whole number comes back exactly: float64 tells them, and float32 what is left."""
    rises = np.random.default_rng(seed).integers(0, 20, HOURS) * spread // 20
    numbers = level + rises
    wanted = float(np.std(numbers[:50])) < RELATIVE * np.abs(numbers[:50]).max()
    splits = split_table(folder, {"temp": numbers})
    train = splits["train"]
    (feature,) = fit_features(
        make_task(folder / "table.parquet", features=[NUMBER], outputs=[OUTPUT]), train
    )
    if not rises[:50].any() or not wanted:
        assert isinstance(feature.transform, Standardize)
        return
    assert isinstance(feature.transform, Relative)
    back = as_callers_send((feature,), train.features)
    np.testing.assert_allclose(np.array(back)[:, 0], numbers[:50], rtol=0, atol=spread * 2**-22)
    # A round number, within the column.
    assert abs(feature.transform.mean) <= feature.transform.std


def test_outputs_of_such_a_column_have_its_base_too(folder: Path) -> None:
    meter = 4_512_345_678 + 5 * np.arange(HOURS) + np.arange(HOURS) % 3
    changes = {
        "features": [{"name": "meter", "unit": "kWh"}],
        "outputs": [
            {"name": "next", "unit": "kWh", "column": "meter", "horizon": 1, "change": True},
            {"name": "level", "unit": "kWh", "column": "meter", "horizon": 1},
            {"name": "other", "unit": "kWh", "column": "other", "horizon": 1},
        ],
    }
    train = split_table(folder, {"meter": meter, "other": -meter}, **changes)["train"]
    task = make_task(folder / "table.parquet", **changes)
    (feature,), (change, level, other) = fit_features(task, train), fit_outputs(task, train)
    assert isinstance(feature.transform, Relative)
    base = feature.transform.base
    assert base % 100 == 0
    assert isinstance(change.transform, Change)
    assert change.transform.mean == pytest.approx(5.0, abs=0.1)
    assert isinstance(level.transform, Relative)
    assert isinstance(other.transform, Relative)
    assert (level.transform.base, other.transform.base) == (base, -base)
    np.testing.assert_array_equal(train.targets[:-1, 1].astype(float) + base, meter[1:50])


def test_a_column_of_one_number_needs_no_base(folder: Path) -> None:
    """Nor does one that differs by the rounding of float64."""
    for numbers in (np.full(HOURS, 4e9), np.where(np.arange(HOURS) % 2, 0.3, 0.1 + 0.2)):
        assert split_table(folder, {"temp": numbers})["train"].columns.bases == {}


def test_a_base_is_found_in_the_training_split_alone(folder: Path) -> None:
    numbers = 4e9 + np.arange(HOURS) % 7
    later = numbers.copy()
    later[60:] += 1e6
    found = [split_table(folder, {"temp": x})["train"].columns.bases for x in (numbers, later)]
    assert found[0] == found[1] != {}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["a", "", None, "7"], ["a", None, None, "7"]),
        ([1, 2, 3, 1], ["1", "2", "3", "1"]),
        ([1.0, np.nan, 3.0, 1.5], ["1", None, "3", "1.5"]),
        ([True, False, True, True], ["True", "False", "True", "True"]),
        (pd.Series(["a", "b", None, "a"], dtype="category"), ["a", "b", None, "a"]),
        (pd.array([1, None, 3, 1], "Int64"), ["1", None, "3", "1"]),
    ],
)
def test_values_of_a_category_are_text(column: Any, expected: list[str | None]) -> None:
    found = categories(arrow(column))
    assert [None if pd.isna(value) else value for value in found] == expected


@pytest.mark.parametrize(
    "column",
    [
        [True, False, None],
        ["yes", "No", ""],
        ["TRUE", "false", None],
        [1, 0, None],
        pd.array([True, False, None], "boolean"),
    ],
)
def test_a_flag_may_be_written_in_many_ways(column: Any) -> None:
    origin = Origin(((Path("t.csv"), 3),), Path("t.csv"))
    found = flags(arrow(column), "on", origin, ())
    np.testing.assert_array_equal(found, [1.0, 0.0, np.nan])


def test_what_is_no_flag_is_told_with_its_row(folder: Path) -> None:
    told = "column 'temp', row 8 has '2': a flag is true or false, yes or no, on or off"
    flag = {"name": "temp", "kind": "flag"}
    with pytest.raises(DataError, match=told):
        split_table(folder, {"temp": np.arange(HOURS) // 7 + 1}, features=[flag])


def test_a_category_is_codes_of_the_values_of_the_training_split(folder: Path) -> None:
    sky = np.where(np.arange(HOURS) % 4 == 1, "rain", "sun").astype(object)
    sky[:5], sky[90] = "fog", "hail"
    sky[7] = None
    features = [{"name": "sky", "kind": "category", "missing": True}]
    splits = split_table(folder, {"sky": sky}, features=features)
    train, test = splits["train"], splits["test"]
    (feature,) = fit_features(
        make_task(folder / "table.parquet", features=features, outputs=[OUTPUT]), train
    )
    assert isinstance(feature.transform, OneHot)
    assert feature.transform.values == ("fog", "rain", "sun")
    assert feature.transform.shares == pytest.approx([5 / 49, 12 / 49, 32 / 49])
    assert feature.num_inputs == 4
    assert train.features[:9, 0].tolist()[:7] == [1, 1, 1, 1, 1, 2, 3]
    assert np.isnan(train.features[7, 0])
    assert test.features[90 - (HOURS - len(test)), 0] == 0, "hail is unknown"
    assert as_callers_send((feature,), train.features[4:8]) == [["fog"], ["rain"], ["sun"], [None]]


def test_a_category_that_must_not_be_missing_leaves_rows_out(folder: Path) -> None:
    sky = np.array(["sun"] * HOURS, object)
    sky[3:5] = None
    train = split_table(folder, {"sky": sky}, features=[{"name": "sky", "kind": "category"}])[
        "train"
    ]
    assert train.left_out == "2 of 101 rows left out: sky has no value in 2"


def test_of_very_many_values_the_most_frequent_are_known() -> None:
    names = [f"place{index:05d}" for index in range(MOST_KNOWN + 5)]
    table = pd.DataFrame({"place": names + names[5:]})
    task = make_task(
        Path("table.csv"), features=[{"name": "place", "kind": "category"}], outputs=[OUTPUT]
    )
    train = np.arange(len(table))
    found = Columns.of(task, table.assign(rain=1.0), train).values["place"]
    assert list(found) == names[5:]


def test_many_values_have_a_table_instead_of_a_column_each(folder: Path) -> None:
    places = np.array([f"p{hour % (MOST_COLUMNS + 1):02d}" for hour in range(HOURS)], object)
    features = [{"name": "place", "kind": "category"}]
    train = split_table(folder, {"place": places}, features=features)["train"]
    feature = fitted(train, *features)
    assert isinstance(feature.transform, Embedding)
    assert len(feature.transform.values) == MOST_COLUMNS + 1
    assert feature.num_inputs == feature.transform.size == 11
    few = split_table(folder, {"place": [f"p{h % 32}" for h in range(HOURS)]}, features=features)
    assert isinstance(fitted(few["train"], *features).transform, OneHot)
    # A training that goes on has the same codes.
    task = make_task(folder / "table.parquet", features=features, outputs=[OUTPUT])
    again = load(task, transforms=((feature,), fit_outputs(task, few["train"])))["train"]
    assert tuple(again.columns.values["place"]) == feature.transform.values


def test_the_series_may_be_a_category_too(folder: Path) -> None:
    features = [NUMBER, {"name": "place", "kind": "category", "static": True}]
    table = make_table({"a": range(60), "b": range(60)})
    splits = load(make_task(write_table(table, folder / "series.csv"), features=features))
    train = splits["train"]
    assert {*zip(train.series, train.features[:, 1], strict=True)} == {("a", 1.0), ("b", 2.0)}


def test_a_feature_ahead_is_the_column_later_and_what_follows_is_no_row(folder: Path) -> None:
    """Only where its own future is known; as a target the rows at the end count all the same."""
    features = [NUMBER, {"name": "tariff_soon", "column": "tariff", "unit": "", "ahead": 3}]
    output = {"name": "next", "unit": "", "column": "temp", "horizon": 5}
    tariff = 100.0 + np.arange(HOURS)
    splits = split_table(folder, {"tariff": tariff}, features=features, outputs=[output])
    train = splits["train"]
    assert len(train) == 50 - 3
    np.testing.assert_array_equal(train.features[:, 1], tariff[3:50])
    np.testing.assert_array_equal(train.features[:, 0], np.arange(47))
    known = ~np.isnan(train.targets[:, 0])
    assert known.sum() == 45, "of hours 0 to 44 the target is known: hours 5 to 49"


def test_a_feature_ahead_does_not_reach_across_a_gap_or_a_series(folder: Path) -> None:
    table = make_table({"a": [*range(20), *range(30, 60)], "b": range(60)})
    features = [NUMBER, {"name": "soon", "column": "temp", "unit": "degC", "ahead": 4}]
    outputs = [{"name": "next", "unit": "", "column": "temp", "horizon": 5}]
    task = make_task(write_table(table, folder / "gap.csv"), features=features, outputs=outputs)
    for split in load(task).values():
        np.testing.assert_array_equal(split.features[:, 1], split.features[:, 0] + 4)
        hours = split.features[:, 0] % 1000
        new = np.flatnonzero(np.diff(hours, prepend=-9) != 1)
        assert {*split.run_starts} == {*new}


def test_a_static_column_that_changes_is_refused(folder: Path) -> None:
    features = [NUMBER, {"name": "size", "unit": "MW", "static": True}]
    size = np.full(HOURS, 50.0)
    assert len(split_table(folder, {"size": size}, features=features)["train"]) == 50
    size[70] = 51.0
    told = "'size' is static, but in the series 'a' it changes from 50.0 to 51.0 at 2020-01-03 22:"
    with pytest.raises(DataError, match=told):
        split_table(folder, {"size": size}, features=features)


def test_a_flag_is_centred_only(folder: Path) -> None:
    """A rare one in standard deviations would be a very large number."""
    features = [{"name": "holiday", "kind": "flag"}]
    holiday = np.arange(HOURS) % 25 == 0
    train = split_table(folder, {"holiday": holiday}, features=features)["train"]
    (feature,) = fit_features(
        make_task(folder / "table.parquet", features=features, outputs=[OUTPUT]), train
    )
    assert feature.transform == Flag(mean=0.04)
    assert as_callers_send((feature,), train.features[:2]) == [[True], [False]]


def test_a_training_that_goes_on_keeps_the_bases_and_values_of_its_model(folder: Path) -> None:
    """Other codes or another base would be other numbers for the weights that there are."""
    features = [{"name": "meter", "unit": "kWh"}, {"name": "sky", "kind": "category"}]
    rises = np.arange(HOURS) % 9
    skies = np.where(rises > 4, "rain", "sun")
    before = split_table(folder, {"meter": 4e9 + rises, "sky": skies}, features=features)["train"]
    task = make_task(folder / "table.parquet", features=features, outputs=[OUTPUT])
    transforms = fit_features(task, before), fit_outputs(task, before)

    table = make_table({"a": range(HOURS)})
    table = table.assign(meter=5e9 + rises, sky=np.where(rises > 4, "hail", "sun"))
    write_table(table, folder / "table.parquet")
    after = load(task, transforms=transforms)["train"]
    assert after.columns.bases == before.columns.bases
    np.testing.assert_array_equal(after.features[:, 0], before.features[:, 0] + 1e9)
    np.testing.assert_array_equal(after.features[:, 1], np.where(rises[:50] > 4, 0, 2))
    plain = [f.model_copy(update={"transform": Standardize(mean=0, std=1)}) for f in transforms[0]]
    assert load(task, transforms=(plain, transforms[1]))["train"].columns.bases == {}
