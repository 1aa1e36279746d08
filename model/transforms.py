"""Raw columns to network inputs, network outputs to real units: a small fixed vocabulary.

`data/dataset.py` fits the numbers, `network/sequence_model.py` puts them into the graph, and the
manifest repeats them, so that a kernel without TensorFlow can do the same:

    standardize  x -> (x - mean) / std
    relative     the same of a column whose numbers are large beside what they differ by: x is what
                 is left of a number when a base is taken from it, in float64, outside of the graph
    cyclic       x -> sin(2 pi x / period), cos(2 pi x / period)
    flag         x, 0 or 1 -> x - mean
    one_hot      x, the code of a value -> for each value 1 or 0, less its share of the rows
    embedding    x, the code of a value -> the row of a table that training finds
    missing      a feature that may be missing gets a flag (1 where it is) as its last column, and
                 zeros for the others: the mean of a standardised one
    change       output y -> y * std + mean + the present value of a feature

Code 0 stands for all values that are not known. It becomes zeros: the mean of all values, or what
the rows of a table are drawn around.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeAlias

import numpy as np
import tensorflow as tf
from pydantic import Field

from model.network_config import Frozen


class Standardize(Frozen):
    """(x - mean) / std."""

    kind: Literal["standardize"] = "standardize"
    mean: float
    std: Annotated[float, Field(gt=0)]


class Relative(Frozen):
    """(x - mean) / std of a number less `base`; mean and std are of what is left of it."""

    kind: Literal["relative"] = "relative"
    base: float
    mean: float
    std: Annotated[float, Field(gt=0)]


class Cyclic(Frozen):
    """Sine and cosine of the place within a period."""

    kind: Literal["cyclic"] = "cyclic"
    period: Annotated[float, Field(gt=0)]


class Flag(Frozen):
    """x - mean of 1 for true and 0 for false."""

    kind: Literal["flag"] = "flag"
    mean: float


class OneHot(Frozen):
    """A column for each of `values`; value `values[i]` has the code `i + 1`.

    Attributes:
        values: as callers send them.
        shares: of the rows of the training split that each has.
    """

    kind: Literal["one_hot"] = "one_hot"
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    shares: tuple[float, ...]

    def table(self) -> np.ndarray:
        """The columns of each code, float32 `[1 + V, V]`."""
        known = np.eye(len(self.values)) - np.array(self.shares)
        return np.concatenate([np.zeros((1, len(self.values))), known]).astype(np.float32)


class Embedding(Frozen):
    """A row of `size` numbers for each of `values`; `values[i]` has the code `i + 1`."""

    kind: Literal["embedding"] = "embedding"
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    size: Annotated[int, Field(ge=1)]

    def table(self, weights: np.ndarray) -> np.ndarray:
        """The columns of each code, float32 `[1 + V, size]`, of weights `[V, size]`."""
        return np.concatenate([np.zeros((1, self.size)), weights]).astype(np.float32)


Category: TypeAlias = OneHot | Embedding


class Change(Frozen):
    """A standardised change from the present value of `feature`."""

    kind: Literal["change"] = "change"
    feature: str
    mean: float
    std: Annotated[float, Field(gt=0)]


InputTransform = Annotated[
    Standardize | Relative | Cyclic | Flag | OneHot | Embedding, Field(discriminator="kind")
]


class Feature(Frozen):
    """One raw input column and its transform.

    Attributes:
        missing: whether it may be NaN (null in JSON).
        ahead: time steps after the row from which its value is.
        static: whether it is the same in all rows of a sequence.
    """

    name: str
    unit: str
    description: str = ""
    missing: bool = False
    ahead: int = 0
    static: bool = False
    transform: InputTransform

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


class Output(Frozen):
    """One output of the network and how it becomes a number in `unit`."""

    name: str
    unit: str
    horizon: int = 0
    transform: Annotated[Standardize | Relative | Change, Field(discriminator="kind")]


def num_inputs(features: Iterable[Feature]) -> int:
    """Columns that the network sees at a time step."""
    return sum(feature.num_inputs for feature in features)


def encode_features(
    raw: tf.Tensor, features: tuple[Feature, ...], tables: Mapping[str, tf.Tensor] | None = None
) -> tf.Tensor:
    """Raw columns to network inputs.

    Args:
        raw: float32 `[B, T, F]`, in the order of `features`: numbers, those that are relative less
            their base, flags and codes; NaN where missing.
        features: the transform of each column.
        tables: of embeddings by their features' names, float32 `[V, size]`; one that is not there
            is zeros.

    Returns:
        float32 `[B, T, I]`: each feature's columns in turn.
    """
    columns = []
    for index, feature in enumerate(features):
        x = raw[..., index]
        absent = tf.math.is_nan(x)
        values = _encoded(x, feature.transform, (tables or {}).get(feature.name))
        if feature.missing:
            values = [tf.where(absent, 0.0, value) for value in values]
            values.append(tf.cast(absent, tf.float32))
        columns.extend(values)
    return tf.stack(columns, axis=-1)


def codes_of(x: tf.Tensor, category: Category) -> tf.Tensor:
    """The codes of a category, int32; 0 where it is missing, and for what pads a batch."""
    # Padding may be any number.
    known = tf.clip_by_value(tf.where(tf.math.is_nan(x), 0.0, x), 0.0, len(category.values))
    return tf.cast(known, tf.int32)


def _encoded(x: tf.Tensor, transform: InputTransform, weights: tf.Tensor | None) -> list[tf.Tensor]:
    """The columns of one feature, float32 `[B, T]` each; NaN where it is missing, or zeros."""
    if isinstance(transform, Cyclic):
        angle = x * (2 * math.pi / transform.period)
        return [tf.sin(angle), tf.cos(angle)]
    if isinstance(transform, Flag):
        return [x - transform.mean]
    if isinstance(transform, OneHot):
        columns = tf.gather(tf.constant(transform.table()), codes_of(x, transform))
        return list(tf.unstack(columns, axis=-1))
    if isinstance(transform, Embedding):
        if weights is None:
            return [tf.zeros_like(x)] * transform.size
        table = tf.concat([tf.zeros([1, transform.size]), weights], axis=0)
        return list(tf.unstack(tf.gather(table, codes_of(x, transform)), axis=-1))
    return [(x - transform.mean) / transform.std]


def decode_outputs(
    standardized: tf.Tensor,
    raw: tf.Tensor,
    outputs: tuple[Output, ...],
    features: tuple[Feature, ...],
) -> tf.Tensor:
    """Network outputs to real units.

    Args:
        standardized: float32 `[B, T, O]`, as the head gives them.
        raw: float32 `[B, T, F]`, as `encode_features` takes them, of the same time steps.
        outputs: the transform of each output.
        features: the names of the raw columns.

    Returns:
        float32 `[B, T, O]` in the units of `outputs`, less the base of those that have one.
    """
    index = {feature.name: i for i, feature in enumerate(features)}
    std = tf.constant([output.transform.std for output in outputs], tf.float32)
    mean = tf.constant([output.transform.mean for output in outputs], tf.float32)
    present = tf.stack(
        [
            raw[..., index[output.transform.feature]]
            if isinstance(output.transform, Change)
            else tf.zeros_like(raw[..., 0])
            for output in outputs
        ],
        axis=-1,
    )
    return standardized * std + mean + present
