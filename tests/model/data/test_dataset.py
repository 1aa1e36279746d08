"""Splits, windows and batches: what they hold, and what they never mix.

`tables.make_table` numbers its rows, so that each number tells the series and hour it is from.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from model.data.batches import Batches
from model.data.cells import DataError
from model.data.dataset import Split, fit_features, fit_outputs, load, windows
from model.tasks.task import TaskConfig
from model.transforms import Change, Cyclic, Standardize
from tests.model.tables import (
    ADJOINING,
    DAY_STEPS,
    HORIZONS,
    gappy_places,
    hours_of,
    make_table,
    make_task,
    write_table,
)

GAP = max(HORIZONS)

# Each example writes a file and reads it: 0.1 s.
few = settings(max_examples=25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def load_places(
    folder: Path, places: dict[str, Iterable[int]], past_steps: int = 0
) -> dict[str, Split]:
    """Splits of the toy task over these hours, shuffled in the file: order must not matter."""
    table = make_table(places).sample(frac=1, random_state=1)
    task = make_task(write_table(table, folder / "table.csv"))
    try:
        return load(task, past_steps=past_steps)
    except DataError:  # the gaps leave a split empty
        reject()


def keys_of(split: Split) -> list[tuple[str, int]]:
    """Series and hour of each row."""
    return list(zip(split.series.tolist(), hours_of(split.times), strict=True))


@few
@given(places=gappy_places())
def test_splits_are_cut_by_time_alike_for_all_series(
    folder: Path, places: dict[str, list[int]]
) -> None:
    """At 50% and 75% of the time covered; a validation or test split starts 5 hours after a cut."""
    splits = load_places(folder, places)
    hours = sorted({hour for hours in places.values() for hour in hours})
    first, last = hours[0], hours[-1]
    cuts = first + 0.5 * (last - first), first + 0.75 * (last - first)
    spans = {
        "train": (first, cuts[0]),
        "validation": (cuts[0] + GAP, cuts[1]),
        "test": (cuts[1] + GAP, last + 1),
    }
    for name, (start, end) in spans.items():
        expected = {(p, h) for p, hours in places.items() for h in hours if start <= h < end}
        found = keys_of(splits[name])
        assert set(found) == expected
        assert found == sorted(found), "sorted by series and time, and no row twice"
    for before, after in (("train", "validation"), ("validation", "test")):
        latest, earliest = max(hours_of(splits[before].times)), min(hours_of(splits[after].times))
        assert earliest - latest > GAP


@few
@given(places=gappy_places())
def test_targets_are_the_value_exactly_a_horizon_later_within_the_split(
    folder: Path, places: dict[str, list[int]]
) -> None:
    """Found by time, not by row; NaN where the table or the split has no such row."""
    table = make_table(places)
    rows = list(zip(table["place"], hours_of(table["time"]), strict=True))
    values = {name: dict(zip(rows, table[name], strict=True)) for name in ("temp", "rain")}
    for split in load_places(folder, places).values():
        keys = keys_of(split)
        known = set(keys)
        for output, (column, horizon) in enumerate(zip(("temp", "rain"), HORIZONS, strict=True)):
            days = -(-horizon // DAY_STEPS) * DAY_STEPS
            for found, offset in (
                (split.targets, horizon),
                (split.present, 0),
                (split.season_before, horizon - days),
            ):
                wanted = [(place, hour + offset) for place, hour in keys]
                expected = [values[column][key] if key in known else np.nan for key in wanted]
                np.testing.assert_array_equal(found[:, output], expected)


@few
@given(places=gappy_places(), past=st.integers(1, 30))
@example(places=ADJOINING, past=8)
def test_validation_and_test_come_with_their_past(
    folder: Path, places: dict[str, list[int]], past: int
) -> None:
    """Where they are shorter than ten pasts. It is there to look back on: none of its targets is,
    so none is counted twice."""
    table = make_table(places)
    every = set(zip(table["place"], hours_of(table["time"]), strict=True))
    alone, found = load_places(folder, places), load_places(folder, places, past)
    hours = sorted({hour for hours in places.values() for hour in hours})
    cuts = [hours[0] + part * (hours[-1] - hours[0]) for part in (0.5, 0.75)]
    ends = [cuts[1], hours[-1] + 1e-9]  # the last hour is of the split
    assert found["train"].own.all()
    np.testing.assert_array_equal(found["train"].features, alone["train"].features)
    for name, cut, end in zip(("validation", "test"), cuts, ends, strict=True):
        split, keys = found[name], keys_of(found[name])
        start = cut + GAP
        first = start - past if end - start < 10 * past else start
        assert set(keys) == {(p, h) for p, h in every if first <= h < end}
        assert [key for key, own in zip(keys, split.own, strict=True) if own] == keys_of(
            alone[name]
        )
        np.testing.assert_array_equal(split.features[split.own], alone[name].features)
        np.testing.assert_array_equal(split.targets[split.own], alone[name].targets)
        assert np.isnan(split.targets[~split.own]).all()
        for first, length in windows(split, 8, 4).tolist():
            assert split.own[first : first + length].any()
            assert len({*split.run_starts[first : first + length]}) == 1


@few
@given(places=gappy_places(), steps=st.integers(1, 20), stride=st.integers(1, 20))
@example(places=ADJOINING, steps=8, stride=4)
def test_windows_cover_every_run_and_never_cross_a_gap_or_a_series(
    folder: Path, places: dict[str, list[int]], steps: int, stride: int
) -> None:
    for split in load_places(folder, places).values():
        keys = keys_of(split)
        found = windows(split, steps, stride)
        assert len(np.unique(found, axis=0)) == len(found), "no window twice"
        covered = set()
        for start, length in found.tolist():
            assert 1 <= length <= steps
            place, hour = keys[start]
            consecutive = [(place, hour + offset) for offset in range(length)]
            assert keys[start : start + length] == consecutive
            covered |= set(consecutive)
        if stride <= steps:  # a longer stride passes over rows
            assert covered == set(keys)


def test_windows_start_every_stride_and_one_ends_with_the_run(folder: Path) -> None:
    # The training split is hours 0 to 49: runs of 20, 3 and 21 with gaps of 5 hours and 1 hour.
    runs = [*range(0, 20), *range(25, 28), *range(29, 101)]
    train = load_places(folder, {"a": runs})["train"]
    assert windows(train, 8, 5).tolist() == [
        [0, 8], [5, 8], [10, 8], [12, 8],  # rows 0 to 19
        [20, 3],  # shorter than a window
        [23, 8], [28, 8], [33, 8], [36, 8],  # rows 23 to 43
    ]  # fmt: skip


def test_batches_hold_the_rows_of_each_window_padded_by_its_length(folder: Path) -> None:
    split = load_places(folder, {"a": [*range(0, 9), *range(12, 60)], "b": range(2, 60)})["train"]
    steps = 12
    places = windows(split, steps, 5)
    assert 0 < (places[:, 1] < steps).sum() < len(places), "whole windows and short ones"
    found = list(Batches(split, places, steps, batch_size=4))
    sizes = [len(batch.targets) for batch in found]
    assert sizes == [4] * (len(places) // 4) + [len(places) % 4]
    sequences = np.concatenate([batch.sequences for batch in found])
    lengths = np.concatenate([batch.lengths for batch in found])
    targets = np.concatenate([batch.targets for batch in found])
    assert (sequences.dtype, lengths.dtype, targets.dtype) == (np.float32, np.int32, np.float32)
    assert sequences.shape == (len(places), steps, 3)
    assert targets.shape == (len(places), steps, 2)
    np.testing.assert_array_equal(lengths, places[:, 1])
    for row, (start, length) in enumerate(places):
        rows = slice(start, start + length)
        np.testing.assert_array_equal(sequences[row, :length], split.features[rows])
        np.testing.assert_array_equal(targets[row, :length], split.targets[rows])
        assert np.isnan(targets[row, length:]).all(), "no target beyond the length"
        # A NaN there would reach the gradient: 0 * NaN is NaN.
        assert np.isfinite(sequences[row, length:, 0]).all()


def test_no_target_is_known_at_the_start_of_a_window_that_burns_in(folder: Path) -> None:
    split = load_places(folder, {"a": range(0, 60)})["train"]
    places = windows(split, 12, 5)
    whole, late = (Batches(split, places, 12, 4, burn_in_steps=steps).batch(0) for steps in (0, 7))
    np.testing.assert_array_equal(late.targets[:, 7:], whole.targets[:, 7:])
    assert np.isnan(late.targets[:, :7]).all()
    np.testing.assert_array_equal(late.sequences, whole.sequences)


def test_a_shuffle_seed_gives_every_window_once_a_pass_in_a_new_order(folder: Path) -> None:
    split = load_places(folder, {"a": range(200)})["train"]
    places = windows(split, 4, 2)

    def orders(seed: int | None) -> list[list[float]]:
        """First temperature, the window's start, of all windows of two passes."""
        batches = Batches(split, places, 4, batch_size=16, seed=seed)
        each = len(batches)
        return [
            [float(first) for n in numbers for first in batches.batch(n).sequences[:, 0, 0]]
            for numbers in (range(each), range(each, 2 * each))
        ]

    first, second = orders(seed=3)
    assert first != second
    assert sorted(first) == sorted(second) == places[:, 0].tolist()
    assert orders(seed=3) == [first, second]
    assert orders(seed=4)[0] != first
    assert orders(seed=None) == [places[:, 0].tolist()] * 2


