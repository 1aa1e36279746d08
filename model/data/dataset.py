"""From a table to training windows.

    `read_table` -> `load` -> one `Split` each for training, validation and test
                   -> `windows` -> `Batches` of raw `[B, T, F]`, lengths and targets

The splits are cut by time, at the same moment for every series, with a gap of the longest horizon
between them. A run is a stretch of a split without a gap in time; no window crosses from one run
to the next. Numbers stay raw: the transforms that `fit_features` and `fit_outputs` find are applied
inside the graph.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from model.data.columns import Columns
from model.data.table import DataError, because, left_out, read_table
from model.tasks.task import FeatureConfig, OutputConfig, TaskConfig
from model.transforms import (
    Change,
    Cyclic,
    Feature,
    Flag,
    InputTransform,
    OneHot,
    Output,
    Relative,
    Standardize,
)

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
        features: float32 `[N, F]`, raw, NaN where missing; columns that have a base less that,
            flags as 0 and 1, categories as codes.
        targets: float32 `[N, O]`, raw, or less the base; NaN where the future is not known within
            the split.
        present: float32 `[N, O]`, what each target's column is now.
        season_before: float32 `[N, O]`, what each target's column was a season before the target.
        known: bool `[O]`, whether each target's column is a feature, so that who forecasts knows
            its past.
        run_starts: int64 `[N]`, the row at which each row's run starts.
        left_out: how many rows of the whole table were left out, and why; empty if none was.
        columns: bases, and values of categories.
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
    columns: Columns = field(default_factory=Columns)

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
    parts = {name: table[(times >= start) & (times < end)] for name, (start, end) in spans.items()}
    columns = Columns.of(task, parts["train"])
    return {name: _split(name, part, columns, task, step) for name, part in parts.items()}


def _split(
    name: str, table: pd.DataFrame, columns: Columns, task: TaskConfig, step: pd.Timedelta
) -> Split:
    if table.empty:
        raise DataError(
            f"the {name} split is empty: the table is too short{because(left_out(table))}"
        )
    times = table[task.time]
    series = table[task.series].astype(str).to_numpy() if task.series else np.full(len(table), "")
    index = pd.MultiIndex.from_arrays([series, times])

    def shifted(numbers: np.ndarray, steps: int) -> np.ndarray:
        """A column so many time steps later, found by time: a gap between does no harm."""
        wanted = pd.MultiIndex.from_arrays([series, times + steps * step])
        return np.asarray(pd.Series(numbers, index=index).reindex(wanted), np.float32)

    features = []
    # Where the future of a feature is not known that must not be missing, the network has no row.
    kept = np.ones(len(table), bool)
    for config in task.features:
        column = columns.feature(table, config)
        if config.ahead:
            column = shifted(column, config.ahead)
            kept &= config.missing | ~np.isnan(column)
        features.append(column)
    present = [columns.numbers(table, o.column) for o in task.outputs]
    pairs = list(zip(task.outputs, present, strict=True))
    if not kept.any():
        raise DataError(f"the {name} split is empty: no row has the future of the features ahead")
    return Split(
        name=name,
        times=times.to_numpy()[kept],
        series=series[kept],
        features=np.stack(features, axis=1)[kept],
        targets=np.stack([shifted(x, o.horizon) for o, x in pairs], axis=1)[kept],
        present=np.stack(present, axis=1)[kept],
        season_before=np.stack(
            [shifted(x, o.horizon - _whole_seasons(o, task)) for o, x in pairs], axis=1
        )[kept],
        known=np.isin([o.column for o in task.outputs], [f.column for f in _now(task)]),
        run_starts=_run_starts(times.to_numpy()[kept], series[kept], step),
        left_out=left_out(table),
        columns=columns,
    )


def _now(task: TaskConfig) -> list[FeatureConfig]:
    """The features that tell of the time step that they are of."""
    return [feature for feature in task.features if not feature.ahead]


def _run_starts(times: np.ndarray, series: np.ndarray, step: pd.Timedelta) -> np.ndarray:
    """The row, int64 `[N]`, at which each row's run starts."""
    new_run = np.ones(len(times), dtype=bool)
    new_run[1:] = (np.diff(times) != step.to_timedelta64()) | (series[1:] != series[:-1])
    return np.asarray(np.maximum.accumulate(np.where(new_run, np.arange(len(times)), 0)))


def _whole_seasons(output: OutputConfig, task: TaskConfig) -> int:
    """Time steps of the fewest whole seasons that bring the target back to the known past."""
    return max(1, -(-output.horizon // task.season_steps)) * task.season_steps


def fit_features(task: TaskConfig, train: Split) -> tuple[Feature, ...]:
    """The transform of each feature, fitted on the training split."""
    return tuple(
        Feature(
            name=config.name,
            unit=config.unit,
            description=config.description,
            missing=config.missing,
            ahead=config.ahead,
            static=config.static,
            transform=_input_transform(config, train.features[:, index], train.columns),
        )
        for index, config in enumerate(task.features)
    )


def _input_transform(
    config: FeatureConfig, numbers: np.ndarray, columns: Columns
) -> InputTransform:
    """The transform of a feature whose column is `numbers`, float32 `[N]`."""
    if config.period is not None:
        return Cyclic(period=config.period)
    what = f"column {config.column!r}"
    if config.kind == "category":
        shares = columns.values[config.column]
        if not shares:
            raise DataError(f"{what} has no value in the training split")
        return OneHot(values=tuple(shares), shares=tuple(shares.values()))
    column = numbers.astype(np.float64)
    fitted = _standardize(column, column, what)
    if config.kind == "flag":
        return Flag(mean=fitted.mean)
    return _relative(fitted, columns.bases.get(config.column))


def _relative(fitted: Standardize, base: float | None) -> Standardize | Relative:
    return fitted if base is None else Relative(base=base, mean=fitted.mean, std=fitted.std)


def fit_outputs(task: TaskConfig, train: Split) -> tuple[Output, ...]:
    """The transform of each output, fitted on the training split."""
    outputs = []
    for index, config in enumerate(task.outputs):
        target = train.targets[:, index].astype(np.float64)
        transform: Standardize | Relative | Change
        if config.change:
            change = target - train.present[:, index]
            fitted = _standardize(change, target, f"output {config.name!r}")
            transform = Change(
                feature=task.always_known[config.column], mean=fitted.mean, std=fitted.std
            )
        else:
            fitted = _standardize(target, target, f"output {config.name!r}")
            transform = _relative(fitted, train.columns.bases.get(config.column))
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
