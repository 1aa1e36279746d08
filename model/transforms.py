"""Raw columns to network inputs, network outputs to real units: a small fixed vocabulary.

`data/dataset.py` fits the numbers, `network/sequence_model.py` puts them into the graph, and the
manifest repeats them, so that a kernel without TensorFlow can do the same:

    standardize  x -> (x - mean) / std
    cyclic       x -> sin(2 pi x / period), cos(2 pi x / period)
    missing      a feature that may be missing gets a flag (1 where it is) as its last column, and
                 zeros for the others: the mean of a standardised one
    change       output y -> y * std + mean + the present value of a feature
"""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import tensorflow as tf
from pydantic import Field

from model.config import Frozen


class Standardize(Frozen):
    """(x - mean) / std."""

    kind: Literal["standardize"] = "standardize"
    mean: float
    std: Annotated[float, Field(gt=0)]


class Cyclic(Frozen):
    """Sine and cosine of the place within a period."""

    kind: Literal["cyclic"] = "cyclic"
    period: Annotated[float, Field(gt=0)]


class Change(Frozen):
    """A standardised change from the present value of `feature`."""

    kind: Literal["change"] = "change"
    feature: str
    mean: float
    std: Annotated[float, Field(gt=0)]


class Feature(Frozen):
    """One raw input column and its transform; `missing` allows NaN (null in JSON)."""

    name: str
    unit: str
    description: str = ""
    missing: bool = False
    transform: Annotated[Standardize | Cyclic, Field(discriminator="kind")]

    @property
    def num_inputs(self) -> int:
        """Columns that the network sees of this feature."""
        return (2 if isinstance(self.transform, Cyclic) else 1) + self.missing


class Output(Frozen):
    """One output of the network and how it becomes a number in `unit`."""

    name: str
    unit: str
    horizon: int = 0
    transform: Annotated[Standardize | Change, Field(discriminator="kind")]


def num_inputs(features: Iterable[Feature]) -> int:
    """Columns that the network sees at a time step."""
    return sum(feature.num_inputs for feature in features)


def encode_features(raw: tf.Tensor, features: tuple[Feature, ...]) -> tf.Tensor:
    """Raw columns to network inputs.

    Args:
        raw: float32 `[B, T, F]`, in the order of `features`; NaN where missing.
        features: the transform of each column.

    Returns:
        float32 `[B, T, I]`: each feature's columns in turn.
    """
    columns = []
    for index, feature in enumerate(features):
        x = raw[..., index]
        absent = tf.math.is_nan(x)
        transform = feature.transform
        if isinstance(transform, Cyclic):
            angle = x * (2 * math.pi / transform.period)
            values = [tf.sin(angle), tf.cos(angle)]
        else:
            values = [(x - transform.mean) / transform.std]
        if feature.missing:
            values = [tf.where(absent, 0.0, value) for value in values]
            values.append(tf.cast(absent, tf.float32))
        columns.extend(values)
    return tf.stack(columns, axis=-1)


def decode_outputs(
    standardized: tf.Tensor,
    raw: tf.Tensor,
    outputs: tuple[Output, ...],
    features: tuple[Feature, ...],
) -> tf.Tensor:
    """Network outputs to real units.

    Args:
        standardized: float32 `[B, T, O]`, as the head gives them.
        raw: float32 `[B, T, F]`, the raw inputs of the same time steps.
        outputs: the transform of each output.
        features: the names of the raw columns.

    Returns:
        float32 `[B, T, O]` in the units of `outputs`.
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
