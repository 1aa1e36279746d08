"""From the options to data and models: what a training is begun with."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from model.data import dataset
from model.data.draft import summary, task_of
from model.evaluation.evaluation_rows import check_forecastable
from model.evaluation.table_report import inspect
from model.export.exported_model_reader import ServedModel, read_served
from model.export.versions import check_writable
from model.network.sequence_model import SequenceModel
from model.network_config import RNNConfig
from model.placement.device_setup import memory_table, needed, place, prepare_devices
from model.placement.devices import find_devices
from model.placement.plan import explain, plan_replicas
from model.tasks.task import TaskConfig
from model.tasks.task_writer import task_text
from model.train_arguments import Command
from model.train_config import Recipe, TrainConfig
from model.training.candidates import candidates
from model.training.changes import choose_changes
from model.training.display import Display
from model.training.linear_start import begin_linear, lagged_inputs
from model.training.recipe import choose_recipe, longest_past_of_all, past_steps
from model.training.trainer import Trainer
from model.transforms import Feature, Output, num_inputs

# Of a table that goes to a file.
PRINTED_WIDTH = 120


@dataclass(frozen=True)
class Preparation:
    """What a training works on.

    Attributes:
        recipe: all options.
        recipes: those to try, of which the one with the smallest validation error is exported.
        task, splits: the data.
        served: the version to begin from, if one was given.
    """

    recipe: Recipe
    recipes: tuple[Recipe, ...]
    task: TaskConfig
    splits: dict[str, dataset.Split]
    served: ServedModel | None

    def trainer(self, index: int = 0) -> Trainer:
        """A model for one of `recipes`, with the weights to begin from.

        Raises:
            PlacementError: its layers cannot be placed as asked.
            ValueError: the version has other columns than the task.
        """
        recipe = self.recipes[index]
        keras.utils.set_random_seed(recipe.seed)
        model = build_model(self.task, recipe, self.splits["train"], self.served)
        scale = None
        if recipe.linear_start:
            # What is learnt on from there is to be better for every output, not for the one alone
            # that is hardest to forecast.
            lagged = lagged_inputs(self.task, model.features)
            scale = begin_linear(model, self.splits, lagged)
        trainer = Trainer(model, self.splits, recipe, self.recipe, scale)
        trainer.progress.candidate = index
        return trainer


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
    config: Recipe,
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
    config: TrainConfig, served: ServedModel | None, display: Display, part: float = 1.0
) -> Preparation:
    """Reads the data and chooses what was not given; what would fail after training fails now.

    Args:
        config: as given, with a name.
        served: the version to begin from, if one was given.
        display: where it is told.
        part: of the table's time, see `dataset.load`.

    Raises:
        OSError, ValueError: the task or its table cannot be used, the layers cannot be placed, or
            the models' folder cannot be written.
    """
    prepare_devices(config)
    tf.config.experimental.enable_op_determinism()
    draft = task_of(config)
    task = draft.task
    display.phase(f"reading {task.data}")
    if config.data is not None:
        display.line(summary(draft))
    transforms = (served.features, served.outputs) if served else None
    splits = dataset.load(
        task, part, transforms, past_steps(config.window_steps, task.season_steps)
    )
    if told := splits["train"].left_out:
        display.line(f"{task.data}: {told}")
    if (chosen := choose_changes(task, splits, served.outputs if served else ())) != task:
        task = chosen
        display.line(_told_changes(task))
    recipe = choose_recipe(config, splits, task.season_steps)
    lagged = lagged_inputs(task, dataset.fit_features(task, splits["train"]))
    tried = candidates(recipe, lagged, task.season_steps, longest_past_of_all(splits))
    found = Preparation(recipe, tried, task, splits, served)
    model = build_model(task, found.recipes[-1], splits["train"], served)
    display.line(memory_table(model.config, recipe))
    check_forecastable(splits, recipe.window_steps, task.season_steps)
    check_writable(config.models_dir, str(config.name))
    display.line(_told(found, model.count_params()))
    return found


def _told(prepared: Preparation, weights: int) -> str:
    """What is trained on what, in two lines."""
    recipe, splits = prepared.recipe, prepared.splits
    rows = ", ".join(f"{name} {split.own.sum():,} rows" for name, split in splits.items())
    return (
        f"{prepared.task.name}: {' -> '.join(recipe.layers)}, {weights:,} weights; {rows}\n"
        f"{recipe.updates:,} updates at most, of {recipe.batch_size} windows of "
        f"{recipe.window_steps} time steps; seed {recipe.seed}"
    )


def _told_changes(task: TaskConfig) -> str:
    """Which outputs are learnt as changes, and which as levels."""
    kinds = {"changes": True, "levels": False}
    found = {
        kind: [o.name for o in task.outputs if o.change is each] for kind, each in kinds.items()
    }
    return "learnt as " + "; as ".join(
        f"{kind}: {', '.join(names)}" for kind, names in found.items() if names
    )


def explain_placement(config: TrainConfig) -> None:
    """Prints which layer would go where, as a table.

    Raises:
        PlacementError: not as asked; or there is too little memory, of which the table is printed
            before.
    """
    prepare_devices(config)
    task = task_of(config).task
    past = past_steps(config.window_steps, task.season_steps)
    splits = dataset.load(task, past_steps=past)
    train, recipe = splits["train"], choose_recipe(config, splits, task.season_steps)
    features, outputs = dataset.fit_features(task, train), dataset.fit_outputs(task, train)
    room = longest_past_of_all(splits)
    recipe = candidates(recipe, lagged_inputs(task, features), task.season_steps, room)[-1]
    network = network_config(recipe, features, outputs)
    print(explain(plan_replicas(network, find_devices(config.devices), config.replicas)))
    print(memory_table(network, recipe))
    place(network, recipe)


def understand(command: Command) -> None:
    """Prints what was understood of the table, and writes the task, as is asked for.

    Raises:
        OSError, ValueError: the table cannot be used; or there is a task file already.
    """
    draft = task_of(command.config)
    if command.inspect:
        width = None if sys.stdout.isatty() else PRINTED_WIDTH
        inspect(draft, command.config.window_steps, Console(width=width))
    if command.write_task is not None:
        with command.write_task.open("x", encoding="utf-8") as file:
            file.write(task_text(draft.task, draft.left_out))
        print(f"wrote {command.write_task}: python -m model.train --task {command.write_task}")
