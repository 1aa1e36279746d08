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

# Ridge penalties to choose from on the validation split, relative to the number of rows.
PENALTIES = tuple(10.0**exponent for exponent in range(-6, 3))


@dataclass(frozen=True)
class Skill:
    """Mean absolute error `[O]` by method, the model first, and how many forecasts it is over."""

    errors: dict[str, np.ndarray]
    num_forecasts: int
    linear_penalty: float

    def worst_ratio(self) -> float:
        """The model's error over the best baseline's, at the output where it is largest."""
        best = np.min([e for name, e in self.errors.items() if name != "model"], axis=0)
        return float(np.max(self.errors["model"] / best))


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
    predict = tf.function(model.predict_sequences, autograph=False, reduce_retracing=True)
    found = []
    for start in range(0, len(rows), batch_size):
        ends = rows[start : start + batch_size]
        past = split.features[ends[:, None] + np.arange(1 - steps, 1)]
        outputs, _ = predict(tf.constant(past), tf.fill([len(ends)], steps))
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
        self.penalty = 0.0

    def fit(self, train: Split, validation: Split) -> None:
        """Solves on the training split with the penalty that does best on the validation split."""
        rows = forecast_rows(train, self.steps)
        x = self._design(train, rows)
        y = (train.targets - train.present)[rows]
        gram, moment = x.T @ x, x.T @ y
        held = forecast_rows(validation, self.steps)
        held_x, held_y = (
            self._design(validation, held),
            (validation.targets - validation.present)[held],
        )
        best = np.inf
        for penalty in PENALTIES:
            ridge = penalty * len(rows) * np.eye(len(gram))
            ridge[-1, -1] = 0.0  # the intercept goes free
            weights = np.linalg.solve(gram + ridge, moment)
            error = np.abs(held_x @ weights - held_y).mean()
            if error < best:
                best, self.weights, self.penalty = error, weights, penalty

    def predict(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """Forecasts at `rows`, `[K, O]`."""
        return np.asarray(self._design(split, rows) @ self.weights + split.present[rows])

    def _design(self, split: Split, rows: np.ndarray) -> np.ndarray:
        encoded = encode_features(tf.constant(split.features), self.features).numpy()
        past = encoded[rows[:, None] + np.arange(1 - self.steps, 1)].reshape(len(rows), -1)
        return np.concatenate([past, np.ones((len(rows), 1))], axis=1, dtype=np.float64)


def evaluate(model: SequenceModel, splits: dict[str, Split], steps: int) -> Skill:
    """Errors of the model and of the baselines on the test split.

    Args:
        model: the trained model.
        splits: as `data.load` gives them.
        steps: time steps of the past window that every method sees.

    Raises:
        ValueError: a split has no row to forecast.
    """
    for name, split in splits.items():
        if len(forecast_rows(split, steps)) == 0:
            raise ValueError(
                f"the {name} split has no run of {steps} time steps with known targets"
            )
    test = splits["test"]
    rows = forecast_rows(test, steps)
    linear = LinearAutoregression(model.features, steps)
    linear.fit(splits["train"], splits["validation"])
    forecasts = {"model": model_forecasts(model, test, rows, steps)}
    forecasts["persistence"] = test.present[rows]
    forecasts["same time yesterday"] = test.days_before[rows]
    forecasts["linear autoregression"] = linear.predict(test, rows)
    truth = test.targets[rows].astype(np.float64)
    errors = {name: np.abs(made - truth).mean(axis=0) for name, made in forecasts.items()}
    return Skill(errors=errors, num_forecasts=len(rows), linear_penalty=linear.penalty)


def skill_table(skill: Skill, names: list[str], unit: str) -> str:
    """The errors as a Markdown table, one row a method."""
    head = [f"mean absolute error ({unit})", *names]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(names)}"]
    for method, errors in skill.errors.items():
        lines.append(f"| {method} | {' | '.join(f'{error:.2f}' for error in errors)} |")
    return "\n".join(lines)
