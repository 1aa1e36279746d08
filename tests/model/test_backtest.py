"""The same training at several ends of a table."""

import re
from pathlib import Path

import numpy as np
import pytest

from model import train
from model.backtest import parts
from model.data import dataset
from model.tasks.task import load_task
from tests.model.children import pool, run_command
from tests.model.toy_training import arguments, write_task


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(1, 0.15, [1.0]), (4, 0.15, [0.55, 0.7, 0.85, 1.0]), (3, 0.5, [0.6, 0.8, 1.0])],
)
def test_the_ends_are_a_test_split_apart(
    count: int, fraction: float, expected: list[float]
) -> None:
    np.testing.assert_allclose(parts(count, fraction), expected)


def test_a_part_of_a_table_has_its_beginning_only(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path))
    whole, half = dataset.load(task), dataset.load(task, 0.5)
    assert half["train"].times.min() == whole["train"].times.min()
    assert half["test"].times.max() < whole["validation"].times.min()


def test_each_end_is_a_line_and_nothing_is_exported(tmp_path: Path) -> None:
    given = arguments(write_task(tmp_path), tmp_path / "models", updates=[4])
    with pool(1) as processes:
        status, out, err = processes.submit(
            run_command, train.main, [*given, "--backtest", "2"]
        ).result()
    assert (status, err) == (0, "")
    table = out.split("beside the best baseline's:\n\n")[1].splitlines()
    assert table[0] == "| test split from | temp_1 | temp_5 |"
    cells = r"\| \d+\.\d\d \([+-]\d+\.\d %\) "
    for line in table[2:]:
        assert re.fullmatch(rf"\| 2020-01-\d\d \d\d:\d\d {cells}{cells}\|", line)
    assert len(table) == 4
    assert not list((tmp_path / "models" / "toy").iterdir())
