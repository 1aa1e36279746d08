"""`python -m model.train`: its options, its refusals, its exit status."""

import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from model import run, train
from model.data.draft import task_of
from model.tasks.task import load_task
from model.train_arguments import Command, parse_arguments
from model.train_config import AUTO, TrainConfig, flag_of
from model.training.trainer import Diverged
from tests.model.children import pool, run_command

WEATHER = Path(__file__).parents[2] / "model" / "tasks" / "weather.toml"


def test_without_arguments_every_field_has_its_default() -> None:
    assert parse_arguments([]) == Command(TrainConfig())


def test_every_kind_of_option_is_read() -> None:
    command = parse_arguments(
        [
            "--layers", "gru:8", "rnn:4:relu", "--input-keep-prob", "0.5", "1", "--updates", "3",
            "--learning-rate", "1e-2", "--name", "tiny", "--variational-dropout",
            "--models-dir", "elsewhere", "--only-if-missing", "--devices", "cpu:0", "cpu:1",
            "--logical-devices", "2", "--chunk-steps", "8", "--replicas", "2",
        ]
    )  # fmt: skip
    assert command.config == TrainConfig(
        layers=("gru:8", "rnn:4:relu"), input_keep_prob=(0.5, 1.0), updates=3, learning_rate=0.01,
        name="tiny", variational_dropout=True, models_dir=Path("elsewhere"),
        devices=("cpu:0", "cpu:1"), logical_devices=2, chunk_steps=8, replicas=2,
    )  # fmt: skip
    assert command.only_if_missing
    assert not command.explain_placement
    config = parse_arguments(["--no-variational-dropout"]).config
    assert not config.variational_dropout


def test_help_names_every_field_with_its_meaning_and_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # no line is wrapped
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out.split("options:")[1]
    for name, field in TrainConfig.model_fields.items():
        default = field.default
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        flag = re.escape(flag_of(name))
        # Where there is no default of its own, the description says what it is instead.
        chosen = default in (None, ()) or "; default: " in str(field.description)
        known = "" if chosen else f" (default: {shown})"
        meaning = re.escape(f"{field.description}{known}")
        # A long option stands on a line of its own, above its meaning.
        line = rf"^  {flag}\b[^\n]*(\n   )? +{meaning}$"
        assert re.search(line, text, re.MULTILINE), f"{name}\n{text}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--layers", "cnn:8"], "--layers: layer 'cnn:8': cell: "),
        (["--layers", "gru:4", "lstm"], "--layers: layer 'lstm' is not of the form"),
        (["--layers", "gru:4:relu"], "--layers: layer 'gru:4:relu': "),
        (["--layers", "lstm:0"], "--layers: layer 'lstm:0': units: "),
        (["--layers", *["rnn:1"] * 65], "--layers: "),
        (["--input-keep-prob", "0"], "--input-keep-prob: "),
        (["--state-keep-prob", "0.5", "1.5"], "--state-keep-prob: "),
        (["--output-keep-prob", "0.5", "0.5"], "output_keep_prob has 2 values; give one, or one "),
        (["--updates", "0"], "--updates: "),
        (["--window-steps", "1"], "--window-steps: "),
        (["--learning-rate", "-1"], "--learning-rate: "),
        (["--learning-rate", "fast"], "--learning-rate: "),
        (
            ["--learning-rate", "inf"],
            "--learning-rate: Input should be less than or equal to 1000000000",
        ),
        (["--clip-norm", "inf"], "--clip-norm: Input should be less than or equal to 1000000000"),
        (["--input-noise", "inf"], "--input-noise: "),
        (["--seed", "1.5"], "--seed: "),
        (["--seed", str(2**31)], "--seed: "),
        (["--name", "a/b"], "--name: "),
        (["--data", "t.csv"], "--data needs --target: the columns to forecast"),
        (["--target", "y"], "--target is of a table: name it as --data"),
        (["--every", "5min"], "--every is of a table: name it as --data"),
        (["--data", "t.csv", "--target", "y", "--horizons", "-1"], "--horizons: "),
        (
            ["--data", "t.csv", "--target", "y", "--task", "t.toml"],
            "--data drafts a task of its own: leave --task out",
        ),
        (["--updates"], "--updates"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_bad_argument_ends_with_status_2_and_a_line_that_names_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m model.train: error: ")
    assert named in last


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """What `main` would have trained."""
    found: list[TrainConfig] = []

    def trained(command: Command) -> Path:
        found.append(command.config)
        return command.config.models_dir

    monkeypatch.setattr(run, "run", trained)
    return found


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    return train.main()


@pytest.mark.parametrize(("name", "options"), [("tiny", ["--name", "tiny"]), ("weather", [])])
def test_only_if_missing_does_nothing_where_a_version_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    started: list[TrainConfig],
    name: str,
    options: list[str],
) -> None:
    """The name is the task's where none is given."""
    (tmp_path / name / "3").mkdir(parents=True)
    options = ["--task", WEATHER, "--models-dir", tmp_path, "--only-if-missing", *options]
    assert command(monkeypatch, *options) == 0
    assert started == []
    said = capsys.readouterr().out
    assert said == f"{tmp_path / name} has version 3: nothing to train\n"
    assert [path.name for path in (tmp_path / name).iterdir()] == ["3"]


