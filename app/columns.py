"""Features and outputs as the manifest has them: what callers send, what kernels make of it.

Kernels take float32: numbers as they are or less a base, flags as 1 and 0, categories as codes.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(allow_inf_nan=False)]
# A value in a caller's row.
Sent: TypeAlias = bool | float | str | None
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the manifest. Fields that this version does not know are passed over."""

    model_config = ConfigDict(frozen=True)


class Standardize(Part):
    """x -> (x - mean) / std; of an output y -> y * std + mean."""

    kind: Literal["standardize"]
    mean: Number
    std: Positive


class Relative(Part):
    """The same of what is left of x when `base` is taken from it in float64.

    Mean and std are of what is left. Kernels take and give numbers less the base.
    """

    kind: Literal["relative"]
    base: Number
    mean: Number
    std: Positive


class Flag(Part):
    """x -> x - mean; x is 1 for true and 0 for false."""

    kind: Literal["flag"]
    mean: Number


class OneHot(Part):
    """x -> for each of `values` 1 if x is its code, else 0; less its share.

    The code of `values[i]` is `i + 1`. Code 0 stands for all values that are not known, and gives
    zeros.
    """

    kind: Literal["one_hot"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    shares: tuple[Number, ...]

    @model_validator(mode="after")
    def _values_differ_and_have_shares(self) -> Self:
        if len(set(self.values)) < len(self.values) or len(self.shares) != len(self.values):
            raise ValueError("values differ, and there is a share for each")
        return self

    def table(self) -> np.ndarray:
        """The columns of each code, float32 `[1 + V, V]`."""
        known = np.eye(len(self.values)) - np.array(self.shares)
        return np.concatenate([np.zeros((1, len(self.values))), known]).astype(np.float32)


class Embedding(Part):
    """x -> the row of a table that its code, as of `OneHot`, stands for; the table is a weight.

    Code 0 gives zeros.
    """

    kind: Literal["embedding"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    size: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if len(set(self.values)) < len(self.values):
            raise ValueError("values differ")
        return self

    def table(self, weights: np.ndarray) -> np.ndarray:
        """The columns of each code, float32 `[1 + V, size]`, of weights `[V, size]`."""
        return np.concatenate([np.zeros((1, self.size)), weights]).astype(np.float32)


Category: TypeAlias = OneHot | Embedding


class Cyclic(Part):
    """x -> sin(2 pi x / period), cos(2 pi x / period)."""

    kind: Literal["cyclic"]
    period: Positive


class Change(Part):
    """y -> y * std + mean + the raw value of a feature at the same time step."""

    kind: Literal["change"]
    feature: str
    mean: Number
    std: Positive


class Feature(Part):
    """One raw input column. One that may be `missing` (NaN) gives its inputs as zeros then, and a
    flag behind them.

    Attributes:
        ahead: time steps after the row from which its value is.
        static: whether it is the same in all rows of a sequence.
    """

    name: str
    unit: str
    description: str = ""
    missing: bool = False
    ahead: Annotated[int, Field(ge=0)] = 0
    static: bool = False
    transform: Annotated[
        Standardize | Relative | Cyclic | Flag | OneHot | Embedding, Field(discriminator="kind")
    ]

    @property
    def kind(self) -> Literal["number", "cyclic", "flag", "category"]:
        """What callers send for it."""
        kinds: dict[str, Literal["cyclic", "flag", "category"]] = {
            "cyclic": "cyclic",
            "flag": "flag",
            "one_hot": "category",
            "embedding": "category",
        }
        return kinds.get(self.transform.kind, "number")

    @property
    def base(self) -> float:
        """What kernels take it less; 0 for most."""
        return self.transform.base if isinstance(self.transform, Relative) else 0.0

    def taken(self, value: Sent) -> float | None:
        """What kernels take for a value as callers send it; None where missing."""
        transform = self.transform
        if value is None:
            return None
        if isinstance(transform, Category):
            text = str(value)
            return 1.0 + transform.values.index(text) if text in transform.values else 0.0
        return float(value) - self.base

    @property
    def num_inputs(self) -> int:
        """Columns that the network sees of this feature."""
        width = 1
        if isinstance(self.transform, Cyclic):
            width = 2
        elif isinstance(self.transform, OneHot):
            width = len(self.transform.values)
        elif isinstance(self.transform, Embedding):
            width = self.transform.size
        return width + self.missing


class Output(Part):
    """One output of every time step."""

    name: str
    unit: str
    horizon: int = 0
    transform: Annotated[Standardize | Relative | Change, Field(discriminator="kind")]

    def base(self, features: Sequence[Feature]) -> float:
        """What kernels give it less; of a change it is that of its feature. 0 for most."""
        transform = self.transform
        if isinstance(transform, Change):
            return next(f.base for f in features if f.name == transform.feature)
        return transform.base if isinstance(transform, Relative) else 0.0
