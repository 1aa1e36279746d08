"""A relu layer that begins as the linear autoregression: its very forecasts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.dataset import Split, fit_features, fit_outputs, load
from model.evaluation.evaluation_rows import forecast_rows
from model.evaluation.linear_autoregression import LinearAutoregression
from model.evaluation.skill import model_forecasts
from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig
from model.tasks.task import TaskConfig
from model.training.linear_start import begin_linear, lagged_inputs, register_units
from tests.model.tables import make_table, make_task, write_table

STEPS = 5
OUTPUTS = [
    {"name": "change", "unit": "degC", "column": "temp", "horizon": 1, "change": True},
    {"name": "level", "unit": "degC", "column": "temp", "horizon": 3},
    {"name": "rain", "unit": "mm", "column": "rain", "horizon": 1},
]


def make_data(folder: Path, **changes: Any) -> tuple[TaskConfig, dict[str, Split]]:
    """A wave with noise, a flag, an angle, and a column that no feature tells."""
    table = make_table({"a": range(400)})
    random = np.random.default_rng(0)
    table["temp"] = 20 + 10 * np.sin(np.arange(400) / 3) + random.normal(size=400)
    table["rain"] = random.normal(size=400)
    task = make_task(write_table(table, folder / "table.parquet"), outputs=OUTPUTS, **changes)
    return task, load(task)


def make_model(
    task: TaskConfig, splits: dict[str, Split], layers: tuple[str, ...]
) -> SequenceModel:
    features, outputs = fit_features(task, splits["train"]), fit_outputs(task, splits["train"])
    config = RNNConfig(
        layers=tuple(map(LayerConfig.parse, layers)),
        num_inputs=sum(feature.num_inputs for feature in features),
        num_outputs=len(outputs),
    )
    return SequenceModel(config, features, outputs)


def test_it_forecasts_as_the_linear_autoregression(tmp_path: Path) -> None:
    """Changes, levels, and columns whose past is unknown; of the window and with more before it."""
    task, splits = make_data(tmp_path)
    model = make_model(task, splits, (f"rnn:{2 * 5 * STEPS}:relu",))
    errors = begin_linear(model, splits, lagged_inputs(task, model.features))
    test, validation = splits["test"], splits["validation"]
    linear = LinearAutoregression(model.features, [STEPS])
    linear.fit(splits["train"], validation)
    rows = forecast_rows(validation, STEPS)
    made = model_forecasts(model, validation, rows, STEPS)
    np.testing.assert_allclose(
        errors, np.abs(made - validation.targets[rows]).mean(axis=0), rtol=1e-3
    )
    rows = forecast_rows(test, 12)
    expected = linear.predict(test, rows)[0]
    for steps in (STEPS, 12):
        found = model_forecasts(model, test, rows, steps)
        # float32, in spreads of 7 and of 1.
        np.testing.assert_allclose(found[:, [0, 2]], expected[:, [0, 2]], atol=1e-4)
        # Of a level the penalty pulls another number: as good a forecast, but another one.
        ours, theirs = (np.abs(each[:, 1] - test.targets[rows, 1]) for each in (found, expected))
        assert ours.mean() < 1.1 * theirs.mean()


def test_of_what_moves_on_evenly_it_keeps_the_newest_time_step(tmp_path: Path) -> None:
    """It forecasts as well as the linear autoregression that sees it of all time steps. The day of
    the week jumps."""
    hour = {"name": "hour", "unit": "h", "kind": "cyclic", "period": 24, "calendar": "hour_of_day"}
    week = {"name": "day", "unit": "d", "kind": "cyclic", "period": 7, "calendar": "day_of_week"}
    temp = {"name": "temp", "unit": "degC"}
    task, splits = make_data(tmp_path, features=[hour, week, temp])
    features = fit_features(task, splits["train"])
    lagged = lagged_inputs(task, features)
    assert lagged.tolist() == [False, False, True, True, True]
    model = make_model(task, splits, (f"rnn:{register_units(lagged, STEPS)}:relu",))
    assert model.config.layers[0].units == 2 * (5 + 3 * (STEPS - 1))
    begin_linear(model, splits, lagged)
    test = splits["test"]
    rows = forecast_rows(test, 12)
    narrow, full = (
        LinearAutoregression(features, [STEPS], which) for which in (lagged, np.ones(5, bool))
    )
    for each in (narrow, full):
        each.fit(splits["train"], splits["validation"])
    found = model_forecasts(model, test, rows, 12)
    expected = narrow.predict(test, rows)[0]
    np.testing.assert_allclose(found[:, [0, 2]], expected[:, [0, 2]], atol=1e-4)
    errors = [
        np.abs(each[:, 0] - test.targets[rows, 0]).mean()
        for each in (expected, full.predict(test, rows)[0])
    ]
    assert errors[0] < 1.02 * errors[1]


def test_it_begins_as_if_all_before_had_been_the_mean(tmp_path: Path) -> None:
    task, splits = make_data(tmp_path)
    model = make_model(task, splits, (f"rnn:{2 * 5 * STEPS}:relu",))
    begin_linear(model, splits, lagged_inputs(task, model.features))
    rows = forecast_rows(splits["test"], 1)
    found = model_forecasts(model, splits["test"], rows, 1)
    assert np.abs(found[:, 1] - splits["test"].targets[rows, 1]).mean() < 12.0


@pytest.mark.parametrize(
    "layers", [("rnn:10",), ("gru:10",), ("rnn:10:relu", "rnn:10:relu"), ("rnn:15:relu",)]
)
def test_other_layers_are_refused(tmp_path: Path, layers: tuple[str, ...]) -> None:
    task, splits = make_data(tmp_path)
    model = make_model(task, splits, layers)
    with pytest.raises(ValueError, match="one layer rnn:UNITS:relu, with UNITS 10 "):
        begin_linear(model, splits, lagged_inputs(task, model.features))
