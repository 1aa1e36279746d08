"""What the manifest and the terminal tell of a training: its options, its errors, an example."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.data import dataset
from model.data.column_encoding import Sent, as_callers_send
from model.evaluation.skill import Comparison, Skill
from model.evaluation.tables import comparison_table, skill_table, verdicts
from model.tasks.task import TaskConfig
from model.train_config import Recipe
from model.training.checkpoint import Progress
from model.transforms import Feature


def describe_training(
    task: TaskConfig,
    config: Recipe,
    steps: int,
    skill: Skill,
    progress: Progress,
    updates_of_pass: int,
) -> dict[str, Any]:
    """The part of the manifest that tells of the task, the training and the test.

    Args:
        task, config: what was asked for.
        steps: time steps that each forecast was made from.
        skill: what came of it.
        progress: of the training.
        updates_of_pass: batches of a pass over the training windows.
    """
    return {
        "description": task.description,
        "time_step_s": task.time_step_s,
        "time_step": task.time_step,
        "metrics": _metrics(skill, [output.name for output in task.outputs], steps),
        "training": {
            "config": config.model_dump(mode="json", by_alias=True),
            "updates": progress.update,
            "epochs": round(progress.update / updates_of_pass, 2),
            "seconds": round(progress.seconds, 1),
            "history": progress.history,
        },
    }


def _metrics(skill: Skill, names: list[str], steps: int) -> dict[str, Any]:
    """The errors on the test split, and how they are beside the baselines' on both."""
    return {
        "split": "test",
        "forecasts": skill.test.num_forecasts,
        "past_steps": steps,
        "mean_absolute_error": {
            method: dict(zip(names, map(five_digits, errors), strict=True))
            for method, errors in skill.test.errors.items()
        },
        "against_baselines": {
            split: {
                method: dict(zip(names, _ends(comparison), strict=True))
                for method, comparison in each.comparisons.items()
            }
            for split, each in (("validation", skill.validation), ("test", skill.test))
        },
    }


def _ends(comparison: Comparison) -> list[list[float | None]]:
    """Of each output the difference, as a part, and the ends of its interval."""
    numbers = np.stack([comparison.difference, *comparison.interval], axis=1)
    return [[five_digits(number) for number in row] for row in numbers]


def print_skill(skill: Skill, task: TaskConfig, steps: int) -> None:
    """Prints the errors on the test split, and whether the model beats the baselines."""
    names = [output.name for output in task.outputs]
    units = ", ".join(dict.fromkeys(o.unit for o in task.outputs if o.unit))
    print(f"\nTest split, {skill.test.num_forecasts:,} forecasts from {steps} past time steps:\n")
    print(skill_table(skill.test, names, units))
    print("\nThe model's error less each baseline's (and its interval of 95 %):\n")
    print(comparison_table(skill, names))
    for note in (*skill.notes, *verdicts(skill, names)):
        print(f"\n{note}")


def five_digits(error: float) -> float | None:
    """An error of any magnitude for the manifest; None where it is no number, as JSON has none."""
    return float(f"{error:.5g}") if np.isfinite(error) else None


def example(split: dataset.Split, features: Sequence[Feature], steps: int) -> list[list[Sent]]:
    """Real rows in a row `[T, F]` as callers send them, null where missing, for documentation."""
    places = np.arange(len(split))
    own = np.maximum.accumulate(np.where(split.own, 0, places + 1))
    past = places - np.maximum(split.run_starts, own) + 1
    end = int(np.argmax(np.minimum(past, steps)))
    rows = split.features[end - min(past[end], steps) + 1 : end + 1]
    return as_callers_send(features, rows)