def test_transforms_are_fitted_on_known_numbers_of_the_training_split(folder: Path) -> None:
    hours = range(101)
    task = make_task(write_table(make_table({"a": hours}), folder / "fit.csv"))
    train = load(task)["train"]
    temp, wind, hour = fit_features(task, train)
    # Hours 0 to 49: temp is the hour; its mean is 24.5 and its variance (50^2 - 1) / 12.
    # Tolerance: sums of 50 float64 numbers.
    assert isinstance(temp.transform, Standardize)
    assert temp.transform.mean == pytest.approx(24.5, rel=1e-12)
    assert temp.transform.std == pytest.approx(np.sqrt(2499 / 12), rel=1e-12)
    known = [h % 5 for h in range(50) if h % 7 != 3]
    assert isinstance(wind.transform, Standardize)
    assert wind.transform.mean == pytest.approx(np.mean(known), rel=1e-12)
    assert (wind.missing, temp.missing) == (True, False)
    assert hour.transform == Cyclic(period=DAY_STEPS)

    change, rain = fit_outputs(task, train)
    # The temperature rises by 1 an hour: a change that never changes is not divided by 0.
    assert change.transform == Change(feature="temp", mean=1.0, std=1.0)
    future = [h for h in range(5, 50) if h % 11 != 10]
    assert isinstance(rain.transform, Standardize)
    assert rain.transform.mean == pytest.approx(np.mean(future), rel=1e-12)
    assert (change.horizon, rain.horizon) == HORIZONS


