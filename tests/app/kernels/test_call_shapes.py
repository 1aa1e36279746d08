"""Few shapes of calls: the smallest that holds what is asked, and zeros behind it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernels.call_shapes import CallShapes, padded, sizes

SIZES = st.sets(st.integers(1, 99), min_size=1).map(sorted)


@given(rows=SIZES, steps=SIZES, data=st.data())
def test_the_smallest_shape_that_holds_it_is_taken(
    rows: list[int], steps: list[int], data: st.DataObject
) -> None:
    shapes = CallShapes(rows, steps)
    asked = data.draw(st.integers(1, rows[-1])), data.draw(st.integers(1, steps[-1]))
    found = shapes.fit(*asked)
    holding = [s for s in shapes if s[0] >= asked[0] and s[1] >= asked[1]]
    assert found == min(holding)
    assert shapes.met == {found}
    assert shapes.max_steps == steps[-1]


@pytest.mark.parametrize("asked", [(9, 1), (1, 17)])
def test_more_than_was_warmed_up_for_is_a_bug(asked: tuple[int, int]) -> None:
    with pytest.raises(AssertionError, match="this is a bug"):
        CallShapes([1, 8], [16]).fit(*asked)


def test_padding_is_zeros_behind() -> None:
    array = np.ones((2, 3, 4), np.float32)
    found = padded(array, (3, 5))
    assert found.shape == (3, 5, 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:2, :3], array)
    assert found.sum() == array.sum()
    assert padded(array, (2, 3)) is array


@pytest.mark.parametrize("tile", [1, 16])
@pytest.mark.parametrize("most", [1, 2, 16, 17, 64, 97])
def test_sizes_of_calls_are_few_and_close(most: int, tile: int) -> None:
    found = sizes(most, tile)
    assert (found[0], found[-1]) == (1, most)
    for one, next_ in itertools.pairwise(found):
        assert one < next_ <= (2 * one if one < tile else 1.25 * one + tile)
        assert next_ <= tile or next_ == most or next_ % tile == 0
