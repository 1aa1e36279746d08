"""Linear autoregression: what it finds, with which penalty, and what it does without."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from model.data.dataset import fit_features
from model.evaluation.evaluation_rows import forecast_rows
from model.evaluation.linear_autoregression import LinearAutoregression, linear_windows
from model.evaluation.skill import evaluate
from tests.model.evaluation.splits import LINEAR, METHODS, make_model, make_splits
from tests.model.tables import (
    DAY_STEPS,
)


def test_linear_autoregression_recovers_a_linear_recurrence(folder: Path) -> None:
    """x'' = 2 cos(w) x' - x is a wave; two past values tell every later one.

    The smallest penalty, 1e-6 a row, pulls the weights by about that much: errors around 1e-4 of
    changes of up to 10.
    """
    wave = [0.0, 10 * np.sin(0.7)]
    while len(wave) < 201:
        wave.append(2 * np.cos(0.7) * wave[-1] - wave[-2])
    task, splits = make_splits(folder, np.array(wave))
    linear = LinearAutoregression(fit_features(task, splits["train"]), [2])
    linear.fit(splits["train"], splits["validation"])
    rows = forecast_rows(splits["test"], 2)
    errors = np.abs(linear.predict(splits["test"], rows)[0] - splits["test"].targets[rows])
    assert errors.max() < 1e-3
    assert np.abs(splits["test"].present - splits["test"].targets)[rows].mean() > 3.0
    # One past value is not enough.
    short = LinearAutoregression(fit_features(task, splits["train"]), [1])
    short.fit(splits["train"], splits["validation"])
    errors = np.abs(short.predict(splits["test"], rows) - splits["test"].targets[rows])
    assert errors.mean() > 1.0


def test_linear_autoregression_of_noise_chooses_a_large_penalty(folder: Path) -> None:
    """White noise has nothing to fit beyond the mean; a small penalty would fit the noise."""
    noise = np.random.default_rng(0).normal(0.0, 10.0, 201)
    task, splits = make_splits(folder, noise)
    linear = LinearAutoregression(fit_features(task, splits["train"]), [20])
    linear.fit(splits["train"], splits["validation"])
    assert (linear.penalties >= 1e-2).all()


def test_no_penalty_holds_down_the_intercept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all else pressed to zero, the forecast is the mean change."""
    monkeypatch.setattr("model.evaluation.linear_autoregression.PENALTIES", (1e9,))
    task, splits = make_splits(folder, np.arange(101.0))
    linear = LinearAutoregression(fit_features(task, splits["train"]), [3])
    linear.fit(splits["train"], splits["validation"])
    rows = forecast_rows(splits["test"], 3)
    changes = linear.predict(splits["test"], rows)[0] - splits["test"].present[rows]
    np.testing.assert_allclose(changes, [[1.0, 5.0]] * len(rows), atol=1e-4)  # float32 inputs


def test_a_long_table_is_worked_off_in_parts_with_the_same_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 101))
    rows = forecast_rows(splits["test"], 3)

    def forecasts() -> np.ndarray:
        linear = LinearAutoregression(fit_features(task, splits["train"]), [3])
        linear.fit(splits["train"], splits["validation"])
        return linear.predict(splits["test"], rows)[0]

    whole = forecasts()
    monkeypatch.setattr("model.evaluation.linear_autoregression.ROWS_AT_ONCE", 4)
    assert len(rows) % 4, "the last part is a short one"
    # float64 sums in another order.
    np.testing.assert_allclose(forecasts(), whole, rtol=1e-9)


def test_the_last_day_alone_is_a_baseline_where_the_window_is_longer(folder: Path) -> None:
    """As good as a linear autoregression of that window, but for its few more rows."""
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 101))
    model, test = make_model(task, splits), splits["test"]
    name = "linear autoregression, last season"
    assert name not in evaluate(model, splits, DAY_STEPS, season_steps=DAY_STEPS).test.errors
    skill = evaluate(model, splits, 7, season_steps=DAY_STEPS)
    linear = LinearAutoregression(model.features, [DAY_STEPS])
    linear.fit(splits["train"], splits["validation"])
    rows = forecast_rows(test, 7)
    assert skill.test.num_forecasts == len(rows)
    expected = np.abs(linear.predict(test, rows)[0] - test.targets[rows]).mean(axis=0)
    np.testing.assert_allclose(skill.test.errors[name], expected, rtol=0.05)
    assert np.all(skill.test.errors[name] != skill.test.errors["linear autoregression"])


