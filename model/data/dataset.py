"""From a table to training windows.

    `read_table` -> `load` -> one `Split` each for training, validation and test
                   -> `windows` -> `batches` (tf.data) of raw `[B, T, F]`, lengths and targets

The splits are cut by time, at the same moment for every series, with a gap of the longest horizon
between them. A run is a stretch of a split without a gap in time; no window crosses from one run
to the next. Numbers stay raw: the transforms that `fit_features` and `fit_outputs` find are applied
inside the graph.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf

from model.data.table import DataError, because, left_out, read_table
from model.tasks.task import OutputConfig, TaskConfig
from model.transforms import Change, Cyclic, Feature, Output, Standardize

# A column whose spread is less than this part of its largest number never changes: what it has is
# the rounding of float32. It is left as it is rather than divided by zero.
SMALLEST_SPREAD = float(np.finfo(np.float32).eps)
# Smaller numbers are zero to most kernels.
SMALLEST_STD = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Split:
    """The rows of one span of time, sorted by series and time.

    Attributes:
        name: `train`, `validation` or `test`.
        times: datetime64 `[N]`.
        series: which series a row is of, `[N]`.
        features: float32 `[N, F]`, raw, NaN where missing.
        targets: float32 `[N, O]`, raw; NaN where the future is not known within the split.
        present: float32 `[N, O]`, what each target's column is now.
        season_before: float32 `[N, O]`, what each target's column was a season before the target.
        known: bool `[O]`, whether each target's column is a feature, so that who forecasts knows
            its past.
        run_starts: int64 `[N]`, the row at which each row's run starts.
        left_out: how many rows of the whole table were left out, and why; empty if none was.
    """

    name: str
    times: np.ndarray
    series: np.ndarray
    features: np.ndarray
    targets: np.ndarray
    present: np.ndarray
    season_before: np.ndarray
    known: np.ndarray
    run_starts: np.ndarray
    left_out: str

    def __len__(self) -> int:
        return len(self.times)


def load(task: TaskConfig) -> dict[str, Split]:
    """Reads the table and cuts it by time into `train`, `validation` and `test`.

    Raises:
        OSError, DataError: as of `read_table`; DataError also when a split is empty.
    """
    table = read_table(task)
    times = table[task.time]
    first, last = times.min(), times.max()
    step = pd.Timedelta(seconds=task.time_step_s)
    cuts = [
        first + (last - first) * fraction
        for fraction in (task.train_fraction, task.train_fraction + task.validation_fraction)
    ]
    gap = task.max_horizon * step
    spans = {
        "train": (first, cuts[0]),
        "validation": (cuts[0] + gap, cuts[1]),
        "test": (cuts[1] + gap, last + step),
    }
    return {
        name: _split(name, table[(times >= start) & (times < end)], task, step)
        for name, (start, end) in spans.items()
    }


def _split(name: str, table: pd.DataFrame, task: TaskConfig, step: pd.Timedelta) -> Split:
    if table.empty:
        raise DataError(
            f"the {name} split is empty: the table is too short{because(left_out(table))}"
        )
    times = table[task.time].to_numpy()
    series = table[task.series].astype(str).to_numpy() if task.series else np.full(len(table), "")
    new_run = np.ones(len(table), dtype=bool)
    new_run[1:] = (np.diff(times) != step.to_timedelta64()) | (series[1:] != series[:-1])
    index = pd.MultiIndex.from_arrays([series, table[task.time]])

    def shifted(column: str, steps: int) -> np.ndarray:
        """The column so many time steps later, found by time: a gap between does no harm."""
        values = pd.Series(table[column].to_numpy(np.float32), index=index)
        wanted = pd.MultiIndex.from_arrays([series, table[task.time] + steps * step])
        return np.asarray(values.reindex(wanted), np.float32)

    return Split(
        name=name,
        times=times,
        series=series,
        features=table[[f.column for f in task.features]].to_numpy(np.float32),
        targets=np.stack([shifted(o.column, o.horizon) for o in task.outputs], axis=1),
        present=table[[o.column for o in task.outputs]].to_numpy(np.float32),
        season_before=np.stack(
            [shifted(o.column, o.horizon - _whole_seasons(o, task)) for o in task.outputs], axis=1
        ),
        known=np.isin([o.column for o in task.outputs], [f.column for f in task.features]),
        run_starts=np.maximum.accumulate(np.where(new_run, np.arange(len(table)), 0)),
        left_out=left_out(table),
    )


def _whole_seasons(output: OutputConfig, task: TaskConfig) -> int:
    """Time steps of the fewest whole seasons that bring the target back to the known past."""
    return max(1, -(-output.horizon // task.season_steps)) * task.season_steps


def fit_features(task: TaskConfig, train: Split) -> tuple[Feature, ...]:
    """The transform of each feature, fitted on the training split."""
    features = []
    for index, config in enumerate(task.features):
        column = train.features[:, index].astype(np.float64)
        transform: Standardize | Cyclic
        if config.period is not None:
            transform = Cyclic(period=config.period)
        else:
            transform = _standardize(column, column, f"column {config.column!r}")
        features.append(
            Feature(
                name=config.name,
                unit=config.unit,
                description=config.description,
                missing=config.missing,
                transform=transform,
            )
        )
    return tuple(features)


def fit_outputs(task: TaskConfig, train: Split) -> tuple[Output, ...]:
    """The transform of each output, fitted on the training split."""
    outputs = []
    for index, config in enumerate(task.outputs):
        target = train.targets[:, index].astype(np.float64)
        transform: Standardize | Change
        if config.change:
            change = target - train.present[:, index]
            fitted = _standardize(change, target, f"output {config.name!r}")
            transform = Change(
                feature=task.always_known[config.column], mean=fitted.mean, std=fitted.std
            )
        else:
            transform = _standardize(target, target, f"output {config.name!r}")
        outputs.append(
            Output(name=config.name, unit=config.unit, horizon=config.horizon, transform=transform)
        )
    return tuple(outputs)


def _standardize(numbers: np.ndarray, column: np.ndarray, what: str) -> Standardize:
    """Mean and spread of `numbers`, which were made of `column` and have its rounding."""
    if np.isnan(numbers).all():
        raise DataError(f"{what} has no number in the training split")
    std = float(np.nanstd(numbers))
    smallest = max(SMALLEST_STD, SMALLEST_SPREAD * float(np.nanmax(np.abs(column))))
    return Standardize(mean=float(np.nanmean(numbers)), std=std if std >= smallest else 1.0)


def windows(split: Split, steps: int, stride: int) -> np.ndarray:
    """Where windows of up to `steps` time steps lie within runs.

    Windows start every `stride` time steps of a run, and end at `steps` or at the run's end; a run
    shorter than `steps` is one short window.

    Returns:
        int64 `[W, 2]`: first row and length of each window.
    """
    ends = np.append(np.flatnonzero(np.diff(split.run_starts)) + 1, len(split))
    found = []
    for start, end in zip(np.unique(split.run_starts), ends, strict=True):
        last = max(start, end - steps)
        starts = np.unique(np.append(np.arange(start, last, stride), last))
        found.append(np.stack([starts, np.minimum(steps, end - starts)], axis=1))
    return np.concatenate(found)


def batches(
    split: Split, places: np.ndarray, steps: int, batch_size: int, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches of windows, padded to `steps` time steps.

    Args:
        split: where the rows are.
        places: int64 `[W, 2]`, as `windows` gives them.
        steps: T of every batch.
        batch_size: B of every batch but the last.
        shuffle_seed: a new order each pass when given.

    Returns:
        `({"sequences" [B,T,F] float32, "lengths" [B] int32}, targets [B,T,O] float32)`. Targets are
        NaN where unknown and beyond a window's length.
    """
    features, targets = tf.constant(split.features), tf.constant(split.targets)
    pool = tf.data.Dataset.from_tensor_slices(places)
    if shuffle_seed is not None:
        pool = pool.shuffle(len(places), seed=shuffle_seed, reshuffle_each_iteration=True)

    def gather(place: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        start, length = place[:, :1], place[:, 1:]
        time = tf.range(steps, dtype=tf.int64)[tf.newaxis]
        inside = (time < length)[..., tf.newaxis]
        rows = start + tf.minimum(time, length - 1)
        # Beyond the length the last row is repeated: finite numbers, never used.
        sequences = tf.gather(features, rows)
        known = tf.where(inside, tf.gather(targets, rows), np.nan)
        return {"sequences": sequences, "lengths": tf.cast(length[:, 0], tf.int32)}, known

    return pool.batch(batch_size).map(gather, num_parallel_calls=1).prefetch(2)
