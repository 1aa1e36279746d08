"""The model's error beside that of simple forecasts, on the same time steps of the same split.

Every method forecasts from a past window of `steps` time steps, so a forecast is made at each time
step with `steps - 1` others before it in its run. No method sees what the model does not: where an
output's column is no feature, its past is as unknown as its future. The error is the mean absolute
error in the unit of each output.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model.data.dataset import Split
from model.evaluation.forecastable import check_forecastable, forecast_rows
from model.network.sequence_model import SequenceModel
from model.transforms import Feature, encode_features, num_inputs

# Ridge penalties to choose from on the validation split, for each row fitted.
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 5))

ROWS_AT_ONCE = 2048

# Of a linear autoregression, whose matrix is the square of them in float64: 128 MiB, and as much
# again while it is solved. Without a limit a long window would need more than training did.
MOST_COLUMNS = 4096


@dataclass(frozen=True)
class Skill:
    """How well each method forecasts.

    Attributes:
        errors: mean absolute error `[O]` by method, the model first; NaN where a method has no
            forecast of an output.
        num_forecasts: how many forecasts it is over.
        notes: of the baselines that are less than they should be, and why.
    """

    errors: dict[str, np.ndarray]
    num_forecasts: int
    notes: tuple[str, ...] = ()


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
        outputs, _ = predict(tf.constant(past), tf.fill([len(ends)], steps), form=model.form)
        found.append(outputs[:, -1].numpy())
    return np.concatenate(found)


class LinearAutoregression:
    """Ridge regression of the targets' change on every transformed feature of the past window.

    Of a target whose present value is not known, it is the target itself that is regressed.

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
        change = (train.targets - _base(train)).astype(np.float64)
        columns = self.steps * num_inputs(self.features) + 1
        gram, moment = np.zeros((columns, columns)), np.zeros((columns, change.shape[1]))
        for part in _parts(rows):
            x = self._design(train, part)
            gram += x.T @ x
            moment += x.T @ change[part]
        diagonal, ridge = gram.diagonal().copy(), np.full(columns, float(len(rows)))
        ridge[-1] = 0.0  # the intercept goes free
        held = forecast_rows(validation, self.steps)
        best = np.full(change.shape[1], np.inf)
        self.weights, self.penalties = np.zeros_like(moment), np.zeros_like(best)
        for penalty in PENALTIES:
            np.fill_diagonal(gram, diagonal + penalty * ridge)
            weights = np.linalg.solve(gram, moment)
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
        return np.asarray(np.concatenate(made) + _base(split)[rows])

    def _design(self, split: Split, rows: np.ndarray) -> np.ndarray:
        past = split.features[rows[:, None] + np.arange(1 - self.steps, 1)]
        encoded = encode_features(tf.constant(past), self.features).numpy().reshape(len(rows), -1)
        return np.concatenate([encoded, np.ones((len(rows), 1))], axis=1, dtype=np.float64)


def _base(split: Split) -> np.ndarray:
    """What a change is counted from, `[N, O]`: the present value, or zero where it is not known."""
    return np.where(split.known, split.present, np.float32(0.0))


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


def evaluate(
    model: SequenceModel,
    splits: dict[str, Split],
    steps: int,
    season_steps: int,
    batch_size: int = 256,
) -> Skill:
    """Errors of the model and of the baselines on the test split.

    Args:
        model: the trained model.
        splits: as `dataset.load` gives them.
        steps: time steps of the past window that every method sees.
        season_steps: time steps of a season, see `linear_windows`.
        batch_size: past windows that the model computes at once.

    Raises:
        ValueError: a split has no row to forecast.
    """
    check_forecastable(splits, steps, season_steps)
    test = splits["test"]
    rows = forecast_rows(test, steps)
    names = [output.name for output in model.outputs_spec]
    made, notes = _baselines(model.features, names, splits, rows, steps, season_steps)
    return _skill(
        {"model": model_forecasts(model, test, rows, steps, batch_size), **made}, test, rows, notes
    )


def evaluate_baselines(
    features: tuple[Feature, ...],
    names: list[str],
    splits: dict[str, Split],
    steps: int,
    season_steps: int,
) -> Skill:
    """Errors of the baselines alone on the test split: what a model has to beat.

    Args:
        features: their transforms, fitted on the training split.
        names: of the outputs.
        splits: as `dataset.load` gives them.
        steps: time steps of the past window that every method sees.
        season_steps: time steps of a season, see `linear_windows`.

    Raises:
        ValueError: a split has no row to forecast.
    """
    check_forecastable(splits, steps, season_steps)
    rows = forecast_rows(splits["test"], steps)
    made, notes = _baselines(features, names, splits, rows, steps, season_steps)
    return _skill(made, splits["test"], rows, notes)


def _skill(
    forecasts: dict[str, np.ndarray], test: Split, rows: np.ndarray, notes: tuple[str, ...]
) -> Skill:
    truth = test.targets[rows].astype(np.float64)
    errors = {name: np.abs(made - truth).mean(axis=0) for name, made in forecasts.items()}
    return Skill(errors=errors, num_forecasts=len(rows), notes=notes)


def _baselines(
    features: tuple[Feature, ...],
    names: list[str],
    splits: dict[str, Split],
    rows: np.ndarray,
    steps: int,
    season_steps: int,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Forecasts `[K, O]` of each baseline at `rows` of the test split; and notes."""
    test = splits["test"]
    forecasts = _repeated(test, rows)
    windows, notes = linear_windows(num_inputs(features), steps, season_steps)
    notes = (*_notes_of_unknown(names, test.known), *notes)
    for name, past in windows.items():
        linear = LinearAutoregression(features, past)
        try:
            linear.fit(splits["train"], splits["validation"])
            forecasts[name] = linear.predict(test, rows)
        except (MemoryError, np.linalg.LinAlgError, tf.errors.ResourceExhaustedError) as error:
            # The model is trained: it must not be lost for want of something to compare it with.
            reason = str(error).partition("\n")[0] or "no memory is left"
            notes = (*notes, f"{name} is left out: {reason}")
    return forecasts, notes


def _repeated(split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Forecasts `[K, O]` that repeat a number of the past, where that is known."""
    if not split.known.any():
        return {}
    past = {"persistence": split.present, "same time last season": split.season_before}
    return {name: np.where(split.known, numbers, np.nan)[rows] for name, numbers in past.items()}


def _notes_of_unknown(outputs: list[str], known: np.ndarray) -> tuple[str, ...]:
    names = [output for output, is_known in zip(outputs, known, strict=True) if not is_known]
    if not names:
        return ()
    return (
        f"The column of {', '.join(names)} is no feature: no method sees its past, so there is no "
        "persistence and no same time last season",
    )


def readable(error: float, decimals: int = 2) -> str:
    """An error for people: with these decimals, or if it is small with three digits."""
    return f"{error:.{decimals}f}" if error == 0 or error >= 0.1 else f"{error:.3g}"


def skill_table(skill: Skill, names: list[str], unit: str) -> str:
    """The errors as a Markdown table, one row a method; `-` where it has no forecast."""
    head = [f"mean absolute error ({unit})", *names]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(names)}"]
    for method, errors in skill.errors.items():
        lines.append(f"| {method} | {' | '.join(map(_cell, errors))} |")
    return "\n".join(lines)


def _cell(error: float) -> str:
    return "-" if np.isnan(error) else readable(error)
