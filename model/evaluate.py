"""The model's error beside that of simple forecasts, on the same hours of the same split.

Every method forecasts from the same past window: all time steps with `steps - 1` others before them
in their run. The error is the mean absolute error in the unit of each output.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model.data import Split
from model.network import SequenceModel
from model.transforms import Feature, encode_features

# Ridge penalties to choose from on the validation split, for each row fitted.
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 5))

ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Skill:
    """Mean absolute error `[O]` by method, the model first, and how many forecasts it is over."""

    errors: dict[str, np.ndarray]
    num_forecasts: int


def forecast_rows(split: Split, steps: int) -> np.ndarray:
    """The rows, int64 `[K]`, with a full past window and all numbers that the methods need."""
    enough = np.arange(len(split)) - split.run_starts + 1 >= steps
    for numbers in (split.targets, split.present, split.days_before):
        enough &= np.isfinite(numbers).all(axis=1)
    return np.flatnonzero(enough)


def model_forecasts(
    model: SequenceModel, split: Split, rows: np.ndarray, steps: int, batch_size: int = 256
) -> np.ndarray:
    """The model's outputs at `rows`, each from its own past window alone.

    Returns:
        float32 `[K, O]`.
    """
    predict = tf.function(model.predict_sequences, autograph=False)
    found = []
    for start in range(0, len(rows), batch_size):
        ends = rows[start : start + batch_size]
        past = split.features[ends[:, None] + np.arange(1 - steps, 1)]
        outputs, _ = predict(tf.constant(past), tf.fill([len(ends)], steps), compiled=True)
        found.append(outputs[:, -1].numpy())
    return np.concatenate(found)


class LinearAutoregression:
    """Ridge regression of the targets' change on every transformed feature of the past window.

    Args:
        features: the same transforms that the model has.
        steps: time steps of the past window.
    """

    def __init__(self, features: tuple[Feature, ...], steps: int) -> None:
        self.features = features
        self.steps = steps
        self.weights = np.zeros((0, 0))
        self.penalties = np.zeros(0)

    def fit(self, train: Split, validation: Split) -> None:
        """Solves on the training split, for each output with the penalty that does best.

        Best is the smallest mean absolute error on the validation split.
        """
        rows = forecast_rows(train, self.steps)
        change = (train.targets - train.present).astype(np.float64)
        gram, moment = np.zeros(()), np.zeros(())
        for part in _parts(rows):
            x = self._design(train, part)
            gram, moment = gram + x.T @ x, moment + x.T @ change[part]
        held = forecast_rows(validation, self.steps)
        best = np.full(change.shape[1], np.inf)
        self.weights, self.penalties = np.zeros_like(moment), np.zeros_like(best)
        for penalty in PENALTIES:
            ridge = penalty * len(rows) * np.eye(len(gram))
            ridge[-1, -1] = 0.0  # the intercept goes free
            weights = np.linalg.solve(gram + ridge, moment)
            error = np.abs(self._forecast(validation, held, weights) - validation.targets[held])
            better = error.mean(axis=0) < best
            best[better] = error.mean(axis=0)[better]
            self.weights[:, better] = weights[:, better]
            self.penalties[better] = penalty

    def predict(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """Forecasts at `rows`, `[K, O]`."""
        return self._forecast(split, rows, self.weights)

    def _forecast(self, split: Split, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        made = [self._design(split, part) @ weights for part in _parts(rows)]
        return np.asarray(np.concatenate(made) + split.present[rows])

    def _design(self, split: Split, rows: np.ndarray) -> np.ndarray:
        past = split.features[rows[:, None] + np.arange(1 - self.steps, 1)]
        encoded = encode_features(tf.constant(past), self.features).numpy().reshape(len(rows), -1)
        return np.concatenate([encoded, np.ones((len(rows), 1))], axis=1, dtype=np.float64)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    """Rows in parts whose past windows fit into memory, however long the table is."""
    return np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE))


def check_forecastable(splits: dict[str, Split], steps: int) -> None:
    """Whether each split can be judged; to be known before hours of training.

    Raises:
        ValueError: a split has no row to forecast.
    """
    for name, split in splits.items():
        if len(forecast_rows(split, steps)) == 0:
            raise ValueError(
                f"the {name} split has no run of {steps} time steps with known targets"
            )


def evaluate(model: SequenceModel, splits: dict[str, Split], steps: int, day_steps: int) -> Skill:
    """Errors of the model and of the baselines on the test split.

    Args:
        model: the trained model.
        splits: as `data.load` gives them.
        steps: time steps of the past window that every method sees.
        day_steps: time steps of a day, for a second linear autoregression that is not led astray
            by the rest of the window.

    Raises:
        ValueError: a split has no row to forecast.
    """
    check_forecastable(splits, steps)
    test = splits["test"]
    rows = forecast_rows(test, steps)
    forecasts = {
        "model": model_forecasts(model, test, rows, steps),
        "persistence": test.present[rows],
        "same time yesterday": test.days_before[rows],
    }
    windows = {"linear autoregression": steps}
    if day_steps < steps:
        windows["linear autoregression, last day"] = day_steps
    for name, past in windows.items():
        linear = LinearAutoregression(model.features, past)
        linear.fit(splits["train"], splits["validation"])
        forecasts[name] = linear.predict(test, rows)
    truth = test.targets[rows].astype(np.float64)
    errors = {name: np.abs(made - truth).mean(axis=0) for name, made in forecasts.items()}
    return Skill(errors=errors, num_forecasts=len(rows))


def skill_table(skill: Skill, names: list[str], unit: str) -> str:
    """The errors as a Markdown table, one row a method."""
    head = [f"mean absolute error ({unit})", *names]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(names)}"]
    for method, errors in skill.errors.items():
        lines.append(f"| {method} | {' | '.join(f'{error:.2f}' for error in errors)} |")
    return "\n".join(lines)
