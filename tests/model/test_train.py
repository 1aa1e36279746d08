"""Training as a whole, on a small table: what it prints, exports and repeats bit by bit."""

import json
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from app.manifest import verified_manifest
from model import train
from model.data import dataset
from model.evaluation import linear_autoregression
from model.tasks.task import load_task
from model.train_config import TrainConfig
from tests.model.children import pool, run_command
from tests.model.toy_training import arguments, weights, write_task

SEEDS = {"one": 0, "same": 0, "other": 1}


@pytest.fixture(scope="module")
def printed(task: Path, toy_models: Path) -> str:
    """Trains once for each of `SEEDS`, each in a process of its own; returns what the first said.

    In a process of its own since `run` makes TensorFlow deterministic for good.
    """
    with pool(2) as processes:
        runs = [
            processes.submit(
                run_command, train.main, arguments(task, toy_models, name=[name], seed=[seed])
            )
            for name, seed in SEEDS.items()
        ]
        status, out, err = zip(*(run.result() for run in runs), strict=True)
    assert status == (0, 0, 0), err
    return out[0]


@pytest.mark.usefixtures("printed")
def test_equal_seeds_give_equal_weights_bit_by_bit(toy_models: Path) -> None:
    """With dropout, noise and shuffling, in two processes."""
    one, same = weights(toy_models / "one" / "1"), weights(toy_models / "same" / "1")
    assert len(one) == 3 + 2
    assert one == same


@pytest.mark.usefixtures("printed")
def test_another_seed_gives_other_weights(toy_models: Path) -> None:
    one, other = weights(toy_models / "one" / "1"), weights(toy_models / "other" / "1")
    assert one.keys() == other.keys()
    # Not biases: all begin at zero, and the first updates of AdamW are of one size.
    assert not [name for name in one if "kernel" in name and one[name] == other[name]]


def test_the_skill_table_is_printed(printed: str, toy_models: Path) -> None:
    manifest = json.loads((toy_models / "one" / "1" / "manifest.json").read_text())
    errors = manifest["metrics"]["mean_absolute_error"]
    lines = [
        "| mean absolute error (degC) | temp_1 | temp_5 |",
        "|---|---:|---:|",
        *(f"| {name} | {e['temp_1']:.2f} | {e['temp_5']:.2f} |" for name, e in errors.items()),
    ]
    # The manifest keeps five digits: where it ends in a 5, the table may round another way.
    assert [line for line in lines if line in printed] == lines
    assert f"Exported to {toy_models / 'one' / '1'} after" in printed


@pytest.mark.usefixtures("printed")
def test_the_manifest_has_metrics_example_and_training(task: Path, toy_models: Path) -> None:
    folder = toy_models / "one" / "1"
    manifest = verified_manifest(folder)
    assert (manifest.name, manifest.description) == ("one", "A toy.")
    assert manifest.metrics["split"] == "test"
    assert manifest.metrics["past_steps"] == 8
    # 15% of 300 hours, less the gap of 5 and the future of 5, at two places.
    assert 0 < manifest.metrics["forecasts"] < 2 * 45
    errors = manifest.metrics["mean_absolute_error"]
    assert list(errors) == [
        "model", "persistence", "same time last season", "linear autoregression",
        "linear autoregression, last season",  # 4 hours of the window of 8
    ]  # fmt: skip
    assert all(set(error) == {"temp_1", "temp_5"} for error in errors.values())

    splits = dataset.load(load_task(task))
    shown = np.array(manifest.example, np.float32)
    np.testing.assert_array_equal(shown, splits["test"].features[:3])

    raw = json.loads((folder / "manifest.json").read_text())
    assert raw["time_step_s"] == 3600
    training = raw["training"]
    assert training["updates"] == 40
    # Rounds of two updates. A pass has 25 batches: windows of 8 in runs of 210, 100 and 100 hours.
    assert training["history"]["update"] == list(range(2, 41, 2))
    assert len(training["history"]["loss"]) == len(training["history"]["val_loss"]) == 20
    assert training["epochs"] == pytest.approx(40 / 25, abs=0.01)
    config = TrainConfig.model_validate(training["config"])
    assert config.layers == ("gru:4",)
    assert config.output_keep_prob == (0.8,)


@pytest.mark.usefixtures("printed")
def test_the_model_card_shows_skill_and_pictures(toy_models: Path) -> None:
    folder = toy_models / "one" / "1"
    card = (folder / "README.md").read_text()
    assert card.startswith("# one, version 1\n")
    for part in ("A toy.", "Made up.", "Network: gru 4,", "| linear autoregression |", "| wind |"):
        assert part in card
    pictures = re.findall(r"\]\((.+?\.png)\)", card)
    assert sorted(pictures) == ["forecast.png", "learning_curve.png"]
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def few_columns(arguments: list[str]) -> tuple[int, str, str]:
    """The command, where a linear autoregression has room for few columns."""
    with mock.patch.object(linear_autoregression, "MOST_COLUMNS", 10):
        return run_command(train.main, arguments)


def test_small_numbers_and_a_long_window_end_with_errors_that_can_be_read(tmp_path: Path) -> None:
    """Temperatures of nanodegrees, and a baseline that sees 3 time steps of 8, and says so."""
    path = write_task(tmp_path)
    table = pd.read_csv(tmp_path / "toy.csv")
    table.assign(temp=table["temp"] * 1e-9).to_csv(tmp_path / "toy.csv", index=False)
    with pool(1) as processes:
        command = processes.submit(few_columns, arguments(path, tmp_path / "models"))
        status, out, err = command.result()
    assert status == 0, err
    folder = tmp_path / "models" / "toy" / "1"
    card = (folder / "README.md").read_text()
    name = "linear autoregression, last 3 of 8 time steps"
    errors = verified_manifest(folder).metrics["mean_absolute_error"]
    assert list(errors)[3:] == [name]
    assert 1e-10 < errors["model"]["temp_1"] < 2e-8
    # As good as the wave is steep; a column taken for constant would not be learnt at all.
    assert errors[name]["temp_1"] < errors["persistence"]["temp_1"]
    for text in (out, card):
        assert f"| {name} | {errors[name]['temp_1']:.3g} |" in text
        assert "would have 25 columns, more than 10: it sees the last 3 only" in text


@pytest.mark.usefixtures("printed")
def test_the_artifact_keeps_its_task(task: Path, toy_models: Path) -> None:
    """One training again from it needs no other file."""
    assert load_task(toy_models / "one" / "1" / "task.toml") == load_task(task)


def test_a_table_is_trained_on_without_a_task_file(task: Path, tmp_path: Path) -> None:
    options = arguments(task, tmp_path)[2:]  # all but the task
    options += ["--data", str(task.with_name("toy.csv")), "--target", "temp"]
    with pool(1) as processes:
        status, out, err = processes.submit(run_command, train.main, options).result()
    assert (status, err) == (0, "")
    kept = load_task(tmp_path / "toy" / "1" / "task.toml")
    assert (kept.time, kept.series, kept.time_step_s) == ("time", "place", 3600)
    assert [output.name for output in kept.outputs] == ["temp_1"]
    assert [output.name for output in verified_manifest(tmp_path / "toy" / "1").outputs] == [
        "temp_1"
    ]
    assert "| same time last season | " in out
