"""From a table to training windows.

    `read_table` -> `load` -> one `Split` each for training, validation and test
                   -> `windows` -> `Batches` of raw `[B, T, F]`, lengths and targets

A run is a stretch of a split without a gap in time; no window crosses from one run
to the next. Numbers stay raw: the transforms that `fit_features` and `fit_outputs` find are applied
inside the graph.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from model.data.cells import DataError
from model.data.column_encoding import Columns, Transforms, category
from model.data.cuts import Rows, cut
from model.data.spread import check_changes, standardize
from model.data.table import left_out, read_table
from model.data.time_index import Ticks, count_ticks, rows_later, run_starts, time_column
from model.tasks.task import FeatureConfig, OutputConfig, TaskConfig
from model.transforms import (
    Change,
    Cyclic,
    Feature,
    Flag,
    InputTransform,
    Output,
    Relative,
    Standardize,
)


@dataclass(frozen=True)
class Split:
    """The rows of one span of time, sorted by series and time.

    Rows before it may come with it, so that its first forecasts have a past to look back on, as
    they will have when the model is served. What comes after those is not known.

    Attributes:
        name: `train`, `validation` or `test`.
        times: datetime64 `[N]`, or numbers where the task has no times.
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
        own: bool `[N]`: which rows are of the span itself.
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
    own: np.ndarray
    left_out: str
    columns: Columns = field(default_factory=Columns)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def own_times(self) -> np.ndarray:
        """Of the span itself, `[K]`."""
        return np.asarray(self.times[self.own])


def load(
    task: TaskConfig,
    part: float = 1.0,
    transforms: Transforms | None = None,
    past_steps: int = 0,
) -> dict[str, Split]:
    """Reads the table and cuts it into `train`, `validation` and `test`, see `cuts.py`.

    Args:
        task: the table, and where it is cut.
        part: of the time covered, from its beginning; what is later is not there.
        transforms: of the model whose training goes on; its bases and values hold.
        past_steps: so many time steps before validation and test come with them where they are
            short.

    Raises:
        OSError, DataError: as of `read_table` and `split_table`.
    """
    splits = split_table(read_table(task), task, part, transforms, past_steps)
    # The table is gone; training has use for its memory.
    pa.default_memory_pool().release_unused()
    return splits


def split_table(
    table: pd.DataFrame,
    task: TaskConfig,
    part: float = 1.0,
    transforms: Transforms | None = None,
    past_steps: int = 0,
) -> dict[str, Split]:
    """Cuts a table, as `read_table` gives it; see `load`.

    Raises:
        DataError: a split is empty.
    """
    times = table[time_column(task)].to_numpy()
    ticks = count_ticks(times, task)
    series = _series(table, task)
    found = cut(times, ticks, series.codes, task, left_out(table), part, past_steps)
    columns = Columns.of(task, table, found["train"].all)
    if transforms is not None:
        columns = columns.as_in(task, transforms)
    return {
        name: _split(
            name,
            table,
            rows,
            columns,
            task,
            Ticks(ticks.of_rows[rows.all], ticks.step),
            series[rows.all],
        )
        for name, rows in found.items()
    }


def _series(table: pd.DataFrame, task: TaskConfig) -> pd.Categorical:
    """Which series a row is of, `[N]`, of those that there are."""
    if task.series is None:
        return pd.Categorical.from_codes(np.zeros(len(table), np.int8), [""])
    codes, names = pd.factorize(table[task.series], sort=True)
    return pd.Categorical.from_codes(codes, [str(name) for name in names])


def _split(
    name: str,
    table: pd.DataFrame,
    found: Rows,
    columns: Columns,
    task: TaskConfig,
    ticks: Ticks,
    series: pd.Categorical,
) -> Split:
    rows = found.all

    def shifted(numbers: np.ndarray, steps: int) -> np.ndarray:
        """A column so many time steps later, found by time: a gap between does no harm."""
        later = rows_later(ticks.of_rows, series.codes, steps * ticks.step)
        return np.where(later < 0, np.float32(np.nan), numbers[later])

    features = np.empty((len(rows), len(task.features)), np.float32)
    # Where the future of a feature is not known that must not be missing, the network has no row.
    kept = np.ones(len(rows), bool)
    for index, config in enumerate(task.features):
        features[:, index] = columns.feature(table, config)[rows]
        if config.ahead:
            features[:, index] = shifted(features[:, index], config.ahead)
            kept &= config.missing | ~np.isnan(features[:, index])
    if not (kept & found.own).any():
        raise DataError(f"the {name} split is empty: no row has the future of the features ahead")
    present = [columns.numbers(table, o.column)[rows] for o in task.outputs]
    pairs = list(zip(task.outputs, present, strict=True))
    targets = np.stack([shifted(x, o.horizon) for o, x in pairs], axis=1)
    targets[~found.own] = np.nan
    return Split(
        name=name,
        times=table[time_column(task)].to_numpy()[rows[kept]],
        series=series.categories.to_numpy(object)[series.codes[kept]],
        features=features if kept.all() else features[kept],
        targets=targets[kept],
        present=np.stack(present, axis=1)[kept],
        season_before=np.stack(
            [shifted(x, o.horizon - _whole_seasons(o, task)) for o, x in pairs], axis=1
        )[kept],
        known=np.isin([o.column for o in task.outputs], [f.column for f in _now(task)]),
        run_starts=run_starts(ticks.of_rows[kept], series.codes[kept], ticks.step),
        own=found.own[kept],
        left_out=left_out(table),
        columns=columns,
    )


def _now(task: TaskConfig) -> list[FeatureConfig]:
    """The features that tell of the time step that they are of."""
    return [feature for feature in task.features if not feature.ahead]


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
        return category(shares)
    column = numbers.astype(np.float64)
    fitted = standardize(column, column, what)
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
        check_changes(target, config, train.columns.bases.get(config.column, 0.0))
        transform: Standardize | Relative | Change
        if config.change:
            change = target - train.present[:, index]
            fitted = standardize(change, target, f"output {config.name!r}")
            transform = Change(
                feature=task.always_known[config.column], mean=fitted.mean, std=fitted.std
            )
        else:
            fitted = standardize(target, target, f"output {config.name!r}")
            transform = _relative(fitted, train.columns.bases.get(config.column))
        outputs.append(
            Output(name=config.name, unit=config.unit, horizon=config.horizon, transform=transform)
        )
    return tuple(outputs)


def windows(split: Split, steps: int, stride: int) -> np.ndarray:
    """Where windows of up to `steps` time steps lie within runs.

    Windows start every `stride` time steps of a run, and end at `steps` or at the run's end; a run
    shorter than `steps` is one short window. None lies wholly before its split.

    Returns:
        int64 `[W, 2]`: first row and length of each window.
    """
    ends = np.append(np.flatnonzero(np.diff(split.run_starts)) + 1, len(split))
    found = []
    for start, end in zip(np.unique(split.run_starts), ends, strict=True):
        last = max(start, end - steps)
        starts = np.unique(np.append(np.arange(start, last, stride), last))
        found.append(np.stack([starts, np.minimum(steps, end - starts)], axis=1))
    places = np.concatenate(found)
    return np.asarray(places[split.own[places.sum(axis=1) - 1]])
