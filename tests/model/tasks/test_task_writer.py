"""Tasks written as TOML: read again, they are the same."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tasks.task import TaskConfig, load_task
from model.tasks.task_writer import task_text
from tests.model.tables import task_fields

WEATHER = Path(__file__).parents[3] / "model" / "tasks" / "weather.toml"
# Any text that TOML can hold: it has no half of a pair of UTF-16.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def again(task: TaskConfig, folder: Path, **how: Any) -> TaskConfig:
    path = folder / "task.toml"
    path.write_text(task_text(task, **how), encoding="utf-8")
    return load_task(path)


def test_the_task_of_the_project_is_the_same_when_written(tmp_path: Path) -> None:
    task = load_task(WEATHER)
    assert again(task, tmp_path) == task


@given(
    description=texts,
    unit=texts,
    column=texts.filter(lambda text: text != "time"),
    why=st.text(max_size=30),
    missing=st.lists(texts, max_size=3),
    step=st.floats(1e-9, 1e9),
)
@settings(max_examples=100)
def test_any_task_is_the_same_when_written(
    tmp_path_factory: pytest.TempPathFactory,
    description: str,
    unit: str,
    column: str,
    why: str,
    missing: list[str],
    step: float,
) -> None:
    fields = task_fields(Path("a table.csv"), description=description, time_step_s=step)
    fields |= {"missing_values": missing, "decimal": ","}
    fields["features"][1] |= {"unit": unit, "column": column, "minimum": -step, "maximum": step}
    task = TaskConfig.model_validate(fields)
    assert again(task, tmp_path_factory.mktemp("task"), left_out={column: why}) == task


@pytest.mark.parametrize(
    "clock",
    [
        {"time_step": "month"},
        {"time_step": 0.5},
        {"every": "5min", "time_step_s": 300, "every_rules": {"temp": "sum", "a b": "last"}},
        {"time_step_s": 1, "time_unit": "ms"},
        {"time_step_s": 60, "time_format": "%d.%m.%Y", "timezone": "Europe/Berlin"},
        {"time": None},
    ],
)
def test_every_clock_is_the_same_when_written(tmp_path: Path, clock: dict[str, Any]) -> None:
    task = TaskConfig.model_validate(
        task_fields(Path("t.csv")) | {"time_step_s": None, "series": None} | clock
    )
    assert again(task, tmp_path) == task


def test_keys_are_explained_and_what_is_not_used_is_told() -> None:
    text = task_text(load_task(WEATHER), {"wind gust": "is missing in\n80% of the rows"})
    tomllib.loads(text)
    assert "# Columns that are not used:\n# wind gust: is missing in 80% of the rows\n" in text
    lines = text.splitlines()
    (step,) = [line for line in lines if line.startswith("time_step_s")]
    assert step.startswith("time_step_s = 3600                   # seconds from row to row")
    assert sum("# as callers send it" in line for line in lines) == 1
    assert "\n\n\n" not in text
