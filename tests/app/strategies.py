"""What several tests draw from hypothesis, and try out on the codec."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from app.codec import json_numbers
from app.errors import Fault, InvalidRequest

T = TypeVar("T")

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)

# Any value that JSON can have: integers beyond 64 bits are read as floats.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e39, -1e39, 3.4028235677973366e38, 1e-46, -0.0])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


def attempt(parse: Callable[..., T], *args: Any) -> tuple[T | None, tuple[Fault, ...]]:
    """What it returns, or the faults of its `InvalidRequest`; any other error fails the test."""
    try:
        return parse(*args), ()
    except InvalidRequest as error:
        return None, error.faults


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The numbers that were looked at one by one: all from now on."""
    looked: list[object] = []
    fits = json_numbers._fits_float32

    def look(value: object) -> bool:
        looked.append(value)
        return fits(value)

    monkeypatch.setattr(json_numbers, "_fits_float32", look)
    return looked
