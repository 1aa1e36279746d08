"""What a training shows while it runs: pinned lines on a terminal, else a line a round."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from model.training.trainer import Trainer

# Reading the loss waits for the device.
SECONDS_BETWEEN_READINGS = 0.5


def clock(seconds: float) -> str:
    """A time for people: `0:01:30`."""
    return str(timedelta(seconds=round(seconds)))


class Display:
    """Shows the phase of a run, and of training how far it has come.

    It is entered while they run.
    """

    def __init__(self) -> None:
        self._console = Console(highlight=False, emoji=False)
        self._devices = ""
        self._phase, self._total, self._done = "starting", 0, 0
        self._trainer: Trainer | None = None
        self._begun, self._begun_at, self._read_at, self._loss = time.monotonic(), 0, 0.0, 0.0
        pinned = sys.stdout.isatty() and not self._console.is_dumb_terminal
        self._live = (
            Live(get_renderable=self._pinned, console=self._console, transient=True)
            if pinned
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def line(self, text: str) -> None:
        """Prints a line, above what is pinned."""
        self._console.print(text, markup=False, soft_wrap=True)
        self._console.file.flush()

    def phase(self, name: str) -> None:
        """What is done from now on."""
        self._phase, self._total, self._done = name, 0, 0
        if not self._live:
            self.line(name)

    def counting(self, total: int) -> None:
        """This phase works off so many rows."""
        self._total = total

    def advance(self, rows: int) -> None:
        """So many more rows are worked off."""
        self._done += rows

    def training(self, trainer: Trainer, devices: Sequence[str]) -> None:
        """From now on it is this trainer, on these devices, that is shown."""
        self._trainer, self._devices = trainer, f" on {', '.join(devices)}"
        self._begun, self._begun_at = time.monotonic(), trainer.progress.update
        self.phase("training")

    def update(self) -> None:
        """The trainer has learnt from another batch."""
        now = time.monotonic()
        if self._live and self._trainer and now - self._read_at > SECONDS_BETWEEN_READINGS:
            self._read_at, self._loss = now, self._trainer.loss()

    def round(self) -> None:
        """The trainer has validated."""
        assert self._trainer, "this is a bug: nothing is trained"
        progress = self._trainer.progress
        loss, error = progress.history["loss"][-1], progress.history["val_loss"][-1]
        best = " (the best)" if progress.rounds_without_better == 0 else ""
        self.line(
            f"{self._position()}: loss {loss:.4f}, validation {error:.4f}{best}; "
            f"{clock(progress.seconds)}, at most {clock(self._seconds_left())} left"
        )

    def _position(self) -> str:
        assert self._trainer, "this is a bug: nothing is trained"
        trainer = self._trainer
        epoch = trainer.progress.update / len(trainer.batches)
        return (
            f"update {trainer.progress.update:,} of {trainer.recipe.updates:,}, epoch {epoch:.3g}"
        )

    def _seconds_left(self) -> float:
        assert self._trainer, "this is a bug: nothing is trained"
        progress = self._trainer.progress
        each = (time.monotonic() - self._begun) / max(1, progress.update - self._begun_at)
        return each * (self._trainer.recipe.updates - progress.update)

    def _pinned(self) -> RenderableType:
        rows = Table.grid(padding=(0, 2))
        rows.add_row("phase", f"{self._phase}{self._devices}")
        if self._total:
            rows.add_row("", ProgressBar(total=self._total, completed=self._done, width=40))
        if self._trainer is None or self._phase != "training":
            return Group("", rows)
        progress = self._trainer.progress
        bar = ProgressBar(total=self._trainer.recipe.updates, completed=progress.update, width=40)
        rows.add_row("", bar)
        rows.add_row("", self._position())
        errors = progress.history["val_loss"]
        told = f"{self._loss:.4f}"
        if errors:
            told += f", validation {errors[-1]:.4f}, best {progress.best_error:.4f}"
        rows.add_row("loss", told)
        left = clock(self._seconds_left())
        rows.add_row("time", f"{clock(progress.seconds)}, at most {left} left")
        return Group("", rows)