def test_only_if_missing_trains_where_there_is_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[TrainConfig]
) -> None:
    """What an export that died has left is none."""
    (tmp_path / "tiny" / ".export-1").mkdir(parents=True)
    options = ["--models-dir", tmp_path, "--name", "tiny"]
    assert command(monkeypatch, *options, "--only-if-missing") == 0
    assert [config.name for config in started] == ["tiny"]


def test_without_only_if_missing_it_trains_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[TrainConfig]
) -> None:
    (tmp_path / "tiny" / "3").mkdir(parents=True)
    assert command(monkeypatch, "--models-dir", tmp_path, "--name", "tiny") == 0
    assert len(started) == 1


def command_with_fit(outcome: Any, arguments: list[str]) -> tuple[int, str, str]:
    """The command, with `outcome` for what training gives: a history, or an error."""
    with mock.patch.object(run, "fit", side_effect=[outcome]):
        return run_command(train.main, arguments)


def test_training_that_diverged_ends_with_status_1_and_exports_nothing(tmp_path: Path) -> None:
    diverged = Diverged("training diverged: lower --learning-rate or --clip-norm")
    options = ["--task", str(WEATHER), "--models-dir", str(tmp_path), "--layers", "rnn:1"]
    options += ["--output-keep-prob", "1"]
    with pool(1) as processes:
        status, _, err = processes.submit(command_with_fit, diverged, options).result()
    assert (status, err) == (1, "error: training diverged: lower --learning-rate or --clip-norm\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--models-dir", "{}/file"], "{}/file"),
        (["--models-dir", "{}", "--window-steps", "9999"], "the train split has no run of 9999 "),
        (["--devices", "gpu:7"], "there is no device GPU:7; this machine has CPU:0"),
        (["--devices", "cpu:0", "cpu:0"], "device CPU:0 is given twice"),
        (["--devices", "tape"], "device 'tape' is not of the form gpu:0"),
        (["--layers", "lstm:4@cpu:3"], "layer 0 is to be on CPU:3, but the devices are CPU:0"),
        (["--replicas", "2"], "2 replicas need as many devices"),
        (["--layers", "lstm:65536", "lstm:65536"], "CPU has "),
    ],
)
def test_what_would_fail_after_training_fails_before(
    tmp_path: Path, options: list[str], named: str
) -> None:
    (tmp_path / "file").touch()
    places = ["--task", str(WEATHER), "--models-dir", str(tmp_path / "models")]
    options = [*places, *(option.format(tmp_path) for option in options)]
    with pool(1) as processes:
        trained = AssertionError("this is too late: it has trained")
        status, _, err = processes.submit(command_with_fit, trained, options).result()
    assert status == 1
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert named.format(tmp_path) in err


