"""`python -m model.train`: table in, exported model out. Wiring only.

load -> train with early stopping -> evaluate against the baselines -> export with a model card
"""

import argparse
import os
import sys
import time
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# TensorFlow reads it when it is imported: its C++ notes would bury the progress bar.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from pydantic import ValidationError

from model import data, report
from model.config import RNNConfig, TrainConfig
from model.evaluate import check_forecastable, evaluate, skill_table
from model.export import check_writable, existing_versions, export_model
from model.network import SequenceModel
from model.task import TaskConfig, load_task


def masked_error(scale: np.ndarray) -> Any:
    """Mean absolute error over known targets, each output in units of its own spread.

    The absolute error is what the skill table reports, and a storm's large error does not outweigh
    a week of small ones.

    Args:
        scale: float32 `[O]`, the spread of each output.
    """

    def loss(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        known = tf.math.is_finite(targets)
        error = tf.abs(tf.where(known, targets, 0.0) - outputs) / scale
        total = tf.reduce_sum(tf.where(known, error, 0.0))
        return total / tf.maximum(tf.reduce_sum(tf.cast(known, tf.float32)), 1.0)

    return loss


def build_model(task: TaskConfig, config: TrainConfig, train: data.Split) -> SequenceModel:
    """The network for a task, with its transforms fitted on the training split."""
    features, outputs = data.fit_features(task, train), data.fit_outputs(task, train)
    network = RNNConfig(
        layers=config.layer_configs(),
        num_inputs=sum(feature.num_inputs for feature in features),
        num_outputs=len(outputs),
        variational_dropout=config.variational_dropout,
        input_noise=config.input_noise,
    )
    return SequenceModel(network, features, outputs, seed=config.seed)


def fit(
    model: SequenceModel, splits: dict[str, data.Split], config: TrainConfig, verbose: str | int
) -> dict[str, list[float]]:
    """Trains until the validation error stops falling and keeps the best weights.

    Returns:
        Loss by epoch, `loss` and `val_loss`.
    """
    steps, stride = config.window_steps, config.stride_steps
    train = data.batches(
        splits["train"],
        data.windows(splits["train"], steps, stride),
        steps,
        config.batch_size,
        shuffle_seed=config.seed,
    )
    # Windows half a window apart: each hour is forecast with little and with much behind it.
    validation = data.batches(
        splits["validation"],
        data.windows(splits["validation"], steps, steps // 2),
        steps,
        config.batch_size,
    )
    model.compile(
        optimizer=_optimizer(config, config.epochs * train.cardinality().numpy()),
        loss=masked_error(np.array([o.transform.std for o in model.outputs_spec], np.float32)),
        # The loop over time compiles for minutes under XLA with its gradient, and is no faster.
        jit_compile=False,
    )
    callbacks = [keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True)]
    if config.average_momentum > 0:
        # First, so that early stopping keeps the average that was validated.
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    history = model.fit(
        train,
        validation_data=validation,
        epochs=config.epochs,
        callbacks=callbacks,
        shuffle=False,  # the batches are shuffled already
        verbose=verbose,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def _optimizer(config: TrainConfig, num_batches: int) -> keras.optimizers.Optimizer:
    warmup = int(config.warmup_fraction * num_batches)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        num_batches - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
        use_ema=config.average_momentum > 0,
        ema_momentum=config.average_momentum or 0.99,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def run(config: TrainConfig, verbose: str | int = "auto") -> Path:
    """Trains, evaluates and exports; prints the skill table.

    Returns:
        The exported folder.

    Raises:
        OSError, ValueError: the task or its table cannot be used, the models' folder cannot be
            written, or training diverged.
    """
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    task = load_task(config.task)
    splits = data.load(task)
    model = build_model(task, config, splits["train"])
    # What would fail after training fails now.
    steps, name = config.window_steps, config.name or task.name
    check_forecastable(splits, steps)
    check_writable(config.models_dir, name)
    names = [output.name for output in task.outputs]
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
    skill = evaluate(model, splits, steps, task.day_steps)
    details = {
        "description": task.description,
        "time_step_s": task.time_step_s,
        "metrics": {
            "split": "test",
            "forecasts": skill.num_forecasts,
            "past_steps": steps,
            "mean_absolute_error": {
                method: {n: round(float(e), 4) for n, e in zip(names, errors, strict=True)}
                for method, errors in skill.errors.items()
            },
        },
        "training": {
            "config": config.model_dump(mode="json"),
            "epochs": len(history["loss"]),
            "seconds": round(seconds, 1),
            "history": history,
        },
        "example": example(splits["test"], task.example_steps),
    }

    def write_card(folder: Path, manifest: dict[str, Any]) -> None:
        report.write_pictures(folder, model, splits, task, history, steps)
        report.write_card(folder, manifest, task, splits, skill, steps)

    folder = export_model(model, config.models_dir, name, details, write_card)
    units = ", ".join(dict.fromkeys(output.unit for output in task.outputs))
    print(f"\nTest split, {skill.num_forecasts:,} forecasts from {steps} past time steps:\n")
    print(skill_table(skill, names, units))
    print(f"\nExported to {folder} after {seconds:.0f} s of training")
    return folder


def example(split: data.Split, steps: int) -> list[list[float | None]]:
    """Real rows in a row `[T, F]`, null where missing, for documentation and probes."""
    past = np.arange(len(split)) - split.run_starts + 1
    end = int(np.argmax(np.minimum(past, steps)))
    rows = split.features[end - min(past[end], steps) + 1 : end + 1]
    return [[None if np.isnan(x) else float(str(x)) for x in row] for row in rows]


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[TrainConfig, bool]:
    """Reads the command line; each field of `TrainConfig` is an option.

    Returns:
        The configuration, and whether to train only if there is no model yet.
    """
    parser = argparse.ArgumentParser(
        prog="python -m model.train",
        description="Train a deep recurrent network and export it as a SavedModel.",
    )
    for name, field in TrainConfig.model_fields.items():
        flag, default = f"--{name.replace('_', '-')}", field.default
        many = typing.get_origin(field.annotation) is tuple
        shown = " ".join(map(str, default)) if many else default
        known = "" if default is None else f" (default: {shown})"
        help_text = f"{field.description}{known}".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text)
        elif many:
            parser.add_argument(flag, nargs="+", metavar=name.upper(), help=help_text)
        else:
            parser.add_argument(flag, metavar=name.upper(), help=help_text)
    parser.add_argument(
        "--only-if-missing",
        action="store_true",
        help="do nothing where a version is exported already",
    )
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    only_if_missing = given.pop("only_if_missing")
    try:
        config = TrainConfig.model_validate(given)
        config.layer_configs()
    except ValidationError as error:
        first = error.errors()[0]
        flag = str(first["loc"][0]).replace("_", "-")
        parser.error(f"--{flag}: {first['msg']}, but got {first['input']!r}")
    except ValueError as error:
        parser.error(f"--layers: {error}")
    return config, only_if_missing


def main() -> int:
    """The command; returns the exit status."""
    config, only_if_missing = parse_arguments()
    try:
        if only_if_missing:
            name = config.name or load_task(config.task).name
            if versions := existing_versions(config.models_dir / name):
                print(f"{config.models_dir / name} has version {versions[-1]}: nothing to train")
                return 0
        run(config, verbose="auto" if sys.stdout.isatty() else 2)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
