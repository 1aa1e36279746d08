"""Writes a task as a commented TOML file: to be edited, or kept beside a model."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import tomlkit
from tomlkit.items import AoT, Item

from model.network_config import Frozen
from model.tasks.task import TaskConfig

# What stands behind a key of the task.
MEANINGS = {
    "name": "the model's name",
    "source": "where the data is from, for the model card",
    "decimal": "what stands before the decimals",
    "missing_values": "stand for no number, besides NA, NaN, null and the like",
    "time": "column of times",
    "time_of_day": "column of the time of day, where that has the date alone",
    "time_unit": "what its numbers count from 1970-01-01 UTC",
    "time_format": "how it is written, as of strptime",
    "timezone": "of times without an offset",
    "every": "step of the grid that rows are put on",
    "every_rules": "what becomes of a column there: mean, last or sum",
    "time_step_s": "seconds from row to row; any other difference is a gap",
    "time_step": "from row to row; any other difference is a gap",
    "series": "column that tells one series from another",
    "season_steps": "time steps of a season, for the baseline",
    "train_fraction": "of the time covered",
    "validation_fraction": "what is left is the test split",
    "example_steps": "rows of the example in the manifest",
}
# Of the first feature and the first output that have it.
OF_ENTRIES = {
    "column": "of the table",
    "unit": "as callers send it",
    "period": "of sine and cosine",
    "kind": "number, cyclic, flag or category",
    "missing": "callers may send null",
    "ahead": "known so many time steps before",
    "static": "the same in all rows of a series",
    "calendar": "made of the row's time; callers send it",
    "horizon": "time steps ahead",
    "change": "predict the change from now",
}
# The column at which comments begin, where a line is shorter.
COMMENT_AT = 37
FIRST = ("name", "description", "source", "data", "decimal", "missing_values")
# Said although it is the default: who edits the file may want another.
ALWAYS = {"season_steps", "train_fraction", "validation_fraction"}


def task_text(task: TaskConfig, left_out: Mapping[str, str] | None = None) -> str:
    """A task as TOML.

    Args:
        task: to write.
        left_out: columns of the table that it does not use, each with the reason.

    Returns:
        A text of which `load_task` makes the same task.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment("What to forecast from which table, for --task. docs/tasks.md"))
    document.add(tomlkit.comment("explains every key, also those that are not here."))
    fields = _fields(task, ALWAYS)
    for name in sorted(fields, key=lambda name: name not in FIRST):
        if name not in ("features", "outputs"):
            value = fields[name]
            document.add(name, _commented(name, value, MEANINGS.get(name)))
    if left_out:
        document.add(tomlkit.nl())
        document.add(tomlkit.comment("Columns that are not used:"))
        for column, why in left_out.items():
            document.add(tomlkit.comment(f"{_one_line(column)}: {_one_line(why)}"))
    document.add(tomlkit.nl())
    said: set[str] = set()
    document.add("features", _entries(task.features, said))
    document.add("outputs", _entries(task.outputs, said))
    return re.sub(r"\n{3,}", "\n\n", tomlkit.dumps(document)).rstrip() + "\n"


def _fields(entry: Frozen, always: set[str]) -> dict[str, Any]:
    """What is said of it: all but defaults, in the order of its fields."""
    kept = {}
    for name, field in type(entry).model_fields.items():
        value = getattr(entry, name)
        if value is None or (value in (field.default, (), {}) and name not in always):
            continue
        kept[name] = value
    return kept


def _entries(entries: tuple[Frozen, ...], said: set[str]) -> AoT:
    found = tomlkit.aot()
    for entry in entries:
        table = tomlkit.table()
        fields = _fields(entry, {"unit"} if getattr(entry, "is_measured", True) else set())
        if fields.get("column") == fields.get("name"):
            fields.pop("column", None)
        for name, value in fields.items():
            comment = None if name in said else OF_ENTRIES.get(name)
            said.add(name)
            table.add(name, _commented(name, value, comment))
        table.add(tomlkit.nl())
        found.append(table)
    return found


def _commented(name: str, value: Any, comment: str | None) -> Item:
    item: Item = tomlkit.item(_plain(value))
    if comment:
        item.comment(comment)
        item.trivia.comment_ws = " " * max(2, COMMENT_AT - len(f"{name} = {item.as_string()}"))
    return item


def _plain(value: Any) -> Any:
    """A value as TOML has it; whole numbers without a point."""
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        inline.update({name: _plain(part) for name, part in value.items()})
        return inline
    return value


def _one_line(text: str) -> str:
    """A text that can stand in a comment."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())
