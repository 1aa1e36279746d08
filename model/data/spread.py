"""How far the numbers of a column spread, and what is too little to learn from."""

import numpy as np

from model.data.cells import DataError
from model.tasks.task import OutputConfig
from model.transforms import Standardize

# A column whose spread is less than this part of its largest number never changes: what it has is
# the rounding of float32. It is left as it is rather than divided by zero.
SMALLEST_SPREAD = float(np.finfo(np.float32).eps)
# Smaller numbers are zero to most kernels.
SMALLEST_STD = float(np.finfo(np.float32).tiny)


def check_changes(target: np.ndarray, output: OutputConfig, base: float) -> None:
    """Refuses an output that is the same throughout: there is nothing to learn, or to get wrong.

    Args:
        target: float64 `[N]` of the training split, less the base.
        output: what it is of.
        base: of its column.

    Raises:
        DataError: it never changes, and its value is told; or there is no number.
    """
    known = target[~np.isnan(target)]
    if len(known) == 0:
        raise DataError(
            f"output {output.name!r} has no number in the training split: column "
            f"{output.column!r} is empty there, or no row has another {output.horizon} time steps "
            "later: is the time step right?"
        )
    if np.std(known) < _smallest_spread(known):
        raise DataError(
            f"output {output.name!r}: column {output.column!r} is {known[0] + base:.7g} in all "
            f"{len(target):,} rows of the training split: there is nothing to learn; choose "
            "another column, or a larger train_fraction if it changes later"
        )


def _smallest_spread(column: np.ndarray) -> float:
    """Below it a column's spread is no more than its rounding."""
    return max(SMALLEST_STD, SMALLEST_SPREAD * float(np.nanmax(np.abs(column))))


def standardize(numbers: np.ndarray, column: np.ndarray, what: str) -> Standardize:
    """Mean and spread of `numbers`, which were made of `column` and have its rounding.

    Args:
        numbers: float64 `[N]`, NaN where there is none.
        column: float64 `[N]`.
        what: it is, for errors.

    Raises:
        DataError: there is no number.
    """
    if np.isnan(numbers).all():
        raise DataError(f"{what} has no number in the training split")
    std = float(np.nanstd(numbers))
    std = std if std >= _smallest_spread(column) else 1.0
    return Standardize(mean=float(np.nanmean(numbers)), std=std)
