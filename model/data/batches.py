"""Batches of training windows, in an order that the seed and the number of the pass alone decide.

So the position in the data is one number, and training can go on from any batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from model.data.dataset import Split


@dataclass(frozen=True)
class Batch:
    """Windows, padded to the same number of time steps.

    Attributes:
        sequences: float32 `[B, T, F]`, raw. Beyond a window's length its last row is repeated:
            numbers that are finite if the table's are, never used.
        lengths: int32 `[B]`.
        targets: float32 `[B, T, O]`, NaN where unknown and beyond a window's length.
    """

    sequences: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray


@dataclass
class Batches:
    """The windows of a split in batches of `batch_size`, the last one of a pass with what is left.

    Attributes:
        split: where the rows are.
        places: int64 `[W, 2]`, as `dataset.windows` gives them.
        steps: T of every batch.
        batch_size: B of every batch but the last.
        seed: of the order, a new one each pass; None for the order of `places`.
        burn_in_steps: at the start of each window, of which no target is known.
    """

    split: Split
    places: np.ndarray
    steps: int
    batch_size: int
    seed: int | None = None
    burn_in_steps: int = 0
    _order: tuple[int, np.ndarray] | None = field(default=None, init=False)

    def __len__(self) -> int:
        """How many batches a pass has."""
        return -(-len(self.places) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the first pass."""
        return (self.batch(number) for number in range(len(self)))

    def batch(self, number: int) -> Batch:
        """The batch that comes after so many others, of all passes."""
        in_pass, index = divmod(number, len(self))
        chosen = self._order_of(in_pass)[index * self.batch_size :][: self.batch_size]
        starts, lengths = self.places[chosen].T
        time = np.arange(self.steps)
        rows = starts[:, None] + np.minimum(time, lengths[:, None] - 1)
        targets = self.split.targets[rows]
        targets[time >= lengths[:, None]] = np.nan
        targets[:, : self.burn_in_steps] = np.nan
        return Batch(self.split.features[rows], lengths.astype(np.int32), targets)

    def _order_of(self, in_pass: int) -> np.ndarray:
        """The windows in the order of a pass, int64 `[W]`."""
        if self.seed is None:
            return np.arange(len(self.places))
        if self._order is None or self._order[0] != in_pass:
            random = np.random.default_rng([self.seed, in_pass])
            self._order = in_pass, random.permutation(len(self.places))
        return self._order[1]
