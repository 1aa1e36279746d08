"""How sure a ratio of errors is: a circular block bootstrap over time.

Errors of neighbouring time steps go together, so whole stretches of time are drawn, with all series
at once (Politis and Romano 1992).
"""

import numpy as np

DRAWS = 1000
LEVEL = 0.95
# Of fewer stretches no interval can be told.
FEWEST_BLOCKS = 5


def interval(
    ours: np.ndarray, theirs: np.ndarray, times: np.ndarray, block_steps: int
) -> np.ndarray:
    """The interval in which the ratio of the mean errors lies with a probability of 95 %.

    Args:
        ours, theirs: errors, float64 `[K, O]`.
        times: of each row, `[K]`; rows of the same time are drawn together.
        block_steps: times in a stretch: as long as errors go together.

    Returns:
        float64 `[2, O]`, the ends; NaN where there are too few times to tell.
    """
    _, place = np.unique(times, return_inverse=True)
    count = int(place.max()) + 1
    blocks = count // block_steps
    if blocks < FEWEST_BLOCKS:
        return np.full((2, ours.shape[1]), np.nan)
    columns = np.concatenate([ours, theirs], axis=1).T
    sums = np.stack([np.bincount(place, column, count) for column in columns], axis=1)
    stretches, random = _stretches(sums, block_steps), np.random.default_rng(0)
    # One after the other: of a long split all draws together would fill the memory.
    drawn = np.stack(
        [stretches[random.integers(0, count, blocks)].sum(axis=0) for _ in range(DRAWS)]
    )
    ratios = drawn[:, : ours.shape[1]] / drawn[:, ours.shape[1] :]
    return np.asarray(np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))


def stretch(times: int, season_steps: int, part: float = 1.0) -> int:
    """The times in a stretch: those of a season, or more of many times.

    Args:
        times: that a split has.
        season_steps: time steps of a season.
        part: of the times that is looked at.
    """
    return max(1, round(part * max(float(season_steps), float(np.cbrt(times)))))


def _stretches(numbers: np.ndarray, steps: int) -> np.ndarray:
    """The sum of so many rows from each row on, `[T, O]`; the end goes on at the beginning."""
    total = np.cumsum(
        np.concatenate([np.zeros_like(numbers[:1]), numbers, numbers[:steps]]), axis=0
    )
    return np.asarray(total[steps : steps + len(numbers)] - total[: len(numbers)])
