"""Ridge regression on the past window: what a network has to beat.

All windows are fitted in one pass over the training split, since the matrix of a shorter window is
the end of that of the longest; all penalties are judged in one pass over the validation split.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from model.data.dataset import Split
from model.evaluation.evaluation_rows import evenly, forecast_rows
from model.transforms import Feature, encode_features, num_inputs

# Ridge penalties to choose from on the validation split, for each row fitted.
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 5))

ROWS_AT_ONCE = 2048

# Columns of a window, whose matrix is the square of them in float64: 128 MiB, and as much again
# while it is solved. Without a limit a long window would need more than training did.
MOST_COLUMNS = 4096

# A hundred rows for each of a thousand columns: more of them change nothing but the time.
MOST_ROWS = 100_000


class LinearAutoregression:
    """Ridge regressions of the targets' change on every transformed feature of past windows.

    Of a target whose present value is not known, it is the target itself that is regressed.

    Args:
        features: the same transforms that the model has.
        windows: time steps of each past window, the longest first.
        lagged: bool `[I]`, which of the network's inputs are seen of all time steps; the others are
            of the newest alone. None for all.

    Attributes:
        weights: of each window, float64 `[windows, C, O]`; zero where a window does not see.
        penalties: of each window and output, `[windows, O]`.
        errors: mean absolute errors on the validation split, `[windows, O]`.
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        windows: Sequence[int],
        lagged: np.ndarray | None = None,
    ) -> None:
        self.features = features
        self._lagged = np.ones(num_inputs(features), bool) if lagged is None else lagged
        self.windows = tuple(windows)
        self.weights = np.zeros((len(self.windows), 0, 0))
        self.penalties = np.zeros((len(self.windows), 0))
        self.errors = np.zeros((len(self.windows), 0))

    @property
    def steps(self) -> int:
        """Time steps of the longest window."""
        return self.windows[0]

    def fit(
        self,
        train: Split,
        validation: Split,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Solves on the training split, for each window and output with the penalty that does best.

        Best is the smallest mean absolute error on the validation split.

        Args:
            train, validation: the splits.
            advance: told how many rows were worked off.

        Raises:
            MemoryError, LinAlgError: the matrix is too large, or cannot be solved.
        """
        gram, moment, count = self._moments(train, advance)
        found = self._solutions(gram, moment, count)
        errors = self._errors(validation, found, advance)
        self.penalties = np.array(PENALTIES)[errors.argmin(axis=1)]
        self.errors = errors.min(axis=1)
        best = errors.argmin(axis=1)[:, None, None, :]
        self.weights = np.take_along_axis(found, best, axis=1)[:, 0]

    def predict(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """Forecasts of each window at `rows`, `[windows, K, O]`."""
        made = [self._design(split, part) @ self.weights for part in _parts(rows)]
        return np.asarray(np.concatenate(made, axis=1) + _base(split, rows))

    def _moments(
        self, train: Split, advance: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Sums over the training rows of x x', x y, and how many rows those are."""
        rows = evenly(forecast_rows(train, self.steps), MOST_ROWS)
        columns = self.steps * num_inputs(self.features) + 1
        gram = np.zeros((columns, columns))
        moment = np.zeros((columns, train.targets.shape[1]))
        for part in _parts(rows):
            x = self._design(train, part)
            gram += x.T @ x
            moment += x.T @ _changes(train, part)
            advance(len(part))
        return gram, moment, len(rows)

    def _solutions(self, gram: np.ndarray, moment: np.ndarray, count: int) -> np.ndarray:
        """The weights of each window and penalty, `[windows, penalties, C, O]`."""
        columns, outputs = moment.shape
        found = np.zeros((len(self.windows), len(PENALTIES), columns, outputs))
        for index, steps in enumerate(self.windows):
            seen = self._seen(steps)
            part = gram[np.ix_(seen, seen)]
            ridge = np.full(len(part), float(count))
            ridge[-1] = 0.0  # the intercept goes free
            diagonal = part.diagonal().copy()
            for number, penalty in enumerate(PENALTIES):
                np.fill_diagonal(part, diagonal + penalty * ridge)
                found[index, number, seen] = np.linalg.solve(part, moment[seen])
        return found

    def _seen(self, steps: int) -> np.ndarray:
        """The columns that a window sees, int64: the newest time step and the intercept last."""
        older = np.tile(self._lagged, steps - 1)
        unseen = np.zeros((self.steps - steps) * len(self._lagged), bool)
        newest = np.ones(len(self._lagged) + 1, bool)
        return np.flatnonzero(np.concatenate([unseen, older, newest]))

    def _errors(
        self, validation: Split, found: np.ndarray, advance: Callable[[int], None]
    ) -> np.ndarray:
        """Mean absolute error on the validation split, `[windows, penalties, O]`."""
        rows = evenly(forecast_rows(validation, self.steps), MOST_ROWS)
        sums = np.zeros((*found.shape[:2], found.shape[-1]))
        flat = np.moveaxis(found, 2, 0).reshape(found.shape[2], -1)
        for part in _parts(rows):
            made = (self._design(validation, part) @ flat).reshape(len(part), *sums.shape)
            sums += np.abs(made - _changes(validation, part)[:, None, None]).sum(axis=0)
            advance(len(part))
        return sums / len(rows)

    def _design(self, split: Split, rows: np.ndarray) -> np.ndarray:
        past = split.features[rows[:, None] + np.arange(1 - self.steps, 1)]
        encoded = encode_features(tf.constant(past), self.features).numpy().reshape(len(rows), -1)
        return np.concatenate([encoded, np.ones((len(rows), 1))], axis=1, dtype=np.float64)


def _changes(split: Split, rows: np.ndarray) -> np.ndarray:
    """What is regressed at `rows`, float64 `[K, O]`."""
    return np.asarray(split.targets[rows] - _base(split, rows), np.float64)


def _base(split: Split, rows: np.ndarray) -> np.ndarray:
    """What a change is counted from, `[K, O]`: the present value, or zero where it is not known."""
    return np.where(split.known, split.present[rows], np.float32(0.0))


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    """Rows in parts whose past windows fit into memory, however long the table is."""
    return np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE))


def linear_windows(
    width: int, steps: int, season_steps: int
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Which linear autoregressions there are, of past windows whose matrix fits into memory.

    Args:
        width: columns of a time step.
        steps: time steps of the past window.
        season_steps: time steps of a season, for a second one that is not led astray by the rest of
            the window.

    Returns:
        The time steps that each sees, the most recent ones, by its name; and notes of what is less
        than it should be.
    """
    name = "linear autoregression"
    most = min(steps, (MOST_COLUMNS - 1) // width)  # one column is the intercept
    notes: tuple[str, ...] = ()
    if most < steps:
        notes = (
            f"{name} of {steps:,} time steps would have {steps * width + 1:,} columns, more "
            f"than {MOST_COLUMNS:,}: "
            + (f"it sees the last {most:,} only" if most else "it is left out"),
        )
    windows = {name if most == steps else f"{name}, last {most} of {steps} time steps": most}
    if season_steps < most:
        windows[f"{name}, last season"] = season_steps
    return (windows if most else {}), notes
