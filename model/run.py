"""A training from the table to the exported model. Wiring only; `train.py` calls it.

load -> train with early stopping -> evaluate against the baselines -> export with a model card
"""

import signal
from pathlib import Path
from typing import Any

import numpy as np

from model.config_file import options_text
from model.evaluation import model_card
from model.evaluation.description import describe_training, example, print_skill
from model.evaluation.skill import Skill, evaluate, evaluated_rows
from model.export.saved_model import export_model
from model.placement.devices import find_devices
from model.preparation import Preparation, begun_with, prepare
from model.tasks.task_writer import task_text
from model.train_arguments import Command, again
from model.train_config import TrainConfig
from model.training.candidates import forecast_error
from model.training.checkpoint import Checkpoint, CheckpointFolder, Progress
from model.training.display import Display
from model.training.event_log import EventLog
from model.training.fit import fit
from model.training.interruption import Interrupted
from model.training.shrinkage import shrink
from model.training.trainer import Diverged, Trainer

# Beside the artifact: the options it was trained with, for --config, and the task, for --task.
OPTIONS, TASK = "options.toml", "task.toml"


def run(command: Command) -> Path:
    """Trains, or goes on with a training, evaluates and exports; prints the skill table.

    Returns:
        The exported folder.

    Raises:
        OSError, ValueError: the task or its table cannot be used, the models' folder cannot be
            written, or training diverged.
        Interrupted: a signal came; the message says how to go on.
    """
    config, served = begun_with(command.config)
    folder = CheckpointFolder(config.models_dir / str(config.name))
    saved = folder.last() if command.resume or command.export_best else None
    if saved:
        config = TrainConfig.model_validate(saved.config).gone_on_with(command.config)
        config, served = begun_with(config)
    elif command.export_best:
        raise ValueError(f"{folder.home} has no checkpoint of a training: there is nothing yet")
    kept = saved.progress if saved else Progress()
    try:
        with Display() as display:
            prepared = prepare(config, served, display)
            if command.export_best:
                best = _best_so_far(prepared, folder, display)
                exported, skill = _finish(prepared, best, display)
            else:
                with folder.held():
                    _tell_of_checkpoints(command, folder, saved, display)
                    best = train(prepared, folder, display)
                    kept = best.progress
                    exported, skill = _finish_or_tell(prepared, best, display)
                    folder.remove()
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, _stopped(config, kept)) from None
    print_skill(skill, prepared.task, prepared.recipe.window_steps)
    print(f"\nExported to {exported} after {best.progress.seconds:.0f} s of training")
    return exported


def _tell_of_checkpoints(
    command: Command, folder: CheckpointFolder, saved: Checkpoint | None, display: Display
) -> None:
    """Keeps the checkpoint of another training, and tells what this one begins from."""
    if saved:
        display.line(f"goes on from update {saved.progress.update:,}")
    elif command.resume:
        display.line(f"note: {folder.home} has no checkpoint: training begins anew")
    elif earlier := folder.set_aside():
        display.line(
            f"note: there was a training that --resume would have gone on with; its checkpoint is "
            f"{earlier} now"
        )


def train(prepared: Preparation, folder: CheckpointFolder, display: Display) -> Trainer:
    """Trains every recipe to its end, but for those that have come to it; gives the best one."""
    found: list[Trainer] = []
    for index, recipe in enumerate(prepared.recipes):
        trainer = prepared.trainer(index)
        if checkpoint := folder.read(index):
            trainer.restore(checkpoint)
        several = len(prepared.recipes) > 1
        if several:
            display.line(f"tries {' -> '.join(recipe.layers)}")
        if not trainer.progress.finished:
            try:
                _fit(trainer, folder, display, f"tried_{index}" if several else "")
            except Diverged as error:
                if index + 1 == len(prepared.recipes) and not found:
                    raise ValueError(_diverged(trainer, error)) from error
                display.line(f"note: {error}: another network is tried")
                continue
        if several:
            folder.keep(index)
        found.append(trainer)
    best = _best(prepared, found, display)
    best.progress.seconds = sum(trainer.progress.seconds for trainer in found)
    return best