WIND_ONLY = [
    {"name": "wind", "unit": "m/s", "missing": True},
    {"name": "temp", "unit": "degC"},
]


def fitted(folder: Path, temp: np.ndarray, name: str = "std.parquet") -> tuple[float, ...]:
    """Spreads of a column as a feature, as an output, and of its change from hour to hour."""
    table = make_table({"a": range(len(temp))}).assign(temp=temp, rain=temp)
    features = [{"name": "temp", "unit": ""}]
    task = make_task(write_table(table, folder / name), features=features)
    train = load(task)["train"]
    (feature,), (change, output) = fit_features(task, train), fit_outputs(task, train)
    return tuple(fitted.transform.std for fitted in (feature, output, change))


@few
@given(exponent=st.integers(-30, 30), offset=st.sampled_from([0.0, 1.0, 1000.0]))
def test_a_spread_is_found_at_any_magnitude(folder: Path, exponent: int, offset: float) -> None:
    """Nanoamperes in A, and farads; float32 tells a spread of 1 beside 1000."""
    wave = offset + np.random.default_rng(0).normal(0.0, 1.0, 101)
    plain, scaled = fitted(folder, wave), fitted(folder, wave * 10.0**exponent)
    # The table's float32: 1000 has steps of 6e-5, the spread is about 1.
    np.testing.assert_allclose(np.array(scaled) / 10.0**exponent, plain, rtol=1e-4)


