"""A training from the table to the exported model. Wiring only; `train.py` calls it.

load -> train with early stopping -> evaluate against the baselines -> export with a model card
"""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from model.command import Command, again
from model.config import RNNConfig
from model.config_file import options_text
from model.data import dataset
from model.data.draft import summary, task_of
from model.evaluation import model_card
from model.evaluation.description import describe_training, example, print_skill
from model.evaluation.forecastable import check_forecastable
from model.evaluation.inspection import inspect
from model.evaluation.skill import Skill, evaluate
from model.export.saved_model import export_model
from model.export.served_model import ServedModel, read_served
from model.export.versions import check_writable
from model.network.sequence_model import SequenceModel
from model.placement.device_setup import memory_table, needed, place, prepare_devices
from model.placement.devices import find_devices
from model.placement.plan import explain, plan_replicas
from model.tasks.task import TaskConfig
from model.tasks.task_file import task_text
from model.train_config import TrainConfig
from model.training.checkpoint import Checkpoint, CheckpointFolder, Progress
from model.training.display import Display
from model.training.event_log import EventLog
from model.training.fit import fit
from model.training.interruption import Interrupted
from model.training.trainer import Diverged, Trainer
from model.transforms import Feature, Output, num_inputs

# Beside the artifact: the options it was trained with, for --config, and the task, for --task.
OPTIONS, TASK = "options.toml", "task.toml"

# Of a table that goes to a file.
PRINTED_WIDTH = 120


@dataclass(frozen=True)
class Training:
    """What a training works on.

    Attributes:
        config: all options.
        task, splits: the data.
        trainer: the model, with the weights to begin from.
    """

    config: TrainConfig
    task: TaskConfig
    splits: dict[str, dataset.Split]
    trainer: Trainer


def network_config(
    config: TrainConfig, features: Sequence[Feature], outputs: Sequence[Output]
) -> RNNConfig:
    """The network between the transforms."""
    return RNNConfig(
        layers=config.layer_configs(),
        num_inputs=num_inputs(features),
        num_outputs=len(outputs),
        variational_dropout=config.variational_dropout,
        input_noise=config.input_noise,
    )


def build_model(
    task: TaskConfig,
    config: TrainConfig,
    train: dataset.Split,
    served: ServedModel | None = None,
) -> SequenceModel:
    """The network for a task, with its transforms fitted on the training split.

    Args:
        task: what goes in and what comes out.
        config: how to train.
        train: the training split.
        served: the version to begin from, whose transforms and weights the model then has.

    Raises:
        PlacementError: its layers cannot be placed as asked.
        ValueError: the version has other columns than the task.
    """
    features, outputs = dataset.fit_features(task, train), dataset.fit_outputs(task, train)
    if served:
        served.check_columns(features, outputs)
        features, outputs = served.features, served.outputs
    network = network_config(config, features, outputs)
    placements = needed(place(network, config))
    model = SequenceModel(
        network, features, outputs, placements, config.chunk_steps, seed=config.seed
    )
    if served:
        served.load_weights(model)
    return model


def explain_placement(config: TrainConfig) -> None:
    """Prints which layer would go where, as a table.

    Raises:
        PlacementError: not as asked; or there is too little memory, of which the table is printed
            before.
    """
    prepare_devices(config)
    task = task_of(config).task
    train = dataset.load(task)["train"]
    features, outputs = dataset.fit_features(task, train), dataset.fit_outputs(task, train)
    network = network_config(config, features, outputs)
    print(explain(plan_replicas(network, find_devices(config.devices), config.replicas)))
    print(memory_table(network, config))
    place(network, config)


def understand(command: Command) -> None:
    """Prints what was understood of the table, and writes the task, as is asked for.

    Raises:
        OSError, ValueError: the table cannot be used; or there is a task file already.
    """
    draft, config = task_of(command.config), command.config
    if command.inspect:
        width = None if sys.stdout.isatty() else PRINTED_WIDTH
        inspect(draft, config.window_steps, config.stride_steps, Console(width=width))
    if command.write_task is not None:
        with command.write_task.open("x", encoding="utf-8") as file:
            file.write(task_text(draft.task, draft.left_out))
        print(f"wrote {command.write_task}: python -m model.train --task {command.write_task}")


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
    saved = folder.read() if command.resume or command.export_best else None
    if saved:
        config = TrainConfig.model_validate(saved.config).gone_on_with(command.config)
        config, served = begun_with(config)
    elif command.export_best:
        raise ValueError(f"{folder.home} has no checkpoint of a training: there is nothing yet")
    trainer: Trainer | None = None
    try:
        with Display() as display:
            training = prepare(config, served, saved, display)
            trainer = training.trainer
            if command.export_best:
                exported, skill = _finish(training, display)
            else:
                with folder.held():
                    _tell_of_checkpoints(command, folder, saved, display)
                    _train(training, folder, display)
                    exported, skill = _finish_or_tell(training, display)
                    folder.remove()
    except KeyboardInterrupt:
        kept = trainer.progress if trainer else saved.progress if saved else Progress()
        raise Interrupted(signal.SIGINT, _stopped(config, kept)) from None
    print_skill(skill, training.task, config.window_steps)
    seconds = training.trainer.progress.seconds
    print(f"\nExported to {exported} after {seconds:.0f} s of training")
    return exported


