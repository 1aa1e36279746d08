"""Columns of a table as the network takes them: less a base, as 0 and 1, as codes.

`Columns.of` finds in the training split what bases and values there are, and `dataset.py` takes
every number of a table through `Columns`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np
import pandas as pd

from model.tasks.task import FeatureConfig, TaskConfig
from model.transforms import Category, Embedding, Feature, Flag, OneHot, Output, Relative

# A column whose spread is below this part of its largest number is held relative to a base: of
# float32's 24 bits 12 would be left, or less, to tell what differs.
RELATIVE = 2.0**-12
# Numbers that differ by less than this part of them differ by the rounding of float64.
SAME = 16 * float(np.finfo(np.float64).eps)
# Columns of a category at most; more values have a table.
MOST_COLUMNS = 32
# Values of a category that are known; of more, the most frequent ones.
MOST_KNOWN = 10_000

# Of a model: those of its features and of its outputs.
Transforms: TypeAlias = tuple[Sequence[Feature], Sequence[Output]]

# What stands for a value in a caller's row.
Sent: TypeAlias = float | bool | str | None


@dataclass(frozen=True)
class Columns:
    """What the training split tells of columns.

    Attributes:
        bases: of the columns that are held relative to one.
        values: of the columns that are categories, and the share of its rows that each has.
    """

    bases: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, task: TaskConfig, table: pd.DataFrame, train: np.ndarray) -> Self:
        """Looks at the rows of the training split, int64 `[K]`."""
        measured = [f.column for f in task.features if f.kind == "number"]
        others = {f.column for f in task.features if f.kind != "number"}
        numbers = dict.fromkeys([*measured, *(o.column for o in task.outputs)])
        bases = {c: _base_of(table[c].to_numpy()[train]) for c in numbers if c not in others}
        categories = {f.column for f in task.features if f.kind == "category"}
        return cls(
            {column: base for column, base in bases.items() if base},
            {column: _shares_of(table[column].iloc[train]) for column in categories},
        )

    def as_in(self, task: TaskConfig, transforms: Transforms) -> "Columns":
        """The same, with bases and values as a model has them whose training goes on."""
        features, outputs = ({each.name: each.transform for each in part} for part in transforms)
        bases, values = dict(self.bases), dict(self.values)
        known = [(o.column, outputs.get(o.name)) for o in task.outputs]
        # A change has the base of its feature, which comes later.
        known += [(f.column, features.get(f.name)) for f in task.features]
        for column, transform in known:
            if transform is not None:
                bases.pop(column, None)
            if isinstance(transform, Relative):
                bases[column] = transform.base
            elif isinstance(transform, Category):
                # Their shares are in the transform already.
                values[column] = dict.fromkeys(transform.values, 0.0)
        return Columns(bases, values)

    def numbers(self, table: pd.DataFrame, column: str) -> np.ndarray:
        """A column of numbers, less its base; float32 `[N]`."""
        numbers = table[column].to_numpy(np.float64, na_value=np.nan)
        return np.asarray(numbers - self.bases.get(column, 0.0), np.float32)

    def feature(self, table: pd.DataFrame, config: FeatureConfig) -> np.ndarray:
        """The column of a feature as the network takes it; float32 `[N]`, NaN where missing."""
        if config.kind != "category":
            return self.numbers(table, config.column)
        codes = {value: code for code, value in enumerate(self.values[config.column], 1)}
        column = pd.Categorical(table[config.column])
        # A cell without a value has the code -1.
        made = [*(codes.get(str(value), 0) for value in column.categories), np.nan]
        return np.asarray(np.array(made, np.float32)[column.codes])


def _base_of(numbers: np.ndarray) -> float:
    """A round number amid a column, or 0 where it needs no base."""
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return 0.0
    largest, spread = float(np.abs(numbers).max()), float(np.std(numbers))
    if np.ptp(numbers) <= SAME * largest or spread >= RELATIVE * largest:
        return 0.0
    unit = 10.0 ** np.floor(np.log10(spread))
    return float(np.round(numbers.mean() / unit) * unit)


def _shares_of(column: pd.Series) -> dict[str, float]:
    """The known values of a category, in order, and their shares of the rows that have one."""
    counts = column.value_counts()
    counts = counts[counts > 0].rename(str)
    total = int(counts.sum())
    # Of values that are as frequent, the first in order.
    kept = counts.sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    return {str(value): int(count) / total for value, count in sorted(kept[:MOST_KNOWN].items())}


def category(shares: Mapping[str, float]) -> Category:
    """The transform of a category: a column for each value, or where these are many a table."""
    values = tuple(shares)
    if len(values) <= MOST_COLUMNS:
        return OneHot(values=values, shares=tuple(shares.values()))
    # As wide as fastai has it, a rule of thumb: 12 numbers for 33 values, 21 for 100.
    size = min(MOST_COLUMNS, round(1.6 * len(values) ** 0.56))
    return Embedding(values=values, size=size)


def as_callers_send(features: Sequence[Feature], rows: Iterable[np.ndarray]) -> list[list[Sent]]:
    """Rows `[F]` as the network takes them in a caller's terms; None where missing.

    Numbers are whole with their base, and as short as float32 is told; flags are true or false,
    and categories text.
    """
    return [[_sent(f, x) for f, x in zip(features, row, strict=True)] for row in rows]


def _sent(feature: Feature, x: np.float32) -> Sent:
    if np.isnan(x):
        return None
    transform = feature.transform
    if isinstance(transform, Flag):
        return bool(x)
    if isinstance(transform, Category):
        return ("unknown", *transform.values)[int(x)]
    number = float(str(x))
    return number + transform.base if isinstance(transform, Relative) else number
