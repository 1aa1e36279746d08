"""Errors and comparisons as people read them: Markdown tables, and plain lines."""

import numpy as np

from model.evaluation.skill import Comparison, Skill, SplitSkill

ADVICE = (
    "What may help: a longer --window-steps, more --updates, a longer table, or "
    "features that tell what comes; else the simple forecast is the one to use"
)


def readable(error: float, decimals: int = 2) -> str:
    """An error for people: with these decimals, or if it is small with three digits."""
    return f"{error:.{decimals}f}" if error == 0 or error >= 0.1 else f"{error:.3g}"


def with_unit(name: str, unit: str) -> str:
    """What a number is, and its unit in brackets if it has one."""
    return f"{name} ({unit})" if unit else name


def skill_table(skill: SplitSkill, names: list[str], unit: str) -> str:
    """The errors as a Markdown table, one row a method; `-` where it has no forecast."""
    head = [with_unit("mean absolute error", unit), *names]
    rows = [[method, *map(_cell, errors)] for method, errors in skill.errors.items()]
    return _table(head, rows)


def comparison_table(skill: Skill, names: list[str]) -> str:
    """The model's error less each baseline's in percent, with its interval, on both splits."""
    rows = []
    for split, each in (("validation", skill.validation), ("test", skill.test)):
        for method, comparison in each.comparisons.items():
            ends = zip(comparison.difference, *comparison.interval, strict=True)
            rows.append([f"{method}, {split}", *(_percent(*numbers) for numbers in ends)])
    return _table(["model against", *names], rows)


def backtest_table(found: list[tuple[str, Skill]], names: list[str]) -> str:
    """The model's error on each test split, and how much that is beside the best baseline's.

    Args:
        found: when each test split begins, and how well the model did.
        names: of the outputs.
    """
    rows = []
    for begins, skill in found:
        model, *others = skill.test.errors.values()
        best = np.nanmin(others, axis=0) if others else np.full(len(names), np.nan)
        cells = [
            f"{_cell(error)} ({100 * (error / other - 1):+.1f} %)"
            for error, other in zip(model, best, strict=True)
        ]
        rows.append([begins, *cells])
    return _table(["test split from", *names], rows)


def verdicts(skill: Skill, names: list[str]) -> list[str]:
    """A line for each output of which the model is not better than every baseline, and advice."""
    lines = []
    for index, name in enumerate(names):
        told = [
            f"{method} ({', '.join(splits)})"
            for method in skill.test.comparisons
            if (splits := _not_better(skill, method, index))
        ]
        if told:
            lines.append(f"{name}: the model is not surely better than {'; '.join(told)}")
    return [*lines, ADVICE] if lines else []


def _not_better(skill: Skill, method: str, output: int) -> list[str]:
    """On which splits the model is worse, or not surely better, and by how much."""
    found = []
    for split, each in (("validation", skill.validation), ("test", skill.test)):
        comparison: Comparison = each.comparisons[method]
        difference, (_, high) = comparison.difference[output], comparison.interval[:, output]
        if np.isnan(difference) or (difference < 0 and (np.isnan(high) or high < 0)):
            continue
        found.append(f"{split} {100 * difference:+.1f} %")
    return found


def _percent(difference: float, low: float, high: float) -> str:
    if np.isnan(difference):
        return "-"
    ends = "" if np.isnan(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * difference:+.1f} %{ends}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(error: float) -> str:
    return "-" if np.isnan(error) else readable(error)
