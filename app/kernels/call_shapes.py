"""`CallShapes`: the few shapes `[rows, time steps]` that a kernel is called with.

A kernel that compiles or prepares each shape that it meets is given few: calls are padded to them.
"""

from collections.abc import Iterator, Sequence

import numpy as np

# Rows and time steps.
Shape = tuple[int, int]
# Above a tile, each of `sizes` is about so many times the one before.
GROWTH = 1.25


class CallShapes:
    """The shapes that calls may have; what is smaller is padded.

    Args:
        rows: numbers of rows, ascending.
        steps: numbers of time steps, ascending.

    Attributes:
        met: shapes met so far.
    """

    def __init__(self, rows: Sequence[int] = (), steps: Sequence[int] = ()) -> None:
        self._rows, self._steps = rows, steps
        self.met: set[Shape] = set()

    def __iter__(self) -> Iterator[Shape]:
        """All of them, for warm-up."""
        return ((rows, steps) for rows in self._rows for steps in self._steps)

    @property
    def max_steps(self) -> int:
        """Most time steps of a call."""
        return self._steps[-1]

    def fit(self, rows: int, steps: int) -> Shape:
        """The smallest shape that holds so many; it counts as met."""
        shape = _at_least(rows, self._rows), _at_least(steps, self._steps)
        self.met.add(shape)
        return shape


def sizes(most: int, tile: int = 1) -> list[int]:
    """Sizes of calls, ascending from 1 to `most`: doubled up to a tile, then whole tiles."""
    found = [1]
    while (last := found[-1]) < most:
        size = max(last + 1, int(last * GROWTH))
        found.append(min(most, 2 * last if last < tile else -(-size // tile) * tile))
    return found


def padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array with zeros behind it, so that its first axes have this shape; itself if they do."""
    if array.shape[: len(shape)] == shape:
        return array
    found = np.zeros((*shape, *array.shape[len(shape) :]), array.dtype)
    found[tuple(map(slice, array.shape))] = array
    return found


def _at_least(size: int, allowed: Sequence[int]) -> int:
    for found in allowed:
        if found >= size:
            return found
    raise AssertionError(f"this is a bug: warmed up for {allowed}, met {size}")
