"""Checkpoints: all that a training needs to go on, in one file that is whole or not there.

A checkpoint is written beside the last one, flushed to disk and renamed over it: whenever the
process is killed, or the disk is full, one of the two is there. `models/<name>/.training/` has it
until the model is exported.
"""

import fcntl
import json
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

# Of what a checkpoint has, in this order; another number cannot be gone on from.
FORMAT = 1
# What NumPy and zipfile raise on a file that is no checkpoint, or half of one. The header of an
# array is read as an expression of Python.
BROKEN = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    RuntimeError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
FOLDER, FILE, EARLIER, UNFINISHED = ".training", "checkpoint.npz", "earlier.npz", "unfinished.npz"
# Of the recipes that were tried to their end.
TRIED = "tried_{}.npz"


@dataclass
class Progress:
    """How far a training has come, and what it has found.

    Attributes:
        candidate: which of the recipes to try it is of.
        update: how many batches it has learnt from.
        history: by round, `loss`, `val_loss`, and the `update` at the round's end.
        best: weights of the smallest validation error, in the order of `trainable_variables`;
            empty before the first round.
        rounds_without_better: since that.
        seconds: of training so far.
        finished: whether there is nothing more to learn.
    """

    candidate: int = 0
    update: int = 0
    history: dict[str, list[float]] = field(
        default_factory=lambda: {"update": [], "loss": [], "val_loss": []}
    )
    best: list[np.ndarray] = field(default_factory=list)
    rounds_without_better: int = 0
    seconds: float = 0.0
    finished: bool = False

    @property
    def best_error(self) -> float:
        """The smallest validation error; infinity before the first round."""
        return min(self.history["val_loss"], default=np.inf)


@dataclass(frozen=True)
class Checkpoint:
    """A training at rest.

    Attributes:
        config: the options it was begun with, as JSON has them.
        fingerprint: of the data and the task.
        progress: see `Progress`.
        variables: weights, averages, moments, counters and random state of the trainer.
    """

    config: dict[str, Any]
    fingerprint: str
    progress: Progress
    variables: list[np.ndarray]

    def write(self, path: Path) -> None:
        """Writes it to a file.

        Raises:
            OSError: it cannot be written.
        """
        told = {name: value for name, value in vars(self.progress).items() if name != "best"}
        head = {
            "format": FORMAT,
            "config": self.config,
            "fingerprint": self.fingerprint,
            "progress": told,
        }
        arrays = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
        for name, group in (("variable", self.variables), ("best", self.progress.best)):
            arrays |= {f"{name}_{index:05}": array for index, array in enumerate(group)}
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take them for flags
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no checkpoint of this format.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in sorted(stored.files)}
            head = json.loads(arrays.pop("head").tobytes())
        except BROKEN as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # it names the file itself
            raise ValueError(f"{path} is not a whole checkpoint: {error}") from error
        if head["format"] != FORMAT:
            raise ValueError(f"{path} has the format {head['format']}, not {FORMAT}")
        groups: dict[str, list[np.ndarray]] = {"variable": [], "best": []}
        for name, array in arrays.items():
            groups[name.partition("_")[0]].append(array)
        progress = Progress(**head["progress"], best=groups["best"])
        return cls(head["config"], head["fingerprint"], progress, groups["variable"])


class CheckpointFolder:
    """Where the checkpoints of one model's training are.

    Args:
        home: `models/<name>`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / FOLDER

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Keeps others from training the same model.

        The lock is the kernel's: it goes with the process that holds it, however that ends.

        Raises:
            ValueError: another process trains it.
            OSError: the folder cannot be made.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._lock(descriptor)
            yield self
        finally:
            os.close(descriptor)
            with suppress(OSError):  # it has a checkpoint
                self._folder.rmdir()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{self.home} is being trained by another process: wait for it, or give this "
                "training another --name"
            ) from error

    def last(self) -> Checkpoint | None:
        """The checkpoint that was written last; None where there is none.

        Raises:
            OSError, ValueError: as of `Checkpoint.read`.
        """
        found = [*self._tried(), *self._folder.glob(FILE)]
        return Checkpoint.read(found[-1]) if found else None

    def read(self, candidate: int = 0) -> Checkpoint | None:
        """The last checkpoint of one of the recipes to try; None where there is none.

        Raises:
            OSError, ValueError: as of `Checkpoint.read`.
        """
        tried, path = self._folder / TRIED.format(candidate), self._folder / FILE
        if tried.exists():
            return Checkpoint.read(tried)
        found = Checkpoint.read(path) if path.exists() else None
        return found if found and found.progress.candidate == candidate else None

    def keep(self, candidate: int) -> None:
        """The last checkpoint is the end of one of the recipes to try: another one follows."""
        tried = self._folder / TRIED.format(candidate)
        if not tried.exists():
            with suppress(FileNotFoundError):  # the disk was full
                (self._folder / FILE).rename(tried)

    def _tried(self) -> list[Path]:
        return sorted(self._folder.glob(TRIED.format("*")))

    def set_aside(self) -> Path | None:
        """Keeps the checkpoint of an earlier training under another name; where, or None."""
        for path in self._tried():
            path.unlink()
        path = self._folder / FILE
        return path.replace(self._folder / EARLIER) if path.exists() else None

    def write(self, checkpoint: Checkpoint) -> None:
        """Replaces the last checkpoint, which stays if this fails.

        Raises:
            OSError: it cannot be written.
        """
        unfinished = self._folder / UNFINISHED
        try:
            checkpoint.write(unfinished)
            unfinished.replace(self._folder / FILE)
        except OSError:
            # It would take the room that the next one needs.
            unfinished.unlink(missing_ok=True)
            raise
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Removes the checkpoint of a training that is over."""
        for path in (self._folder / FILE, self._folder / UNFINISHED, *self._tried()):
            path.unlink(missing_ok=True)