def begun_with(config: TrainConfig) -> tuple[TrainConfig, ServedModel | None]:
    """The options with a name, and the version that they begin from with its layers.

    Raises:
        OSError, ValueError: the task or the version cannot be read; or other layers are asked for.
    """
    served = read_served(config.from_version) if config.from_version else None
    name = config.name or (served.name if served else task_of(config).task.name)
    changes: dict[str, Any] = {"name": name}
    if served:
        if "layers" in config.model_fields_set and config.layers != served.layers:
            raise ValueError(
                f"{served.folder} has the layers {' '.join(served.layers)}: leave --layers out"
            )
        changes["layers"] = served.layers
    return config.model_copy(update=changes), served


def prepare(
    config: TrainConfig, served: ServedModel | None, saved: Checkpoint | None, display: Display
) -> Training:
    """Reads the data and makes the model; what would fail after training fails now.

    Raises:
        As `run`.
    """
    prepare_devices(config)
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    task = task_of(config).task
    display.phase(f"reading {task.data}")
    if config.data is not None:
        display.line(summary(task_of(config)))
    splits = dataset.load(task)
    if told := splits["train"].left_out:
        display.line(f"{task.data}: {told}")
    model = build_model(task, config, splits["train"], served)
    display.line(memory_table(model.config, config))
    check_forecastable(splits, config.window_steps, task.season_steps)
    check_writable(config.models_dir, str(config.name))
    display.line(
        f"{task.name}: {' -> '.join(config.layers)}, {model.count_params():,} weights; "
        + ", ".join(f"{name} {len(split):,} rows" for name, split in splits.items())
    )
    trainer = Trainer(model, splits, config)
    if saved:
        trainer.restore(saved)
    return Training(config, task, splits, trainer)


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


def _train(training: Training, folder: CheckpointFolder, display: Display) -> None:
    trainer, config = training.trainer, training.config
    display.training(trainer, find_devices(config.devices))
    try:
        number = fit(trainer, folder, display, EventLog(config.log_dir))
    except Diverged as error:
        hint = f"; {again(config, 'export_best')} exports the best before"
        raise ValueError(f"{error}{hint if trainer.progress.best else ''}") from error
    if number is not None:
        raise Interrupted(number, _stopped(config, trainer.progress))


def _stopped(config: TrainConfig, progress: Progress) -> str:
    """What is left of a training that was interrupted, and how to go on."""
    if progress.update == 0:
        return "stopped: nothing was learnt yet"
    best = f"; the best validation error so far is {progress.best_error:.4f}"
    return (
        f"stopped at update {progress.update:,}{best if progress.best else ''}\n"
        f"to go on:           {again(config, 'resume')}\n"
        f"to export the best: {again(config, 'export_best')}"
    )


def _finish_or_tell(training: Training, display: Display) -> tuple[Path, Skill]:
    """As `_finish`; an error tells that the training is not lost."""
    try:
        return _finish(training, display)
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{error}; {again(training.config, 'resume')} tries again") from error


def _finish(training: Training, display: Display) -> tuple[Path, Skill]:
    """Evaluates and exports the best weights."""
    task, splits, config, trainer = (
        training.task,
        training.splits,
        training.config,
        training.trainer,
    )
    model, steps, size = trainer.model, config.window_steps, config.batch_size
    trainer.take_best()
    display.phase("evaluating")
    skill = evaluate(model, splits, steps, task.season_steps, size)
    display.phase("exporting")

    def write_card(folder: Path, manifest: dict[str, Any]) -> None:
        history = trainer.progress.history
        model_card.write_pictures(folder, model, splits, task, history, steps, size)
        model_card.write_card(folder, manifest, task, splits, skill, steps)
        (folder / TASK).write_text(task_text(task), encoding="utf-8")
        (folder / OPTIONS).write_text(options_text(config), encoding="utf-8")

    details = {
        **describe_training(task, config, skill, trainer.progress, len(trainer.batches)),
        "example": example(splits["test"], model.features, task.example_steps),
    }
    exported = export_model(model, config.models_dir, str(config.name), details, write_card)
    return exported, skill
