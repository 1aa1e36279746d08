"""The training loop: batches, rounds, checkpoints, and an orderly end."""

import time

from model.training.checkpoint import CheckpointFolder
from model.training.display import Display
from model.training.event_log import EventLog
from model.training.interruption import Interruption
from model.training.trainer import Trainer

# A checkpoint may take this part of the time since the last one.
MOST_OF_THE_TIME = 0.05


class Checkpoints:
    """Writes a checkpoint at the end of each round and every few minutes.

    The first of those that fail is told, and the last one that was written stays.

    Args:
        trainer: whose they are.
        folder: where they go.
        display: where failures are told.
    """

    def __init__(self, trainer: Trainer, folder: CheckpointFolder, display: Display) -> None:
        self._trainer, self._folder, self._display = trainer, folder, display
        self._seconds = 60 * trainer.recipe.checkpoint_minutes
        self._at, self._took = time.monotonic(), 0.0
        self._failing = False

    def write_if_due(self) -> None:
        """Writes one if it is time to."""
        since = time.monotonic() - self._at
        of_round = self._trainer.at_end_of_round and since * MOST_OF_THE_TIME >= self._took
        if of_round or since >= self._seconds:
            self.write()

    def write(self) -> None:
        """Writes one now."""
        started = time.monotonic()
        try:
            self._folder.write(self._trainer.checkpoint())
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._display.line(
                    f"note: the checkpoint of update {self._trainer.progress.update:,} cannot be "
                    f"written ({error.strerror or error}): the last one stays, training goes on"
                )
            self._failing = True
        self._at = time.monotonic()
        self._took = self._at - started


def fit(
    trainer: Trainer,
    folder: CheckpointFolder,
    display: Display,
    events: EventLog,
) -> int | None:
    """Trains until the validation error stops falling, or a signal comes.

    Returns:
        The number of the signal that ended it; None if it has finished.

    Raises:
        Diverged: the loss is no number any more; the last checkpoint stays.
        KeyboardInterrupt: a second signal came before the batch was over.
    """
    checkpoints = Checkpoints(trainer, folder, display)
    with Interruption() as interruption:
        checkpoints.write()
        while not trainer.progress.finished and interruption.number is None:
            trainer.update()
            display.update()
            if trainer.at_end_of_round:
                display.round()
                _log(trainer, events, display)
            if not trainer.progress.finished and interruption.number is None:
                checkpoints.write_if_due()
        checkpoints.write()
    return None if trainer.progress.finished else interruption.number


def _log(trainer: Trainer, events: EventLog, display: Display) -> None:
    history = trainer.progress.history
    try:
        events.write(
            trainer.progress.update,
            loss=history["loss"][-1],
            validation_loss=history["val_loss"][-1],
            learning_rate=float(trainer.model.optimizer.learning_rate),
        )
    except OSError as error:
        display.line(f"note: TensorBoard's file could not be written ({error})")