def _best(prepared: Preparation, found: list[Trainer], display: Display) -> Trainer:
    """The trainer whose best weights forecast the validation split best."""
    display.phase("comparing")
    steps, split = prepared.recipe.window_steps, prepared.splits["validation"]
    for trainer in found:
        if trainer.recipe.linear_start and trainer.progress.best:
            kept = 100 * shrink(trainer, split, steps, prepared.task.season_steps)
            layers = " -> ".join(trainer.recipe.layers)
            display.line(f"{layers}: {kept:g} % is kept of what it learnt beyond its beginning")
    if len(found) == 1:
        return found[0]
    errors = [forecast_error(trainer, split, steps) for trainer in found]
    for trainer, error in zip(found, errors, strict=True):
        display.line(f"{' -> '.join(trainer.recipe.layers)}: validation {error:.4f}")
    return found[int(np.argmin(errors))]


def _fit(trainer: Trainer, folder: CheckpointFolder, display: Display, log: str) -> None:
    config = trainer.recipe
    display.training(trainer, find_devices(config.devices))
    events = EventLog(config.log_dir / log if config.log_dir else None)
    number = fit(trainer, folder, display, events)
    if number is not None:
        raise Interrupted(number, _stopped(config, trainer.progress))


def _diverged(trainer: Trainer, error: Diverged) -> str:
    """What is told of a training that diverged, and what is left of it."""
    if not trainer.progress.best:
        return str(error)
    return f"{error}; {again(trainer.recipe, 'export_best')} exports the best before"


def _best_so_far(prepared: Preparation, folder: CheckpointFolder, display: Display) -> Trainer:
    """The best trainer of those that there are checkpoints of."""
    found = []
    for index in range(len(prepared.recipes)):
        if checkpoint := folder.read(index):
            found.append(prepared.trainer(index))
            found[-1].restore(checkpoint)
    return _best(prepared, found, display)


def _stopped(config: TrainConfig, progress: Progress) -> str:
    """What is left of a training that was interrupted, and how to go on."""
    if progress.update == 0 and progress.candidate == 0:
        return "stopped: nothing was learnt yet"
    best = f"; the best validation error so far is {progress.best_error:.4f}"
    return (
        f"stopped at update {progress.update:,}{best if progress.best else ''}\n"
        f"to go on:           {again(config, 'resume')}\n"
        f"to export the best: {again(config, 'export_best')}"
    )


def _finish_or_tell(
    prepared: Preparation, trainer: Trainer, display: Display
) -> tuple[Path, Skill]:
    """As `_finish`; an error tells that the training is not lost."""
    try:
        return _finish(prepared, trainer, display)
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{error}; {again(prepared.recipe, 'resume')} tries again") from error


def _finish(prepared: Preparation, trainer: Trainer, display: Display) -> tuple[Path, Skill]:
    """Evaluates and exports the best weights."""
    task, splits, recipe, model = prepared.task, prepared.splits, trainer.recipe, trainer.model
    # A recipe to try may learn from longer windows: forecasts are made from the asked ones.
    steps, size = prepared.recipe.window_steps, recipe.batch_size
    trainer.take_best()
    display.phase("evaluating")
    display.counting(evaluated_rows(splits, steps))
    skill = evaluate(model, splits, steps, task.season_steps, size, display.advance)
    display.phase("exporting")

    def write_card(folder: Path, manifest: dict[str, Any]) -> None:
        history = trainer.progress.history
        model_card.write_pictures(folder, model, splits, task, history, steps, size)
        model_card.write_card(folder, manifest, task, splits, skill, steps)
        (folder / TASK).write_text(task_text(task), encoding="utf-8")
        (folder / OPTIONS).write_text(options_text(recipe), encoding="utf-8")

    details = {
        **describe_training(task, recipe, steps, skill, trainer.progress, len(trainer.batches)),
        "example": example(splits["test"], model.features, task.example_steps),
    }
    exported = export_model(model, recipe.models_dir, str(recipe.name), details, write_card)
    return exported, skill