@pytest.mark.parametrize(
    ("devices", "layers", "expected"),
    [
        (
            2,
            ["rnn:64", "rnn:64", "rnn:64", "rnn:64"],
            ["CPU:0", "CPU:0", "CPU:1", "CPU:1", "CPU:1"],
        ),
        (4, ["gru:4", "lstm:4"], ["CPU:0", "CPU:1", "CPU:1"]),
        (2, ["gru:4@cpu:1", "lstm:4"], ["CPU:1", "CPU:0", "CPU:0"]),
    ],
)
def test_the_plan_is_told_and_nothing_trained(
    tmp_path: Path, devices: int, layers: list[str], expected: list[str]
) -> None:
    """More layers than devices, more devices than layers, and a layer that names its own."""
    options = [
        "--task",
        str(WEATHER),
        "--models-dir",
        str(tmp_path / "models"),
        "--layers",
        *layers,
    ]
    options += ["--logical-devices", str(devices), "--explain-placement"]
    with pool(1) as processes:
        status, out, err = processes.submit(run_command, train.main, options).result()
    assert (status, err) == (0, "")
    head, *rows, memory = out.splitlines()
    assert head.split("  ")[0] == "layer"
    assert re.fullmatch(r"CPU: takes at least [\d.]+ GiB of [\d.]+ GiB free", memory)
    assert [re.search(r"CPU:\d", row)[0] for row in rows] == expected  # type: ignore[index]
    assert not (tmp_path / "models").exists()


def test_what_cannot_be_read_ends_with_status_1_and_one_line(tmp_path: Path) -> None:
    """A missing table, a broken one, a missing task, and a task that is none."""
    no_table = tmp_path / "no_table.toml"
    no_table.write_text(WEATHER.read_text().replace("data/weather.csv.xz", f"{tmp_path}/none.csv"))
    broken = tmp_path / "broken.toml"
    half = (WEATHER.parents[2] / "data" / "weather.csv.xz").read_bytes()[:1000]
    (tmp_path / "half.csv.xz").write_bytes(half)
    broken.write_text(WEATHER.read_text().replace("data/weather.csv.xz", "half.csv.xz"))
    no_task = tmp_path / "none.toml"
    bad_task = tmp_path / "bad.toml"
    bad_task.write_text("name = 'weather'\n")
    with pool(1) as processes:
        for task, named in (
            (no_table, f"'{tmp_path}/none.csv'"),
            (broken, f"{tmp_path}/half.csv.xz: cannot be read as a table: "),
            (no_task, f"'{no_task}'"),
            (bad_task, f"{bad_task}: description: Field required"),
        ):
            options = ["--task", str(task), "--models-dir", str(tmp_path / "models")]
            # In a process of its own: `run` makes TensorFlow deterministic for good.
            status, _, err = processes.submit(run_command, train.main, options).result()
            assert status == 1
            assert len(err.splitlines()) == 1, err
            assert err.startswith("error: ")
            assert named in err
    assert not (tmp_path / "models").exists()


def test_a_table_needs_no_task_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told what was understood of it, and the task is written: once."""
    hours = np.arange(600)
    table = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=600, freq="h")})
    table["y"] = (10 * np.sin(hours * np.pi / 12) + hours % 7).round(2)
    table.to_csv(tmp_path / "plant.csv", index=False)
    written = tmp_path / "plant.toml"
    options = ["--data", tmp_path / "plant.csv", "--target", "y", "--horizons", "1", "6"]
    options += ["--window-steps", "24", "--inspect", "--write-task", written]
    assert command(monkeypatch, *options) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for words in ("600", "2024-01-25 23:00", "hour_of_day", "y_6", "same time last season"):
        assert words in told.out
    assert max(len(x) for x in told.out.splitlines() if str(tmp_path) not in x) <= 120
    task = load_task(written)
    config = TrainConfig(data=tmp_path / "plant.csv", target=("y",), horizons=(1, 6))
    assert task == task_of(config).task
    assert command(monkeypatch, *options) == 1
    assert capsys.readouterr().err == f"error: [Errno 17] File exists: '{written}'\n"


def test_what_is_wrong_with_a_table_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("time,y\n01/02/2024,1\n02/02/2024,2\n03/02/2024,3\n")
    assert command(monkeypatch, "--data", tmp_path / "t.csv", "--target", "y") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "row 1 has '01/02/2024'" in line
    assert "--time-format" in line


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ([], ("lstm:100",) * 3),
        (["--data", "plant.csv", "--target", "y"], AUTO),
        (["--task", "plant.toml"], AUTO),
        (["--task", str(TrainConfig().task)], ("lstm:100",) * 3),
        (["--data", "plant.csv", "--target", "y", "--layers", "gru:4"], ("gru:4",)),
        (["--task", "plant.toml", "--from", "models/plant/1"], ("lstm:100",) * 3),
    ],
)
def test_a_table_of_ones_own_has_layers_chosen(given: list[str], layers: tuple[str, ...]) -> None:
    """The default stack was found for the weather. A version that is gone on from has its own."""
    assert parse_arguments(given).config.layers == layers
