"""`OutputBases`: what is added, where they are printed, to outputs that are less a base."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import orjson

from app.codec.json_numbers import print_json
from app.columns import Feature, Output


@dataclass(frozen=True)
class OutputBases:
    """See the module.

    Attributes:
        bases: of each output, float64 `[O]`; 0 where it has none.
    """

    bases: np.ndarray

    @classmethod
    def of(cls, outputs: Sequence[Output], features: Sequence[Feature]) -> Self | None:
        """The bases of a model's outputs, or None if they have none."""
        found = np.array([output.base(features) for output in outputs])
        return cls(found) if found.any() else None

    def add(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs with their bases, float64.

        Args:
            outputs: float32 `[..., O]`. They are added as the decimals that they print as: so
                what has no base prints as it does without this.
        """
        decimals = np.array(orjson.loads(print_json(outputs.ravel())), np.float64)
        added: np.ndarray = decimals.reshape(outputs.shape) + self.bases
        return added
