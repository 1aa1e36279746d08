"""Transforms as arrays, for graphs that compute all columns of a kind at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from model.transforms import (
    Category,
    Change,
    Cyclic,
    Embedding,
    Feature,
    Flag,
    Output,
    Relative,
    Standardize,
)


@dataclass(frozen=True)
class InputColumns:
    """The features by their transforms, and by their places among the raw columns.

    The network's inputs are made in the order: all of `plain`, the sines of `cyclic`, their
    cosines, the columns of `coded`, the flags of `missing`.

    Attributes:
        plain: places of the features that are standardised, and of flags.
        mean, std: of each of them, float32 `[len(plain)]`.
        cyclic: places of those with a sine and a cosine.
        scale: what makes of each of them an angle, float32 `[len(cyclic)]`.
        coded: places of categories.
        last: the largest code of each of them, float32 `[len(coded)]`.
        first: the row of `table` that is code 0 of each of them, float32 `[len(coded)]`.
        table: float32 `[sum of codes, sum of columns]`; the columns of all categories together
            are the sum of the rows of their codes.
        missing: places of those with a flag.
        order: for each input in this order, its place among the network's inputs as the model
            has them: each feature's in turn, its flag last.
    """

    plain: list[int]
    mean: np.ndarray
    std: np.ndarray
    cyclic: list[int]
    scale: np.ndarray
    coded: list[int]
    last: np.ndarray
    first: np.ndarray
    table: np.ndarray
    missing: list[int]
    order: list[int]

    @classmethod
    def of(
        cls, features: Sequence[Feature], embeddings: Mapping[int, np.ndarray] | None = None
    ) -> Self:
        """The columns of a model's features.

        Args:
            features: of the model.
            embeddings: the weights of each, by the feature's place, float32 `[V, size]`.
        """
        plain: dict[int, Standardize | Relative | Flag] = {}
        cyclic: dict[int, Cyclic] = {}
        tables: dict[int, np.ndarray] = {}
        for index, feature in enumerate(features):
            transform = feature.transform
            if isinstance(transform, Cyclic):
                cyclic[index] = transform
            elif isinstance(transform, Embedding):
                tables[index] = transform.table((embeddings or {})[index])
            elif isinstance(transform, Category):
                tables[index] = transform.table()
            else:
                plain[index] = transform
        spreads = [1.0 if isinstance(t, Flag) else t.std for t in plain.values()]
        codes = [len(table) for table in tables.values()]
        missing = [index for index, feature in enumerate(features) if feature.missing]
        return cls(
            plain=list(plain),
            mean=np.array([transform.mean for transform in plain.values()], np.float32),
            std=np.array(spreads, np.float32),
            cyclic=list(cyclic),
            scale=np.array([2 * math.pi / t.period for t in cyclic.values()], np.float32),
            coded=list(tables),
            last=np.array(codes, np.float32) - 1,
            first=np.cumsum([0, *codes[:-1]]).astype(np.float32)[: len(codes)],
            table=_block_diagonal(list(tables.values())),
            missing=missing,
            order=_order(features, list(plain), list(cyclic), list(tables), missing),
        )


def _order(
    features: Sequence[Feature],
    plain: list[int],
    cyclic: list[int],
    coded: list[int],
    missing: list[int],
) -> list[int]:
    """See `InputColumns.order`."""
    ends = np.cumsum([feature.num_inputs for feature in features]).tolist()
    places = [range(end - f.num_inputs, end) for f, end in zip(features, ends, strict=True)]
    order = [places[i][0] for i in plain]
    order += [places[i][0] for i in cyclic] + [places[i][1] for i in cyclic]
    for i in coded:
        order += places[i][: features[i].num_inputs - features[i].missing]
    return order + [places[i][-1] for i in missing]


def _block_diagonal(tables: Sequence[np.ndarray]) -> np.ndarray:
    """Tables along the diagonal of one, float32; zeros beside them."""
    sizes = np.array([table.shape for table in tables], np.int64).reshape(-1, 2)
    made = np.zeros(sizes.sum(axis=0), np.float32)
    for table, (row, column) in zip(tables, np.cumsum(sizes, axis=0) - sizes, strict=True):
        made[row : row + len(table), column : column + table.shape[1]] = table
    return made


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