@few
@given(value=st.floats(-1e37, 1e37))
def test_a_column_that_never_changes_is_not_divided_by_its_rounding(
    folder: Path, value: float
) -> None:
    """Of a feature; an output like that is refused."""
    table = make_table({"a": range(101)}).assign(wind=value)
    task = make_task(write_table(table, folder / "same.parquet"), features=WIND_ONLY)
    feature, _ = fit_features(task, load(task)["train"])
    assert feature.transform.std == 1.0


@few
@given(value=st.floats(-1e37, 1e37))
def test_an_output_that_never_changes_in_training_is_refused_with_its_value(
    folder: Path, value: float
) -> None:
    table = make_table({"a": range(101)}).assign(rain=value)
    table.loc[90:, "rain"] = 0.5 * value + 7.0  # later is too late
    task = make_task(write_table(table, folder / "same.parquet"))
    train = load(task)["train"]
    message = (
        f"'rain_5': column 'rain' is {np.float32(value) + 0.0:.7g} in all 50 rows of the training "
    )
    with pytest.raises(DataError, match=re.escape(message)):
        fit_outputs(task, train)


@few
@given(step=st.floats(1e-30, 1e30))
def test_a_steady_rise_is_a_change_that_never_changes(folder: Path, step: float) -> None:
    """In float32 the steps of 0.1 differ; by no more than the rounding of the column itself."""
    assert fitted(folder, step * np.arange(101))[2] == 1.0


def test_a_spread_that_kernels_take_for_zero_is_not_divided_by(folder: Path) -> None:
    """Below 1.2e-38 float32 is denormal: flushed to zero, and 0 / 0 is no number."""
    wave = np.random.default_rng(0).normal(0.0, 1e-40, 101)
    table = make_table({"a": range(101)}).assign(wind=wave, rain=wave)
    task = make_task(write_table(table, folder / "tiny.parquet"), features=WIND_ONLY)
    train = load(task)["train"]
    feature, _ = fit_features(task, train)
    assert feature.transform.std == 1.0
    with pytest.raises(DataError, match="'rain_5': column 'rain' is .* nothing to learn"):
        fit_outputs(task, train)


@pytest.mark.parametrize(
    ("column", "fit", "named"),
    [("wind", fit_features, "column 'wind'"), ("rain", fit_outputs, "output 'rain_5'")],
)
def test_what_has_no_number_in_the_training_split_is_named(
    folder: Path, column: str, fit: Callable[[TaskConfig, Split], object], named: str
) -> None:
    """Its mean would be NaN, and found only when the manifest is written after training."""
    table = make_table({"a": range(101)})
    table.loc[table["time"] < table["time"][60], column] = np.nan
    task = make_task(write_table(table, folder / "nan.csv"))
    train = load(task)["train"]
    with pytest.raises(DataError, match=f"{named} has no number in the training split"):
        fit(task, train)


def test_a_task_without_series_is_one_series(folder: Path) -> None:
    table = make_table({"a": range(60)}).drop(columns="place")
    split = load(make_task(write_table(table, folder / "one.csv"), series=None))["train"]
    assert len(split) == 30
    assert not split.run_starts.any()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_any_resolution_of_time_gives_the_same_split(folder: Path, unit: str) -> None:
    table = make_table({"a": [*range(20), *range(22, 70)]})
    expected = load(make_task(write_table(table, folder / "plain.csv")))["train"]
    table["time"] = table["time"].astype(f"datetime64[{unit}]")
    found = load(make_task(write_table(table, folder / "unit.parquet")))["train"]
    np.testing.assert_array_equal(found.targets, expected.targets)
    np.testing.assert_array_equal(found.run_starts, expected.run_starts)


def test_a_time_step_of_a_fraction_of_a_second_is_no_gap(folder: Path) -> None:
    table = make_table({"a": range(60)})
    table["time"] = pd.Timestamp("2020-01-01") + np.arange(60) * pd.Timedelta(milliseconds=250)
    task = make_task(write_table(table, folder / "fast.csv"), time_step_s=0.25)
    train = load(task)["train"]
    assert not train.run_starts.any()
    np.testing.assert_array_equal(train.targets[:-1, 0], train.features[1:, 0])
