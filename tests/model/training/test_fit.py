"""The loop around a trainer: when it writes checkpoints, how it ends, what it shows."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from model.training import fit as module
from model.training.checkpoint import Checkpoint, CheckpointFolder, Progress
from model.training.display import Display, clock
from model.training.event_log import EventLog
from model.training.fit import fit


class FakeTrainer:
    """Learns nothing: rounds of 4 updates, 12 in all; `at` is called before each update."""

    def __init__(self, minutes: float = 1e6, at: Any = None) -> None:
        self.progress = Progress()
        self.batches = range(4)
        self.recipe = SimpleNamespace(checkpoint_minutes=minutes, updates=12)
        optimizer = SimpleNamespace(learning_rate=0.5)
        self.model = SimpleNamespace(optimizer=optimizer)
        self._at = at or (lambda update: None)

    @property
    def at_end_of_round(self) -> bool:
        return self.progress.update % 4 == 0

    def loss(self) -> float:
        return 0.25

    def update(self) -> None:
        self._at(self.progress.update)
        self.progress.update += 1
        if self.at_end_of_round:
            for name, value in (("update", self.progress.update), ("loss", 0.5), ("val_loss", 1)):
                self.progress.history[name].append(value)
        self.progress.finished = self.progress.update == self.recipe.updates

    def checkpoint(self) -> Checkpoint:
        progress = Progress(update=self.progress.update, finished=self.progress.finished)
        return Checkpoint({}, "", progress, [])


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds; it stands still unless a test moves it."""
    seconds = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def run_fit(tmp_path: Path, trainer: FakeTrainer) -> tuple[int | None, list[int]]:
    """What `fit` gives, and the updates of which there were checkpoints."""
    folder = CheckpointFolder(tmp_path / "model")
    written = []
    write = folder.write

    def spy(checkpoint: Checkpoint) -> None:
        write(checkpoint)
        written.append(checkpoint.progress.update)

    given: Any = trainer
    with mock.patch.object(folder, "write", spy), Display() as display, folder.held():
        display.training(given, ["CPU:0"])
        return fit(given, folder, display, EventLog(None)), written


def test_there_is_a_checkpoint_at_the_start_and_after_each_round(tmp_path: Path) -> None:
    assert run_fit(tmp_path, FakeTrainer()) == (None, [0, 4, 8, 12])


def test_there_is_one_every_few_minutes_too(tmp_path: Path, now: list[float]) -> None:
    def at(update: int) -> None:
        now[0] += 50.0

    trainer = FakeTrainer(minutes=2.5, at=at)
    assert run_fit(tmp_path, trainer) == (None, [0, 3, 4, 7, 8, 11, 12])


def test_checkpoints_that_take_long_are_not_written_after_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    """One that took a second waits 20, of which a round has 8."""
    write = CheckpointFolder.write

    def slow(folder: CheckpointFolder, checkpoint: Checkpoint) -> None:
        now[0] += 1.0
        write(folder, checkpoint)

    monkeypatch.setattr(CheckpointFolder, "write", slow)

    def at(update: int) -> None:
        now[0] += 2.0

    assert run_fit(tmp_path, FakeTrainer(at=at)) == (None, [0, 12])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", [0, 3, 6])
def test_a_signal_ends_it_after_the_batch_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals, when: int
) -> None:
    before = signal.getsignal(number)

    def at(update: int) -> None:
        if update == when:
            os.kill(os.getpid(), number)

    trainer = FakeTrainer(at=at)
    ended, written = run_fit(tmp_path, trainer)
    assert (ended, written[-1], trainer.progress.update) == (number, when + 1, when + 1)
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    def at(update: int) -> None:
        if update == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_fit(tmp_path, FakeTrainer(at=at))
    found = CheckpointFolder(tmp_path / "model").read()
    assert found is not None
    assert found.progress.update == 4


def test_a_signal_in_the_last_batch_stops_nothing(tmp_path: Path) -> None:
    def at(update: int) -> None:
        if update == 11:
            os.kill(os.getpid(), signal.SIGINT)

    assert run_fit(tmp_path, FakeTrainer(at=at))[0] is None


def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = CheckpointFolder.write

    def full(folder: CheckpointFolder, checkpoint: Checkpoint) -> None:
        if checkpoint.progress.update in (4, 8):
            raise OSError(28, "No space left on device")
        write(folder, checkpoint)

    with mock.patch.object(CheckpointFolder, "write", full):
        assert run_fit(tmp_path, FakeTrainer()) == (None, [0, 12])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert notes == [
        "note: the checkpoint of update 4 cannot be written (No space left on device): the last "
        "one stays, training goes on"
    ]


def test_without_a_terminal_there_is_a_line_a_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_fit(tmp_path, FakeTrainer())
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "training"
    assert len(lines) == 3
    assert lines[0].startswith(
        "update 4 of 12, epoch 1: loss 0.5000, validation 1.0000 (the best); 0:00:00, at most "
    )
    assert "\x1b" not in "".join(lines)


def test_times_are_told_as_people_read_them() -> None:
    assert [clock(each) for each in (0.4, 61, 3600.0, 90061)] == [
        "0:00:00", "0:01:01", "1:00:00", "1 day, 1:01:01",
    ]  # fmt: skip
