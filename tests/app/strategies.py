"""What hypothesis draws from in several tests."""

from hypothesis import strategies as st

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)

# Any value that JSON can have: integers beyond 64 bits are read as floats.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e39, -1e39, 3.4028235677973366e38, 1e-46, -0.0])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)  # fmt: skip
