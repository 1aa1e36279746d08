"""`python -m model.train`: table in, exported model out. Wiring only.

load -> train with early stopping -> evaluate against the baselines -> export with a model card
"""

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# TensorFlow reads these when it is imported: its C++ notes would bury the progress bar, and oneDNN
# has the faster products also on the processors on which it is off by itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf

from model.command import parse_arguments
from model.config import RNNConfig, TrainConfig
from model.data import dataset
from model.evaluation import model_card
from model.evaluation.skill import Skill, check_forecastable, evaluate, skill_table
from model.export.saved_model import export_model
from model.export.versions import check_writable, existing_versions
from model.network.sequence_model import SequenceModel
from model.placement.devices import find_devices, free_bytes, share_cores, split_devices
from model.placement.gpus import check_usable, full_name, take_memory_as_needed, why_no_gpu
from model.placement.plan import Placement, check_memory, explain, memory_needed, plan_replicas
from model.tasks.task import TaskConfig, load_task
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


def prepare_devices(config: TrainConfig) -> None:
    """Sets up TensorFlow's devices and threads, which can be done before its first use only.

    Raises:
        PlacementError: it is too late to split the devices.
    """
    take_memory_as_needed()
    share_cores(len(config.layers))
    tf.config.experimental.enable_tensor_float_32_execution(config.tensor_float_32)
    if config.logical_devices > 1:
        split_devices(config.logical_devices, config.devices)
    if config.devices == ("auto",) and (why := why_no_gpu()):
        print(f"note: {why}; the CPU trains", file=sys.stderr, flush=True)


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


def place(network: RNNConfig, config: TrainConfig) -> tuple[Placement, ...]:
    """Where the layers go on this machine.

    Raises:
        PlacementError: not as asked, there is too little memory, or a GPU does not compute.
    """
    devices = find_devices(config.devices)
    placements = plan_replicas(network, devices, config.replicas)
    check_memory(placements, free_bytes(devices), config.batch_size, config.window_steps)
    for device in devices:
        if device.startswith("GPU:"):
            check_usable(device)
    return placements


def memory_table(network: RNNConfig, config: TrainConfig) -> str:
    """What training takes of each device's memory, a line each."""
    devices = find_devices(config.devices)
    placements = plan_replicas(network, devices, config.replicas)
    free = free_bytes(devices)
    needed = memory_needed(placements, config.batch_size, config.window_steps)
    return "\n".join(
        f"{full_name(memory)}: takes at least {size / 2**30:.3g} GiB of "
        f"{free[memory] / 2**30:.3g} GiB free"
        for memory, size in needed.items()
    )


def needed(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
    """None for a plan that is what TensorFlow does by itself.

    The graph that is exported then asks for no device.
    """
    used = {device for placement in placements for device in placement.devices}
    return () if used == {find_devices(("auto",))[0]} else placements


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
    check_forecastable(splits, steps, task.day_steps)
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
    skill = evaluate(model, splits, steps, task.day_steps, config.batch_size)

    def write_card(folder: Path, manifest: dict[str, Any]) -> None:
        model_card.write_pictures(folder, model, splits, task, history, steps, config.batch_size)
        model_card.write_card(folder, manifest, task, splits, skill, steps)

    details = {
        **describe_training(task, config, skill, history, seconds),
        "example": example(splits["test"], task.example_steps),
    }
    folder = export_model(model, config.models_dir, name, details, write_card)
    print_skill(skill, task, steps)
    print(f"\nExported to {folder} after {seconds:.0f} s of training")
    return folder


def describe_training(
    task: TaskConfig,
    config: TrainConfig,
    skill: Skill,
    history: dict[str, list[float]],
    seconds: float,
) -> dict[str, Any]:
    """The part of the manifest that tells of the task, the training and the test."""
    names = [output.name for output in task.outputs]
    return {
        "description": task.description,
        "time_step_s": task.time_step_s,
        "metrics": {
            "split": "test",
            "forecasts": skill.num_forecasts,
            "past_steps": config.window_steps,
            "mean_absolute_error": {
                method: dict(zip(names, map(five_digits, errors), strict=True))
                for method, errors in skill.errors.items()
            },
        },
        "training": {
            "config": config.model_dump(mode="json"),
            "epochs": len(history["loss"]),
            "seconds": round(seconds, 1),
            "history": history,
        },
    }


def print_skill(skill: Skill, task: TaskConfig, steps: int) -> None:
    """Prints the errors on the test split, each forecast from so many time steps."""
    units = ", ".join(dict.fromkeys(output.unit for output in task.outputs))
    print(f"\nTest split, {skill.num_forecasts:,} forecasts from {steps} past time steps:\n")
    print(skill_table(skill, [output.name for output in task.outputs], units))
    for note in skill.notes:
        print(f"\n{note}")


def five_digits(error: float) -> float | None:
    """An error of any magnitude for the manifest; None where it is no number, as JSON has none."""
    return float(f"{error:.5g}") if np.isfinite(error) else None


def example(split: dataset.Split, steps: int) -> list[list[float | None]]:
    """Real rows in a row `[T, F]`, null where missing, for documentation and probes."""
    past = np.arange(len(split)) - split.run_starts + 1
    end = int(np.argmax(np.minimum(past, steps)))
    rows = split.features[end - min(past[end], steps) + 1 : end + 1]
    return [[None if np.isnan(x) else float(str(x)) for x in row] for row in rows]


# What stands before the cause, where a graph failed: a heading, and where the node was made.
NO_CAUSE = ("Graph execution error", "Detected at node", "<stack traces", " ", "\t")


def _cause(error: tf.errors.OpError) -> str:
    """What failed, in one line."""
    lines = [line for line in str(error.message).splitlines() if line]
    return next((line for line in lines if not line.startswith(NO_CAUSE)), " ".join(lines[:1]))


def _device_in(error: tf.errors.OpError) -> str:
    """The device that an error of TensorFlow names, such as `GPU:0`."""
    found = re.search(r"(?:device:|/)((?:GPU|CPU):\d+)", str(error.message))
    return full_name(found[1]) if found else "a device"


def main() -> int:
    """The command; returns the exit status."""
    command = parse_arguments()
    config = command.config
    try:
        if command.explain_placement:
            explain_placement(config)
            return 0
        if command.only_if_missing:
            name = config.name or load_task(config.task).name
            if versions := existing_versions(config.models_dir / name):
                print(f"{config.models_dir / name} has version {versions[-1]}: nothing to train")
                return 0
        run(config, verbose="auto" if sys.stdout.isatty() else 2)
    except tf.errors.ResourceExhaustedError as error:
        print(
            f"error: {_device_in(error)} has no memory left: lower --batch-size or --window-steps, "
            f"or give more devices ({_cause(error)})",
            file=sys.stderr,
        )
        return 1
    except tf.errors.OpError as error:
        print(f"error: {_device_in(error)} failed: {_cause(error)}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
