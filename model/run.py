"""A training from the table to the exported model. Wiring only; `train.py` calls it.

load -> train with early stopping -> evaluate against the baselines -> export with a model card
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from model.config import RNNConfig
from model.data import dataset
from model.evaluation import model_card
from model.evaluation.description import describe_training, example, print_skill
from model.evaluation.forecastable import check_forecastable
from model.evaluation.skill import evaluate
from model.export.saved_model import export_model
from model.export.versions import check_writable
from model.network.sequence_model import SequenceModel
from model.placement.device_setup import memory_table, needed, place, prepare_devices
from model.placement.devices import find_devices
from model.placement.plan import explain, plan_replicas
from model.tasks.task import TaskConfig, load_task
from model.train_config import TrainConfig
from model.training.fit import fit
from model.transforms import Feature, Output, num_inputs


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


def build_model(task: TaskConfig, config: TrainConfig, train: dataset.Split) -> SequenceModel:
    """The network for a task, with its transforms fitted on the training split.

    Raises:
        PlacementError: its layers cannot be placed as asked.
    """
    features, outputs = dataset.fit_features(task, train), dataset.fit_outputs(task, train)
    network = network_config(config, features, outputs)
    placements = needed(place(network, config))
    return SequenceModel(
        network, features, outputs, placements, config.chunk_steps, seed=config.seed
    )


def explain_placement(config: TrainConfig) -> None:
    """Prints which layer would go where, as a table.

    Raises:
        PlacementError: not as asked; or there is too little memory, of which the table is printed
            before.
    """
    prepare_devices(config)
    task = load_task(config.task)
    train = dataset.load(task)["train"]
    features, outputs = dataset.fit_features(task, train), dataset.fit_outputs(task, train)
    network = network_config(config, features, outputs)
    print(explain(plan_replicas(network, find_devices(config.devices), config.replicas)))
    print(memory_table(network, config))
    place(network, config)


def run(config: TrainConfig, verbose: str | int = "auto") -> Path:
    """Trains, evaluates and exports; prints the skill table.

    Returns:
        The exported folder.

    Raises:
        OSError, ValueError: the task or its table cannot be used, the models' folder cannot be
            written, or training diverged.
    """
    prepare_devices(config)
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    task = load_task(config.task)
    splits = dataset.load(task)
    if told := splits["train"].left_out:
        print(f"{task.data}: {told}", flush=True)
    model = build_model(task, config, splits["train"])
    print(memory_table(model.config, config), flush=True)
    # What would fail after training fails now.
    steps, name = config.window_steps, config.name or task.name
    check_forecastable(splits, steps, task.season_steps)
    check_writable(config.models_dir, name)
    print(
        f"{task.name}: {' -> '.join(config.layers)}, {model.count_params():,} weights; "
        + ", ".join(f"{name} {len(split):,} rows" for name, split in splits.items()),
        flush=True,
    )
    started = time.monotonic()
    history = fit(model, splits, config, verbose)
    seconds = time.monotonic() - started
    if not np.isfinite([*history["loss"], *history["val_loss"]]).all():
        raise ValueError("training diverged: lower --learning-rate or --clip-norm")
    skill = evaluate(model, splits, steps, task.season_steps, config.batch_size)

    def write_card(folder: Path, manifest: dict[str, Any]) -> None:
        model_card.write_pictures(folder, model, splits, task, history, steps, config.batch_size)
        model_card.write_card(folder, manifest, task, splits, skill, steps)

    details = {
        **describe_training(task, config, skill, history, seconds),
        "example": example(splits["test"], model.features, task.example_steps),
    }
    folder = export_model(model, config.models_dir, name, details, write_card)
    print_skill(skill, task, steps)
    print(f"\nExported to {folder} after {seconds:.0f} s of training")
    return folder
