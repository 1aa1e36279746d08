"""The simple forecasts against errors worked out by hand, and which rows are forecast at all."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from model.data.cells import DataError
from model.data.dataset import Split, load
from model.evaluation.evaluation_rows import check_forecastable, forecast_rows
from model.evaluation.linear_autoregression import LinearAutoregression
from model.evaluation.skill import (
    Comparison,
    Skill,
    SplitSkill,
    evaluate,
    evaluated_rows,
    model_forecasts,
)
from model.evaluation.tables import ADVICE, comparison_table, readable, skill_table, verdicts
from model.tasks.task import TaskConfig
from tests.model.evaluation.splits import LINEAR, METHODS, OUTPUTS, make_model, make_splits
from tests.model.tables import (
    ADJOINING,
    DAY_STEPS,
    gappy_places,
    hours_of,
    make_table,
    make_task,
    write_table,
)


def test_errors_on_a_steady_rise_are_the_hours_between(folder: Path) -> None:
    """1 degree an hour: persistence is wrong by the horizon; yesterday's value, by whole days.

    5 hours are more than a day: the last known value at that time of day is 2 days before.
    """
    task, splits = make_splits(folder, np.arange(101.0))
    skill = evaluate(make_model(task, splits), splits, steps=3, season_steps=24)
    assert list(skill.test.errors) == METHODS
    # Hours 80 to 100 are the test split. From 83 on yesterday is within it; up to 95 so is 5 ahead.
    assert skill.test.num_forecasts == len(range(83, 96))
    np.testing.assert_array_equal(skill.test.errors["persistence"], [1.0, 5.0])
    np.testing.assert_array_equal(skill.test.errors["same time last season"], [4.0, 8.0])
    # A constant change is the intercept, which no penalty holds down: float32 is what is left.
    np.testing.assert_allclose(skill.test.errors["linear autoregression"], 0.0, atol=1e-4)


def test_errors_on_a_day_that_repeats_are_the_differences_within_it(folder: Path) -> None:
    """0, 3, 1, 8 degrees: an hour ahead differs by 3, 2, 7 and 8, and so do 5 hours ahead."""
    task, splits = make_splits(folder, np.tile([0.0, 3.0, 1.0, 8.0], 26)[:101])
    skill = evaluate(make_model(task, splits), splits, steps=3, season_steps=24)
    # From hours 83 to 95 of the test split: three days and the hour 83, whose 8 becomes a 0.
    expected = (3 * (3 + 2 + 7 + 8) + 8) / 13
    np.testing.assert_allclose(skill.test.errors["persistence"], expected, rtol=1e-12)
    np.testing.assert_array_equal(skill.test.errors["same time last season"], [0.0, 0.0])


def test_the_model_forecasts_as_many_windows_at_once_as_it_was_trained_on(
    folder: Path,
) -> None:
    """More might not fit into memory, and all of the training would be lost."""
    task, splits = make_splits(folder, np.arange(101.0))
    sizes: list[int] = []
    rows = forecast_rows(splits["test"], 3)
    model_forecasts(make_model(task, splits), splits["test"], rows, 3, 5, sizes.append)
    assert sizes == [5] * (len(rows) // 5) + [len(rows) % 5]


@pytest.mark.parametrize("steps", [1, 4])
def test_no_forecast_sees_beyond_its_past_window(folder: Path, steps: int) -> None:
    """What comes later, and what was before the window, may be anything."""
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 101))
    model, test = make_model(task, splits), splits["test"]
    linear = LinearAutoregression(model.features, [steps])
    linear.fit(splits["train"], splits["validation"])
    rows = forecast_rows(test, steps)[3:4]
    seen = slice(rows[0] - steps + 1, rows[0] + 1)
    features = np.full_like(test.features, 1e6)
    features[seen] = test.features[seen]
    changed = dataclasses.replace(test, features=features)
    np.testing.assert_array_equal(linear.predict(changed, rows), linear.predict(test, rows))
    np.testing.assert_array_equal(
        model_forecasts(model, changed, rows, steps), model_forecasts(model, test, rows, steps)
    )


@settings(max_examples=25)  # each example writes a file and reads it
@given(places=gappy_places(), steps=st.integers(1, 12))
@example(places=ADJOINING, steps=3)
def test_forecast_rows_are_those_with_a_whole_past_and_a_known_future(
    folder: Path, places: dict[str, list[int]], steps: int
) -> None:
    """No row whose past crosses a gap, a series or the start of the split; and all others."""
    path = write_table(make_table(places), folder / "gaps.csv")
    try:
        splits = load(make_task(path))
    except DataError:  # the gaps leave a split empty
        reject()
    for split in splits.values():
        keys = list(zip(split.series.tolist(), hours_of(split.times), strict=True))
        known = set(keys)
        rain = {key for key in keys if key[1] % 11 != 10}  # as `make_table` has it
        expected = [
            row
            for row, (place, hour) in enumerate(keys)
            if {(place, hour - back) for back in range(steps)} <= known
            # temp_1: the target, and a day of 4 hours before it; rain_5: the target alone, since
            # rain is no feature
            and {(place, hour + 1), (place, hour - 3)} <= known
            and (place, hour + 5) in rain
        ]
        assert forecast_rows(split, steps).tolist() == expected


def test_an_output_of_a_column_missing_at_times_can_be_evaluated(folder: Path) -> None:
    """Where the present value is missing, persistence has no forecast: no method is judged."""
    table = write_table(make_table({"a": range(161)}), folder / "missing.csv")
    outputs = [{"name": "wind_5", "unit": "m/s", "column": "wind", "horizon": 5}]
    task = make_task(table, outputs=outputs)
    splits = load(task)
    skill = evaluate(make_model(task, splits), splits, steps=3, season_steps=24)
    assert skill.test.num_forecasts > 10
    for errors in skill.test.errors.values():
        assert np.isfinite(errors).all()


@pytest.mark.parametrize(
    ("gap_starts", "name"), [(range(0, 50, 5), "train"), (range(56, 75, 5), "validation")]
)
def test_a_split_without_a_row_to_forecast_is_named(
    folder: Path, gap_starts: range, name: str
) -> None:
    """A gap every 5 hours leaves no past of 5 in the split."""
    table = make_table({"a": [hour for hour in range(101) if hour not in gap_starts]})
    task = make_task(write_table(table, folder / "holes.csv"), outputs=OUTPUTS)
    splits = load(task)
    with pytest.raises(ValueError, match=f"the {name} split has no run of 5 time steps"):
        evaluate(make_model(task, splits), splits, steps=5, season_steps=24)


def test_what_is_wanting_for_a_forecast_is_named(folder: Path) -> None:
    """The longest run; a day longer than the split; or targets."""
    gaps = make_table({"a": [hour for hour in range(101) if hour % 5]})
    splits = load(make_task(write_table(gaps, folder / "gaps.csv")))
    with pytest.raises(ValueError, match="train split .* its longest run without a gap has 4 "):
        check_forecastable(splits, 5, DAY_STEPS)
    holes = make_table({"a": range(101)})
    holes.loc[holes.index % 5 == 0, "temp"] = np.nan
    splits = load(make_task(write_table(holes, folder / "numberless.csv")))
    message = r"has 4 .* \(21 of 101 rows left out: temp has no number in 21\)$"
    with pytest.raises(ValueError, match=message):
        check_forecastable(splits, 5, DAY_STEPS)
    short = write_table(make_table({"a": range(101)}), folder / "short.csv")
    splits = load(make_task(short, outputs=OUTPUTS, season_steps=24))
    with pytest.raises(ValueError, match="validation split .* season_steps = 24 time steps"):
        check_forecastable(splits, 3, 24)
    check_forecastable(load(make_task(short, outputs=OUTPUTS)), 3, DAY_STEPS)
    # 20 hours of validation, of whose last 5 the future is not known.
    with pytest.raises(
        ValueError, match=r"run of 20 .* has 20 time steps, but .* --window-steps to 15\b"
    ):
        check_forecastable(load(make_task(short, outputs=OUTPUTS)), 20, DAY_STEPS)


def test_model_forecasts_are_the_last_output_of_each_past_window_alone(folder: Path) -> None:
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 101))
    model, test = make_model(task, splits), splits["test"]
    rows = forecast_rows(test, 4)
    found = model_forecasts(model, test, rows, 4, batch_size=5)
    assert found.shape == (13, 2)
    for made, row in zip(found, rows, strict=True):
        past = tf.constant(test.features[row - 3 : row + 1][np.newaxis])
        outputs, _ = model.predict_sequences(past, tf.constant([4]))
        # float32 sums in another order for another batch size.
        np.testing.assert_allclose(made, outputs[0, -1], rtol=1e-5, atol=1e-5)


RAIN = {"name": "rain", "unit": "mm", "column": "rain", "horizon": 0}


def rain_splits(folder: Path, *outputs: dict[str, object]) -> tuple[TaskConfig, dict[str, Split]]:
    """Rain that nothing tells: no feature has to do with it."""
    table = make_table({"a": range(401)})
    table["temp"], table["rain"] = np.random.default_rng(0).normal(10.0, 5.0, (2, 401))
    path = write_table(table, folder / "rain.parquet")
    task = make_task(path, outputs=list(outputs))
    return task, load(task)


def test_no_baseline_knows_a_column_that_the_model_does_not(folder: Path) -> None:
    """Of a nowcast, persistence and the linear autoregression had an error of 0.00."""
    task, splits = rain_splits(folder, RAIN)
    skill = evaluate(make_model(task, splits), splits, steps=3, season_steps=24)
    assert list(skill.test.errors) == ["model", LINEAR]
    # The mean absolute value of a normal distribution is 0.8 of its standard deviation.
    assert 3.0 < skill.test.errors[LINEAR][0] < 5.0
    (note,) = skill.notes
    assert note.startswith("The column of rain is no feature: ")
    assert skill.test.num_forecasts == len(splits["test"]) - 2, "no day before is needed"


def test_a_baseline_has_no_error_of_an_output_that_it_cannot_forecast(folder: Path) -> None:
    task, splits = rain_splits(folder, OUTPUTS[0], RAIN)
    skill = evaluate(make_model(task, splits), splits, steps=3, season_steps=24)
    assert list(skill.test.errors) == METHODS
    for name, errors in skill.test.errors.items():
        assert np.isfinite(errors).tolist() == [True, name in ("model", LINEAR)]
    lines = skill_table(skill.test, ["temp_1", "rain"], "").splitlines()
    assert lines[0] == "| mean absolute error | temp_1 | rain |", "no brackets around nothing"
    assert [line.endswith(" | - |") for line in lines[2:]] == [False, True, True, False]


def test_skill_table_is_markdown_with_a_row_a_method() -> None:
    errors = {"model": np.array([0.5, 1.234]), "persistence": np.array([10.0, 2.0])}
    table = skill_table(SplitSkill(errors, 1, {}), ["t_1", "t_5"], "degC")
    assert table.splitlines() == [
        "| mean absolute error (degC) | t_1 | t_5 |",
        "|---|---:|---:|",
        "| model | 0.50 | 1.23 |",
        "| persistence | 10.00 | 2.00 |",
    ]


def compared(*numbers: tuple[float, float, float]) -> Comparison:
    """Of outputs: the difference and the ends of its interval."""
    difference, low, high = np.array(numbers).T
    return Comparison(difference, np.array([low, high]))


NAN = float("nan")


def test_an_output_that_is_not_surely_better_is_told_in_one_line() -> None:
    """Better on both splits; better on one only; perhaps; too short to tell; nothing to compare."""
    names = ["a", "b", "c", "d", "e"]
    better, perhaps = (-0.1, -0.2, -0.05), (-0.01, -0.03, 0.02)
    worse, untold, absent = (0.2, 0.1, 0.3), (-0.1, NAN, NAN), (NAN, NAN, NAN)
    skill = Skill(
        validation=SplitSkill({}, 1, {"naive": compared(better, better, perhaps, untold, absent)}),
        test=SplitSkill({}, 1, {"naive": compared(better, worse, perhaps, untold, absent)}),
    )
    assert verdicts(skill, names) == [
        "b: the model is not surely better than naive (test +20.0 %)",
        "c: the model is not surely better than naive (validation -1.0 %, test -1.0 %)",
        ADVICE,
    ]
    assert verdicts(Skill(skill.validation, skill.validation), names[:2]) == []
    assert comparison_table(skill, names).splitlines()[2:] == [
        "| naive, validation | -10.0 % (-20.0 to -5.0) | -10.0 % (-20.0 to -5.0) "
        "| -1.0 % (-3.0 to +2.0) | -10.0 % | - |",
        "| naive, test | -10.0 % (-20.0 to -5.0) | +20.0 % (+10.0 to +30.0) "
        "| -1.0 % (-3.0 to +2.0) | -10.0 % | - |",
    ]


def test_a_long_split_is_judged_at_rows_that_lie_evenly(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 201))
    model = make_model(task, splits)
    monkeypatch.setattr("model.evaluation.skill.MOST_FORECASTS", 7)
    monkeypatch.setattr("model.evaluation.skill.MOST_ROWS", 11)
    monkeypatch.setattr("model.evaluation.linear_autoregression.MOST_ROWS", 11)
    done: list[int] = []
    skill = evaluate(model, splits, 3, season_steps=DAY_STEPS, batch_size=2, advance=done.append)
    assert (skill.validation.num_forecasts, skill.test.num_forecasts) == (7, 7)
    assert sum(done) == evaluated_rows(splits, 3) == 11 + 11 + 7 + 7
    rows = forecast_rows(splits["test"], 3)
    chosen = rows[np.linspace(0, len(rows) - 1, 7).round().astype(int)]
    away = splits["test"].present[chosen] - splits["test"].targets[chosen].astype(np.float64)
    expected = np.abs(away).mean(axis=0)
    np.testing.assert_allclose(skill.test.errors["persistence"], expected)


def test_the_model_is_compared_with_each_baseline_on_both_splits(folder: Path) -> None:
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 401))
    skill = evaluate(make_model(task, splits), splits, 3, season_steps=DAY_STEPS)
    for split in (skill.validation, skill.test):
        assert list(split.comparisons) == list(split.errors)[1:]
        for method, comparison in split.comparisons.items():
            expected = split.errors["model"] / split.errors[method] - 1
            np.testing.assert_allclose(comparison.difference, expected)
            low, high = comparison.interval
            assert (low < comparison.difference).all()
            assert (comparison.difference < high).all()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (6.721, "6.72"), (0.1, "0.10"), (0.0, "0.00"), (0.0512, "0.0512"),
        (1.2345e-5, "1.23e-05"), (3e-12, "3e-12"), (123456.789, "123456.79"),
        (float("inf"), "inf"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_an_error_can_be_read_at_any_magnitude(error: float, text: str) -> None:
    assert readable(error) == text
