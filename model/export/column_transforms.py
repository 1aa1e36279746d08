"""Transforms as arrays, for graphs that compute all columns of a kind at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from model.transforms import Change, Cyclic, Feature, Output, Standardize


@dataclass(frozen=True)
class InputColumns:
    """The features by their transforms, and by their places among the raw columns.

    The network's inputs are made in the order: all of `plain`, the sines of `cyclic`, their
    cosines, the flags of `missing`.

    Attributes:
        plain: places of the features that are standardised.
        mean, std: of each of them, float32 `[len(plain)]`.
        cyclic: places of those with a sine and a cosine.
        scale: what makes of each of them an angle, float32 `[len(cyclic)]`.
        missing: places of those with a flag.
        order: for each input in this order, its place among the network's inputs as the model
            has them: each feature's in turn, its flag last.
    """

    plain: list[int]
    mean: np.ndarray
    std: np.ndarray
    cyclic: list[int]
    scale: np.ndarray
    missing: list[int]
    order: list[int]

    @classmethod
    def of(cls, features: Sequence[Feature]) -> Self:
        """The columns of a model's features."""
        plain: dict[int, Standardize] = {}
        cyclic: dict[int, Cyclic] = {}
        places: list[range] = []
        first = 0
        for index, feature in enumerate(features):
            if isinstance(feature.transform, Cyclic):
                cyclic[index] = feature.transform
            else:
                plain[index] = feature.transform
            width = (2 if index in cyclic else 1) + feature.missing
            places.append(range(first, first + width))
            first += width
        missing = [index for index, feature in enumerate(features) if feature.missing]
        order = [places[i][0] for i in plain]
        order += [places[i][0] for i in cyclic] + [places[i][1] for i in cyclic]
        order += [places[i][-1] for i in missing]
        return cls(
            plain=list(plain),
            mean=np.array([transform.mean for transform in plain.values()], np.float32),
            std=np.array([transform.std for transform in plain.values()], np.float32),
            cyclic=list(cyclic),
            scale=np.array([2 * math.pi / t.period for t in cyclic.values()], np.float32),
            missing=missing,
            order=order,
        )


@dataclass(frozen=True)
class OutputColumns:
    """The transforms of all outputs: head's output * std + mean + what it is a change of.

    Attributes:
        mean, std: of each output, float64 `[O]`.
        is_change: whether it is a change of a feature, bool `[O]`.
        of_feature: the place of that feature among the raw columns, int64 `[O]`; 0 for others.
    """

    mean: np.ndarray
    std: np.ndarray
    is_change: np.ndarray
    of_feature: np.ndarray

    @classmethod
    def of(cls, outputs: Sequence[Output], features: Sequence[Feature]) -> Self:
        """The columns of a model's outputs."""
        names = [feature.name for feature in features]
        transforms = [output.transform for output in outputs]
        changed = [t.feature if isinstance(t, Change) else None for t in transforms]
        return cls(
            mean=np.array([transform.mean for transform in transforms]),
            std=np.array([transform.std for transform in transforms]),
            is_change=np.array([name is not None for name in changed]),
            of_feature=np.array([0 if name is None else names.index(name) for name in changed]),
        )
