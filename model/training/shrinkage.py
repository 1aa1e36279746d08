"""How much is kept of what a network has learnt that began as the linear autoregression.

It is nearly there when it begins, and a part of what it learns on is right of the validation split
alone. Networks on the straight line between the weights that it began with and the best ones
forecast about as well as these, and later times better (Wortsman et al. 2022, arXiv:2109.01903).
Of them the nearest to the beginning is taken that is not surely worse on the validation split.
"""

import numpy as np

from model.data.dataset import Split
from model.evaluation.bootstrap import interval, stretch
from model.evaluation.evaluation_rows import evenly, forecast_rows
from model.evaluation.skill import model_forecasts
from model.training.candidates import MOST_COMPARED
from model.training.trainer import Trainer

# Of the way from the beginning.
PARTS = 8


def shrink(trainer: Trainer, validation: Split, steps: int, season_steps: int) -> float:
    """Replaces a trainer's best weights by those on the way to them.

    Args:
        trainer: one that has ended; the model has other weights from then on.
        validation: the split.
        steps: time steps of the past that each forecast is made from.
        season_steps: time steps of a season.

    Returns:
        The part of the way that is kept, 0 to 1; all of it where the split is too short to tell.
    """
    begun, best = trainer.begun, trainer.progress.best
    all_rows = forecast_rows(validation, steps)
    rows = evenly(all_rows, MOST_COMPARED)
    times = validation.times[rows]
    block = stretch(len(np.unique(validation.own_times)), season_steps, len(rows) / len(all_rows))

    def errors(part: int) -> np.ndarray:
        trainer.take(_between(begun, best, part))
        made = model_forecasts(trainer.model, validation, rows, steps, trainer.recipe.batch_size)
        wrong = np.abs(made - validation.targets[rows].astype(np.float64)) / trainer.scale
        return np.asarray(wrong.sum(axis=1, keepdims=True))

    learnt = errors(PARTS)
    low, high = 0, PARTS
    while low < high:
        middle = (low + high) // 2
        if interval(errors(middle), learnt, times, block)[0, 0] <= 1.0:
            high = middle
        else:
            low = middle + 1
    trainer.progress.best = _between(begun, best, high)
    return high / PARTS


def _between(begun: list[np.ndarray], best: list[np.ndarray], part: int) -> list[np.ndarray]:
    share = np.float32(part / PARTS)
    return [first + share * (last - first) for first, last in zip(begun, best, strict=True)]