@pytest.mark.parametrize(
    ("width", "steps", "season_steps", "expected"),
    [
        (13, 72, 24, {LINEAR: 72, f"{LINEAR}, last season": 24}),  # the default
        (13, 72, 72, {LINEAR: 72}),
        (13, 315, 400, {LINEAR: 315}),  # 4,096 columns
        (13, 316, 24, {f"{LINEAR}, last 315 of 316 time steps": 315, f"{LINEAR}, last season": 24}),
        (13, 2000, 1440, {f"{LINEAR}, last 315 of 2000 time steps": 315}),
        (4095, 2, 1, {f"{LINEAR}, last 1 of 2 time steps": 1}),
        (4096, 2, 1, {}),
    ],
)
def test_a_linear_autoregression_sees_what_fits_into_memory(
    width: int, steps: int, season_steps: int, expected: dict[str, int]
) -> None:
    windows, notes = linear_windows(width, steps, season_steps)
    assert windows == expected
    assert all(past * width + 1 <= 4096 for past in windows.values())
    assert len(notes) == (LINEAR not in windows)
    for note in notes:
        assert f"{steps * width + 1:,} columns, more than 4,096" in note


def test_a_window_too_long_for_a_linear_autoregression_is_cut_and_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are still those with the whole window, as of all methods."""
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 101))
    model, test = make_model(task, splits), splits["test"]
    monkeypatch.setattr(
        "model.evaluation.linear_autoregression.MOST_COLUMNS", 18
    )  # of 5 a time step
    skill = evaluate(model, splits, 7, season_steps=DAY_STEPS)
    name = f"{LINEAR}, last 3 of 7 time steps"
    assert list(skill.test.errors) == [*METHODS[:3], name]
    assert skill.notes == (
        f"{LINEAR} of 7 time steps would have 36 columns, more than 18: it sees the last 3 only",
    )
    linear = LinearAutoregression(model.features, [3])
    linear.fit(splits["train"], splits["validation"])
    rows = forecast_rows(test, 7)
    expected = np.abs(linear.predict(test, rows)[0] - test.targets[rows]).mean(axis=0)
    np.testing.assert_allclose(skill.test.errors[name], expected, rtol=1e-9)
    monkeypatch.setattr("model.evaluation.linear_autoregression.MOST_COLUMNS", 5)
    skill = evaluate(model, splits, 7, season_steps=DAY_STEPS)
    assert list(skill.test.errors) == METHODS[:3]
    assert skill.notes[0].endswith("it is left out")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "no memory is left"),
        (np.linalg.LinAlgError("Singular matrix"), "Singular matrix"),
    ],
)
def test_a_baseline_that_fails_costs_no_trained_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    task, splits = make_splits(folder, np.arange(101.0))
    monkeypatch.setattr(np.linalg, "solve", fail)
    skill = evaluate(make_model(task, splits), splits, steps=3, season_steps=24)
    assert list(skill.test.errors) == METHODS[:3]
    assert skill.notes == (f"{LINEAR} is left out: {reason}",)


def test_a_linear_autoregression_keeps_its_matrix_twice_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum and what is added to it; LAPACK's own copy replaces the latter (it is not traced)."""
    monkeypatch.setattr("model.evaluation.linear_autoregression.PENALTIES", (1.0,))
    task, splits = make_splits(folder, np.random.default_rng(0).normal(10.0, 5.0, 1400))
    linear = LinearAutoregression(fit_features(task, splits["train"]), [300])
    tracemalloc.start()
    try:
        linear.fit(splits["train"], splits["validation"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    matrix = 8 * (5 * 300 + 1) ** 2
    assert peak < 2.9 * matrix, "the rest is the design of some 400 rows, a quarter of it"
