"""Which rows of a split can be forecast, by every method alike; and whether there are any."""

import numpy as np

from model.data.dataset import Split
from model.data.table import because


def forecast_rows(split: Split, steps: int) -> np.ndarray:
    """The rows, int64 `[K]`, with a full past window and all numbers that the methods need."""
    return _rows(split, steps, split.targets, *_past_values(split))


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """All rows, or so many of them that lie evenly."""
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)])


def _past_values(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What the columns of those outputs are, and were a season before, whose past is known."""
    return split.present[:, split.known], split.season_before[:, split.known]


def _rows(split: Split, steps: int, *needed: np.ndarray) -> np.ndarray:
    enough = np.arange(len(split)) - split.run_starts + 1 >= steps
    for numbers in needed:
        enough &= np.isfinite(numbers).all(axis=1)
    return np.flatnonzero(enough)


def longest_past(split: Split) -> int:
    """Time steps up to the row with most of them, among those that can be forecast."""
    return most_have(split, 0.0)


def most_have(split: Split, part: float) -> int:
    """Time steps of past that so large a part of the rows has which can be forecast."""
    rows = forecast_rows(split, 1)
    pasts = np.sort(rows - split.run_starts[rows] + 1)
    if not len(pasts):
        return 1
    return int(pasts[min(len(pasts) - 1, int((1 - part) * len(pasts)))])


def check_forecastable(splits: dict[str, Split], steps: int, season_steps: int) -> None:
    """Whether each split can be judged; to be known before hours of training.

    Raises:
        ValueError: a split has no row to forecast; the message says for want of what.
    """
    for name, split in splits.items():
        if len(forecast_rows(split, steps)) == 0:
            raise ValueError(
                f"the {name} split has no run of {steps} time steps with known targets"
                + _what_is_wanting(split, steps, season_steps)
                + because(split.left_out)
            )


def _what_is_wanting(split: Split, steps: int, season_steps: int) -> str:
    """In numbers, why no row can be forecast, and which option helps."""
    past = np.arange(len(split)) - split.run_starts + 1
    present, _ = _past_values(split)
    known = np.isfinite(split.targets).all(axis=1) & np.isfinite(present).all(axis=1)
    if not known.any():
        return (
            f": none of its {len(split):,} rows has all targets within the split: give shorter "
            "horizons or a longer table"
        )
    most = int(past[known].max())
    if most < steps:
        return (
            f": its longest run without a gap has {past.max()} time steps, but a row whose targets "
            f"are known has at most {most} of past: lower --window-steps to {most}, give shorter "
            "horizons, a longer table or larger parts of it (train_fraction, validation_fraction), "
            "or look at the time step, which says what no gap is"
        )
    return (
        " and with what was known whole seasons before them: a season is season_steps = "
        f"{season_steps} time steps; give a longer table, or a smaller season_steps in the task"
    )
