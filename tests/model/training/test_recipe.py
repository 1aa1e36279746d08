"""What follows from how much data there is."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from model.data.dataset import fit_outputs, load
from model.evaluation.evaluation_rows import forecast_rows
from model.train_config import AUTO, Recipe, TrainConfig
from model.training.candidates import candidates, forecast_error
from model.training.recipe import (
    choose_batch,
    choose_recipe,
    choose_updates,
    choose_window,
    past_steps,
)
from tests.model.tables import make_table, make_task, write_table


@pytest.mark.parametrize(
    ("windows", "batch", "updates"),
    [
        (1, 8, 600), (200, 20, 600), (1280, 128, 600), (19_000, 128, 600),
        (200_000, 128, 1510), (2_000_000, 128, 3790),
    ],
)  # fmt: skip
def test_batch_and_updates_follow_from_the_windows(windows: int, batch: int, updates: int) -> None:
    assert (choose_batch(windows), choose_updates(windows)) == (batch, updates)


@pytest.mark.parametrize(
    ("hours", "season", "window"),
    [(3000, 24, 72), (3000, 168, 288), (3000, 4, 24), (300, 24, 57), (120, 24, 27)],
)
def test_a_window_has_three_seasons_but_leaves_rows_to_forecast(
    tmp_path: Path, hours: int, season: int, window: int
) -> None:
    """Of 300 hours, 75 are validation; of the 50 with a day before and a target, a third."""
    path = write_table(make_table({"a": range(hours)}), tmp_path / "table.parquet")
    outputs = [{"name": "temp_1", "unit": "degC", "column": "temp", "horizon": 1}]
    task = make_task(path, outputs=outputs, season_steps=min(season, 24))
    assert choose_window(load(task), season) == pytest.approx(window, abs=0)


def test_a_short_table_has_whole_windows_too(tmp_path: Path) -> None:
    """Of 250 months validation and test have 37 each, a year of which is the horizon."""
    path = write_table(make_table({"a": range(250)}), tmp_path / "table.parquet")
    outputs = [{"name": "temp_12", "unit": "degC", "column": "temp", "horizon": 12}]
    task = make_task(
        path, outputs=outputs, season_steps=12, train_fraction=0.7, validation_fraction=0.15
    )
    assert (past_steps(None, 12), past_steps(None, 168), past_steps(50, 4)) == (36, 288, 50)
    assert choose_window(load(task, past_steps=past_steps(None, 12)), 12) == 36
    assert choose_window(load(task), 12) < 12


def test_what_is_given_stays(tmp_path: Path) -> None:
    path = write_table(make_table({"a": range(300)}), tmp_path / "table.parquet")
    task = make_task(path)
    given = TrainConfig(
        updates=30, batch_size=3, window_steps=5, average_momentum=0.0, layers=("gru:2",), seed=4
    )
    recipe = choose_recipe(given, load(task), 4)
    assert {name: getattr(recipe, name) for name in given.model_fields_set} == {
        name: getattr(given, name) for name in given.model_fields_set
    }
    assert recipe.round_updates == 2
    # What it was made by makes it again.
    assert choose_recipe(TrainConfig.model_validate(recipe.model_dump()), load(task), 4) == recipe
    chosen = choose_recipe(TrainConfig(), load(task), 4)
    # Two rounds of 24 updates.
    assert chosen.average_momentum == pytest.approx(1 - 1 / 48)


RECIPE = Recipe(updates=600, batch_size=128, window_steps=72, average_momentum=0.9, layers=AUTO)


def test_auto_tries_a_linear_start_and_stacks() -> None:
    tried = candidates(RECIPE, np.ones(2, bool), season_steps=24, longest_past=300)
    assert [each.layers for each in tried] == [
        ("rnn:288:relu",), ("lstm:48",), ("lstm:100", "lstm:100", "lstm:100"),
    ]  # fmt: skip
    assert [each.linear_start for each in tried] == [True, False, False]
    # Its register is full where an error counts, and as many time steps count as of the others.
    assert [(each.window_steps, each.burn_in_steps) for each in tried] == [
        (143, 71), (72, 0), (72, 0),
    ]  # fmt: skip
    for each in tried:
        each.layer_configs()


def test_a_linear_start_of_many_inputs_has_a_season_or_what_fits() -> None:
    assert candidates(RECIPE, np.ones(12, bool), 24, 300)[0].layers == ("rnn:576:relu",), "a season"
    assert candidates(RECIPE, np.ones(2, bool), 24, 60)[0].layers == ("rnn:96:relu",)
    assert candidates(RECIPE, np.ones(30, bool), 24, 300)[0].layers == ("rnn:1020:relu",), (
        "17 time steps"
    )
    assert candidates(RECIPE, np.ones(2, bool), 1, 60)[0].layers == ("rnn:240:relu",), "no season"
    assert candidates(RECIPE, np.ones(500, bool), 24, 300)[0].layers == ("lstm:48",)
    calendar = np.array([True, False, False])
    assert candidates(RECIPE, calendar, 24, 300)[0].layers == (f"rnn:{2 * (3 + 71)}:relu",)
    assert candidates(RECIPE, ~np.ones(4, bool), 24, 300)[0].layers == ("lstm:48",)


def test_a_tenth_less_counts_alike_for_every_output(tmp_path: Path) -> None:
    """Of an output that is forecast well too: the mean would not tell these apart."""
    path = write_table(make_table({"a": range(300)}), tmp_path / "table.parquet")
    task = make_task(path)
    splits = load(task)
    outputs = fit_outputs(task, splits["train"])
    truth = splits["validation"].targets[forecast_rows(splits["validation"], 4)]
    spreads = np.array([output.transform.std for output in outputs])
    trainer = mock.Mock(model=mock.Mock(outputs_spec=outputs), recipe=RECIPE)
    found = []
    for errors in ((0.1, 1.0), (0.2, 0.9), (0.0, 0.0)):
        made = truth + np.array(errors) * spreads
        with mock.patch("model.training.candidates.model_forecasts", return_value=made):
            found.append(forecast_error(trainer, splits["validation"], 4))
    # Targets are float32.
    assert found == pytest.approx([0.1**0.5, 0.18**0.5, 1e-6], rel=1e-3)
    trainer.take_best.assert_called()


def test_layers_that_are_named_are_the_only_ones() -> None:
    named = RECIPE.model_copy(update={"layers": ("gru:3",)})
    assert candidates(named, np.ones(2, bool), 24, 300) == (named,)
