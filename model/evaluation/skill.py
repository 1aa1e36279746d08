"""The model's error beside that of simple forecasts, on the same time steps of the same split.

Every method forecasts from a past window of `steps` time steps, so a forecast is made at each time
step with `steps - 1` others before it in its run; of a long split, at so many of them, evenly. No
method sees what the model does not: where an output's column is no feature, its past is as unknown
as its future. The error is the mean absolute error in the unit of each output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from model.data.dataset import Split
from model.evaluation.bootstrap import interval, stretch
from model.evaluation.evaluation_rows import check_forecastable, evenly, forecast_rows
from model.evaluation.linear_autoregression import (
    MOST_ROWS,
    LinearAutoregression,
    linear_windows,
)
from model.network.sequence_model import SequenceModel
from model.transforms import Feature, num_inputs

# An error over so many forecasts is known to a part of a percent.
MOST_FORECASTS = 50_000

# Told how many rows of how many in all were worked off.
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Comparison:
    """How a model does beside one baseline, by output.

    Attributes:
        difference: the model's error less the baseline's, as a part of the baseline's, `[O]`; NaN
            where the baseline has no forecast.
        interval: in which that lies with a probability of 95 %, `[2, O]`; NaN where the split is
            too short to tell.
    """

    difference: np.ndarray
    interval: np.ndarray


@dataclass(frozen=True)
class SplitSkill:
    """How well each method forecasts on one split.

    Attributes:
        errors: mean absolute error `[O]` by method, the model first, if it was asked; NaN where a
            method has no forecast of an output.
        num_forecasts: how many forecasts it is over.
        comparisons: of the model with each baseline, by the baseline's name.
    """

    errors: dict[str, np.ndarray]
    num_forecasts: int
    comparisons: dict[str, Comparison]


@dataclass(frozen=True)
class Skill:
    """How well each method forecasts on the validation and the test split.

    Attributes:
        validation, test: each split's.
        notes: of the baselines that are less than they should be, and why.
    """

    validation: SplitSkill
    test: SplitSkill
    notes: tuple[str, ...] = ()


class Baselines:
    """The simple forecasts, fitted once.

    Args:
        features: their transforms, fitted on the training split.
        names: of the outputs.
        splits: as `dataset.load` gives them.
        steps: time steps of the past window that every method sees.
        season_steps: time steps of a season, see `linear_windows`.
        advance: told how many rows were worked off.

    Attributes:
        notes: see `Skill`.

    Raises:
        ValueError: a split has no row to forecast.
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        names: list[str],
        splits: dict[str, Split],
        steps: int,
        season_steps: int,
        advance: Advance = lambda rows: None,
    ) -> None:
        check_forecastable(splits, steps, season_steps)
        self._splits, self._steps, self._season_steps = splits, steps, season_steps
        windows, notes = linear_windows(num_inputs(features), steps, season_steps)
        self.notes = (*_notes_of_unknown(names, splits["test"].known), *notes)
        self._windows = list(windows)
        self._linear = LinearAutoregression(features, list(windows.values()))
        if not windows:
            return
        try:
            self._linear.fit(splits["train"], splits["validation"], advance)
        except (MemoryError, np.linalg.LinAlgError, tf.errors.ResourceExhaustedError) as error:
            # The model is trained: it must not be lost for want of something to compare it with.
            reason = str(error).partition("\n")[0] or "no memory is left"
            self.notes = (*self.notes, *(f"{name} is left out: {reason}" for name in windows))
            self._windows = []

    def rows(self, name: str) -> np.ndarray:
        """The rows of a split that are forecast, int64 `[K]`."""
        return evenly(forecast_rows(self._splits[name], self._steps), MOST_FORECASTS)

    def judge(self, name: str, made: dict[str, np.ndarray] | None = None) -> SplitSkill:
        """The errors on a split.

        Args:
            name: of the split.
            made: forecasts `[K, O]` at `rows`, by method, which come first.
        """
        split, rows = self._splits[name], self.rows(name)
        simple = self._repeated(split, rows)
        if self._windows:
            found = self._linear.predict(split, rows)
            simple |= dict(zip(self._windows, found, strict=True))
        truth = split.targets[rows].astype(np.float64)
        wrong = {
            method: np.abs(each - truth) for method, each in {**(made or {}), **simple}.items()
        }
        return SplitSkill(
            errors={method: each.mean(axis=0) for method, each in wrong.items()},
            num_forecasts=len(rows),
            comparisons={
                method: _compared(wrong[first], wrong[method], split.times[rows], self._block(name))
                for first in made or ()
                for method in simple
            },
        )

    def _block(self, name: str) -> int:
        """Forecasts in a stretch of the bootstrap: those of a season."""
        split = self._splits[name]
        part = len(self.rows(name)) / len(forecast_rows(split, self._steps))
        return stretch(len(np.unique(split.own_times)), self._season_steps, part)

    def _repeated(self, split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Forecasts `[K, O]` that repeat a number of the past, where that is known."""
        if not split.known.any():
            return {}
        past = {"persistence": split.present, "same time last season": split.season_before}
        return {name: np.where(split.known, each, np.nan)[rows] for name, each in past.items()}


def _compared(ours: np.ndarray, theirs: np.ndarray, times: np.ndarray, block: int) -> Comparison:
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = ours.mean(axis=0) / theirs.mean(axis=0) - 1.0
        return Comparison(difference, interval(ours, theirs, times, block) - 1.0)


def model_forecasts(
    model: SequenceModel,
    split: Split,
    rows: np.ndarray,
    steps: int,
    batch_size: int = 256,
    advance: Advance = lambda rows: None,
) -> np.ndarray:
    """The model's outputs at `rows`, each from its own past window alone.

    Returns:
        float32 `[K, O]`.
    """
    predict = _last_outputs(model, steps)
    found = []
    for start in range(0, len(rows), batch_size):
        ends = rows[start : start + batch_size]
        past = split.features[ends[:, None] + np.arange(1 - steps, 1)]
        found.append(predict(tf.constant(past), tf.fill([len(ends)], steps)).numpy())
        advance(len(ends))
    return np.concatenate(found)


@lru_cache(maxsize=1)  # it is traced, which takes seconds, once for all splits and pictures
def _last_outputs(model: SequenceModel, steps: int) -> Any:
    """Past windows `[B, steps, F]` and their lengths to outputs `[B, O]`."""
    given = (
        tf.TensorSpec([None, steps, len(model.features)], tf.float32),
        tf.TensorSpec([None], tf.int32),
    )

    def last(past: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        outputs, _ = model.predict_sequences(past, lengths, form=model.form)
        return outputs[:, -1]

    return tf.function(last, input_signature=given, autograph=False)


def evaluate(
    model: SequenceModel,
    splits: dict[str, Split],
    steps: int,
    season_steps: int,
    batch_size: int = 256,
    advance: Advance = lambda rows: None,
) -> Skill:
    """Errors of the model and of the baselines on the validation and the test split.

    Args:
        model: the trained model.
        splits: as `dataset.load` gives them.
        steps: time steps of the past window that every method sees.
        season_steps: time steps of a season, see `linear_windows`.
        batch_size: past windows that the model computes at once.
        advance: told how many rows were worked off, of `evaluated_rows` in all.

    Raises:
        ValueError: a split has no row to forecast.
    """
    names = [output.name for output in model.outputs_spec]
    baselines = Baselines(model.features, names, splits, steps, season_steps, advance)
    found = {}
    for name in ("validation", "test"):
        rows = baselines.rows(name)
        made = model_forecasts(model, splits[name], rows, steps, batch_size, advance)
        found[name] = baselines.judge(name, {"model": made})
    return Skill(**found, notes=baselines.notes)


def evaluated_rows(splits: dict[str, Split], steps: int) -> int:
    """How many rows `evaluate` works off, to tell how far it has come."""
    counts = {name: len(forecast_rows(split, steps)) for name, split in splits.items()}
    fitted = sum(min(counts[name], MOST_ROWS) for name in ("train", "validation"))
    return fitted + sum(min(counts[name], MOST_FORECASTS) for name in ("validation", "test"))


def evaluate_baselines(
    features: tuple[Feature, ...],
    names: list[str],
    splits: dict[str, Split],
    steps: int,
    season_steps: int,
) -> Skill:
    """Errors of the baselines alone: what a model has to beat. See `evaluate`."""
    baselines = Baselines(features, names, splits, steps, season_steps)
    return Skill(baselines.judge("validation"), baselines.judge("test"), notes=baselines.notes)


def _notes_of_unknown(outputs: list[str], known: np.ndarray) -> tuple[str, ...]:
    names = [output for output, is_known in zip(outputs, known, strict=True) if not is_known]
    if not names:
        return ()
    return (
        f"The column of {', '.join(names)} is no feature: no method sees its past, so there is no "
        "persistence and no same time last season",
    )
