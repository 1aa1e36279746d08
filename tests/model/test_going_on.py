"""Trainings that are interrupted and gone on with, as commands: what is left, told and exported."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from app.manifest import verified_manifest
from model import run, train
from model.training import candidates
from model.training.trainer import Trainer
from tests.model.children import pool, run_command
from tests.model.toy_training import arguments, weights


def stopped_at(update: int, where: str, given: list[str]) -> tuple[int, str, str]:
    """The command, with SIGINT in a batch, or while it evaluates, exports or begins."""
    learn = Trainer.update

    def spy(trainer: Trainer) -> None:
        if trainer.progress.update == update:
            signal.raise_signal(signal.SIGINT)
        learn(trainer)

    def interrupt(*given: Any, **named: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    if where == "batch":
        patched = mock.patch.object(Trainer, "update", spy)
    else:
        patched = mock.patch.object(run, where, interrupt)
    with patched:
        return run_command(train.main, given)


def run_all(*processes: list[tuple[Any, ...]]) -> list[tuple[int, str, str]]:
    """Steps in processes, one after the other: what goes on does so in another than what began."""
    with pool(1) as children:
        found = [children.submit(run_steps, steps) for steps in processes]
        return [told for each in found for told in each.result()]


def run_steps(steps: list[tuple[Any, ...]]) -> list[tuple[int, str, str]]:
    return [step(*given) for step, *given in steps]


@pytest.fixture(scope="module")
def steps(task: Path, toy_models: Path) -> dict[str, tuple[int, str, str]]:
    """A training that runs through, and one with an interruption in a batch and at the export."""
    whole = arguments(task, toy_models, name=["whole"])
    given = arguments(task, toy_models, name=["cut"])
    short = ["--models-dir", str(toy_models), "--name", "cut"]
    on = [
        *arguments(task, toy_models, layers=["gru:4"], updates=[2]),
        *("--from", str(toy_models / "cut" / "1"), "--learning-rate", "1e-9"),
        *("--average-momentum", "0", "--weight-decay", "0"),
    ]
    first = {
        "too early": (stopped_at, 0, "prepare", arguments(task, toy_models, name=["early"])),
        "stopped": (stopped_at, 9, "batch", given),
    }
    second = {
        "exported": (run_command, train.main, [*short, "--export-best"]),
        "refused": (run_command, train.main, [*given, "--resume", "--batch-size", "8"]),
        "stopped again": (stopped_at, 0, "export_model", [*given, "--resume"]),
    }
    third = {
        "resumed": (run_command, train.main, [*short, "--resume"]),
        "on": (run_command, train.main, on),
        "whole": (run_command, train.main, whole),
    }
    told = run_all(*(list(each.values()) for each in (first, second, third)))
    return dict(zip([*first, *second, *third], told, strict=True))


def test_ctrl_c_ends_with_130_and_tells_how_to_go_on(
    steps: dict[str, tuple[int, str, str]], toy_models: Path
) -> None:
    for name, update in (("stopped", "10"), ("stopped again", "40")):
        status, _, err = steps[name]
        assert status == 130
        again = f"python -m model.train --name cut --models-dir {toy_models}"
        best = json.loads((toy_models / "whole" / "1" / "manifest.json").read_text())
        errors = best["training"]["history"]["val_loss"]
        shown = min(errors[:5] if name == "stopped" else errors)
        assert err.splitlines() == [
            "",
            f"stopped at update {update}; the best validation error so far is {shown:.4f}",
            f"to go on:           {again} --resume",
            f"to export the best: {again} --export-best",
        ]


def test_before_anything_is_learnt_there_is_nothing_to_go_on_with(
    steps: dict[str, tuple[int, str, str]],
) -> None:
    assert steps["too early"] == (130, "", "\nstopped: nothing was learnt yet\n")


def test_resumed_is_uninterrupted(steps: dict[str, tuple[int, str, str]], toy_models: Path) -> None:
    """Without any option but the name, after two interruptions."""
    status, out, err = steps["resumed"]
    assert (status, err) == (0, "")
    assert "goes on from update 40" in out
    assert weights(toy_models / "cut" / "2") == weights(toy_models / "whole" / "1")
    ours, theirs = (verified_manifest(toy_models / at) for at in ("cut/2", "whole/1"))
    assert ours.metrics == theirs.metrics
    assert sorted(path.name for path in (toy_models / "cut").iterdir())[:2] == ["1", "2"]
    assert not (toy_models / "cut" / ".training").exists()


def test_the_best_so_far_can_be_exported_and_gone_on_with(
    steps: dict[str, tuple[int, str, str]], toy_models: Path
) -> None:
    status, out, err = steps["exported"]
    assert (status, err) == (0, "")
    assert f"Exported to {toy_models / 'cut' / '1'}" in out
    assert weights(toy_models / "cut" / "1") != weights(toy_models / "cut" / "2")
    manifest = json.loads((toy_models / "cut" / "1" / "manifest.json").read_text())
    assert manifest["training"]["updates"] == 10


def test_other_options_than_it_began_with_are_refused(
    steps: dict[str, tuple[int, str, str]],
) -> None:
    assert steps["refused"] == (
        1,
        "",
        "error: --resume goes on with the options that the training began with: --batch-size was "
        "16, not 8\n",
    )


def test_a_version_is_trained_on_as_the_next_one(
    steps: dict[str, tuple[int, str, str]], toy_models: Path
) -> None:
    """It has the name of the version; with next to no learning rate, its weights too."""
    status, out, err = steps["on"]
    assert (status, err) == (0, "")
    assert f"Exported to {toy_models / 'cut' / '3'}" in out
    ours, theirs = (verified_manifest(toy_models / at) for at in ("cut/3", "cut/1"))
    assert ours.features == theirs.features
    for output, error in ours.metrics["mean_absolute_error"]["model"].items():
        # A few updates of 1e-9 each.
        assert error == pytest.approx(theirs.metrics["mean_absolute_error"]["model"][output], 1e-4)


def test_the_options_stand_beside_the_artifact(
    steps: dict[str, tuple[int, str, str]], toy_models: Path
) -> None:
    config = train.parse_arguments(
        ["--config", str(toy_models / "whole" / "1" / "options.toml")]
    ).config
    manifest = json.loads((toy_models / "whole" / "1" / "manifest.json").read_text())
    assert json.loads(config.model_dump_json(by_alias=True)) == manifest["training"]["config"]
    assert "options.toml" in manifest["files"]


def test_several_recipes_are_tried_and_gone_on_with(task: Path, tmp_path: Path) -> None:
    """The one with the smallest validation error is exported, whichever was interrupted."""
    given = arguments(task, tmp_path, layers=["auto"], updates=[6], window_steps=[8])
    cut = [*given, "--name", "cut"]
    stopped, again, (status, out, err), _ = run_all(
        [(of_small, stopped_at, 4, "batch", cut)],
        [(of_small, stopped_in_second, 3, [*cut, "--resume"])],
        [
            (of_small, run_command, train.main, [*cut, "--resume"]),
            (of_small, run_command, train.main, [*given, "--name", "whole"]),
        ],
    )
    assert stopped[0] == again[0] == 130
    assert (status, err) == (0, "")
    # The first had come to its end; the second went on.
    learnt = re.findall(r"^(tries .*|update \d+ of 6)", out, re.MULTILINE)
    assert learnt[:4] == [
        "tries rnn:48:relu", "tries lstm:2", "update 5 of 6", "update 6 of 6",
    ]  # fmt: skip
    assert weights(tmp_path / "cut" / "1") == weights(tmp_path / "whole" / "1")
    manifest = json.loads((tmp_path / "whole" / "1" / "manifest.json").read_text())
    # Of a wave with noise: 8 hours of a temperature, a wind, and whether that is missing.
    assert manifest["training"]["config"]["layers"] == ["rnn:48:relu"]
    errors = manifest["metrics"]["mean_absolute_error"]
    for output, error in errors["model"].items():
        assert error < 1.3 * errors["linear autoregression"][output]


def of_small(step: Callable[..., tuple[int, str, str]], *given: Any) -> tuple[int, str, str]:
    """A command, where the stacks to try are small."""
    with mock.patch.object(candidates, "STACKS", (("lstm:2",), ("gru:2", "gru:2"))):
        return step(*given)


def stopped_in_second(update: int, given: list[str]) -> tuple[int, str, str]:
    """The command, with SIGINT in a batch of the second recipe that is tried."""
    learn = Trainer.update

    def spy(trainer: Trainer) -> None:
        if (trainer.progress.candidate, trainer.progress.update) == (1, update):
            signal.raise_signal(signal.SIGINT)
        learn(trainer)

    with mock.patch.object(Trainer, "update", spy):
        return run_command(train.main, given)
