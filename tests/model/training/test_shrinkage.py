"""How much is kept of what was learnt beyond the beginning."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from model.data.dataset import Split, load
from model.training.shrinkage import shrink
from tests.model.tables import make_table, make_task, write_table

STEPS, SEASON = 4, 6
# Errors `[K, O]` of a network at a part of the way.
Errors = Callable[[float], np.ndarray]


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Split:
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    return load(make_task(write_table(make_table({"a": range(900)}), path)))["validation"]


@contextmanager
def network(errors: Errors, validation: Split) -> Iterator[SimpleNamespace]:
    """A trainer whose only weight is the part of the way, and whose errors follow from it."""
    weights: list[np.ndarray] = []
    trainer = SimpleNamespace(
        begun=[np.zeros(1, np.float32)],
        progress=SimpleNamespace(best=[np.ones(1, np.float32)]),
        take=lambda given: weights.__setitem__(slice(None), given),
        scale=np.ones(validation.targets.shape[1], np.float32),
        recipe=SimpleNamespace(batch_size=8),
        model=None,
    )

    def made(model: None, split: Split, rows: np.ndarray, steps: int, size: int) -> np.ndarray:
        wrong = errors(float(weights[0][0]))
        return split.targets[rows] + np.resize(wrong, (len(rows), split.targets.shape[1]))

    with mock.patch("model.training.shrinkage.model_forecasts", made):
        yield trainer


def kept(errors: Errors, validation: Split, season_steps: int = SEASON) -> float:
    with network(errors, validation) as trainer:
        part = shrink(trainer, validation, STEPS, season_steps)
        assert trainer.progress.best[0] == part
    return part


def test_what_is_surely_better_is_kept(validation: Split) -> None:
    """However hard some rows are: as much as it takes, to an eighth."""
    hard = np.random.default_rng(0).uniform(1, 3, (100, 1))
    assert kept(lambda part: hard * (2 - part), validation) == 1.0
    assert kept(lambda part: hard * (2 - min(part, 0.5)), validation) == 0.5
    assert kept(lambda part: hard * (2 - min(part, 0.3)), validation) == 0.375


def test_what_may_be_luck_is_not_kept(validation: Split) -> None:
    """A mean that is better by a tenth of its standard error; or as good, or worse."""
    luck = np.random.default_rng(0).normal(size=(1000, 1))
    luck -= luck.mean() + 0.1 * luck.std() / np.sqrt(len(luck))
    assert kept(lambda part: 10 + part * luck, validation) == 0.0
    assert kept(lambda part: np.full((1, 1), 10.0), validation) == 0.0
    assert kept(lambda part: np.full((1, 1), 10 + part), validation) == 0.0


def test_errors_count_in_the_units_of_training(validation: Split) -> None:
    """One output gets better as much as the other gets worse, but counts for more."""
    with network(lambda part: np.array([[2 - part, 2 + part]]), validation) as trainer:
        trainer.scale = np.array([1.0, 4.0], np.float32)
        assert shrink(trainer, validation, STEPS, SEASON) == 1.0
        trainer.progress.best = [np.ones(1, np.float32)]
        trainer.scale = np.array([4.0, 1.0], np.float32)
        assert shrink(trainer, validation, STEPS, SEASON) == 0.0


def test_a_split_that_is_too_short_to_tell_leaves_all(validation: Split) -> None:
    season = len(validation.own_times) // 3
    assert kept(lambda part: np.full((1, 1), 10 + part), validation, season) == 1.0
