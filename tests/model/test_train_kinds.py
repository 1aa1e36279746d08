"""A training on columns of every kind: what it learns from, exports and tells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from app.manifest import Manifest, verified_manifest
from model import train
from model.data import dataset
from model.evaluation.skill import forecast_rows
from model.tasks.task import load_task
from model.training.recipe import past_steps
from tests.model.children import pool, run_command
from tests.model.tables import START, write_table

TASK = """
name = "plant"
description = "A meter."
data = "{data}"
time = "time"
time_step_s = 3600
series = "unit_id"
season_steps = 4
[[features]]
name = "meter"
unit = "kWh"
[[features]]
name = "sky"
kind = "category"
missing = true
[[features]]
name = "open_next"
column = "open"
kind = "flag"
ahead = 1
[[features]]
name = "size"
unit = "MW"
static = true
[[outputs]]
name = "meter_1h"
unit = "kWh"
column = "meter"
horizon = 1
change = true
"""
OPTIONS = (
    "--layers gru:8 --window-steps 6 --batch-size 8 --updates 360 --patience 30 "
    "--learning-rate 0.02"
)
HOURS = 400


def table() -> pd.DataFrame:
    """Of each hour the meter tells 40 where it is open then, else 10; twice that in unit b."""
    random = np.random.default_rng(0)
    units = []
    for place, (name, size) in enumerate({"a": 1.0, "b": 2.0}.items()):
        is_open = random.random(HOURS) < 0.5
        sky = random.choice(["rain", "sun", ""], HOURS)
        meter = 4_512_345_678 + 1000 * place + np.cumsum(size * np.where(is_open, 40, 10))
        times = START + np.arange(HOURS) * pd.Timedelta("1h")
        units.append(
            pd.DataFrame({"unit_id": name, "time": times, "meter": meter.astype(np.int64)}).assign(
                sky=sky, open=np.where(is_open, "yes", "no"), size=size
            )
        )
    return pd.concat(units)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The task's file, and the exported folder."""
    home = tmp_path_factory.mktemp("kinds")
    task = home / "plant.toml"
    task.write_text(TASK.format(data=write_table(table(), home / "plant.csv")))
    # In a process of its own since `run` makes TensorFlow deterministic for good.
    with pool(1) as processes:
        words = ["--task", str(task), "--models-dir", str(home / "models"), *OPTIONS.split()]
        status, _, error = processes.submit(run_command, train.main, words).result()
    assert status == 0, error
    return task, home / "models" / "plant" / "1"


def manifest_of(trained: tuple[Path, Path]) -> Manifest:
    return verified_manifest(trained[1])


def test_what_is_known_beforehand_is_learnt_from(trained: tuple[Path, Path]) -> None:
    """Who does not see it is 15 or 30 off, half of the time each way."""
    errors = manifest_of(trained).metrics["mean_absolute_error"]
    assert errors["model"]["meter_1h"] < 8.0
    assert errors["persistence"]["meter_1h"] > 30.0


def test_what_is_exported_gives_the_error_of_the_card(trained: tuple[Path, Path]) -> None:
    path, folder = trained
    task, manifest = load_task(path), manifest_of(trained)
    steps = manifest.metrics["past_steps"]
    test = dataset.load(task, past_steps=past_steps(steps, task.season_steps))["test"]
    rows = forecast_rows(test, steps)
    past = test.features[rows[:, None] + np.arange(1 - steps, 1)]
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    made = served(sequences=tf.constant(past), lengths=tf.fill([len(rows)], steps))["outputs"]
    base = test.columns.bases["meter"]
    forecast, came = (
        numbers.astype(np.float64) + base
        for numbers in (made[:, -1, 0].numpy(), test.targets[rows, 0])
    )
    error = np.abs(forecast - came).mean()
    told = manifest.metrics["mean_absolute_error"]["model"]["meter_1h"]
    assert error == pytest.approx(told, rel=1e-3)


def test_the_manifest_and_the_card_tell_what_callers_send(trained: tuple[Path, Path]) -> None:
    manifest = manifest_of(trained)
    meter, sky, flag, size = manifest.features
    assert (meter.kind, sky.kind, flag.kind, size.kind) == ("number", "category", "flag", "number")
    assert abs(meter.base - 4_512_350_000) < 20_000
    assert (flag.ahead, size.static) == (1, True)
    row: Any = manifest.example[0]
    assert row[0] > 4.5e9
    assert row[1] in ("rain", "sun", None)
    assert isinstance(row[2], bool)
    card = (trained[1] / "README.md").read_text()
    assert f"number; float32 protocols less {meter.base:.15g} | no |" in card
    assert "text: rain, sun; any other is unknown | yes |" in card
    assert "true or false; the value 1 time step later | no |" in card
    assert "number; the first row's for all of a sequence | no |" in card
    assert json.loads((trained[1] / "manifest.json").read_text())["format"] == "unroll/2"
