"""`Columns`: the features by their transforms, for kernels that compute all of a kind at once."""

from dataclasses import dataclass
from typing import Self

from app.errors import ModelRefused
from app.manifest import Feature


@dataclass(frozen=True)
class Columns:
    """Which features have which transform, by their places among the raw columns.

    The network's inputs are made in the order: all of `plain`, the sines of `cyclic`, their
    cosines, the flags of `missing`.

    Attributes:
        plain: those that are standardised.
        cyclic: those with a sine and a cosine.
        missing: those with a flag.
        order: for each input in this order, its place among the network's inputs as the model
            has them: each feature's in turn, its flag last.
    """

    plain: list[int]
    cyclic: list[int]
    missing: list[int]
    order: list[int]

    @classmethod
    def of(cls, features: tuple[Feature, ...]) -> Self:
        """The columns of a model's features.

        Raises:
            ModelRefused: a transform is none of the vocabulary.
        """
        by_kind: dict[str, list[int]] = {"standardize": [], "cyclic": []}
        places: list[range] = []
        first = 0
        for index, feature in enumerate(features):
            kind = feature.transform["kind"]
            if kind not in by_kind:
                raise ModelRefused(f"feature {feature.name!r}: unknown transform {kind!r}")
            by_kind[kind].append(index)
            width = (2 if kind == "cyclic" else 1) + feature.missing
            places.append(range(first, first + width))
            first += width
        plain, cyclic = by_kind["standardize"], by_kind["cyclic"]
        missing = [index for index, feature in enumerate(features) if feature.missing]
        order = [places[i][0] for i in plain]
        order += [places[i][0] for i in cyclic] + [places[i][1] for i in cyclic]
        order += [places[i][-1] for i in missing]
        return cls(plain, cyclic, missing, order)
