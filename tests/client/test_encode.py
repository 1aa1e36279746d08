"""What goes over the wire is what was given, to the bit."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unroll_client import InvalidInput, encode
from unroll_client.decode import array, state

FINITE32 = st.floats(width=32, allow_infinity=False)
FINITE64 = st.floats(allow_infinity=False, min_value=-1e38, max_value=1e38) | st.just(np.nan)
SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=4)
FRAME = pd.DataFrame({"temp": [55.0, 56.5], "pressure": [np.nan, 1018.25]})


def printed(made: Any) -> Any:
    return json.loads(encode.to_json({"it": made}))["it"]


@given(arrays(np.float32, SHAPES, elements=FINITE32))
def test_float32_comes_back_to_the_bit(given: np.ndarray) -> None:
    received = array(printed(encode.rows(given)))
    np.testing.assert_array_equal(received.view(np.uint32), with_one_nan(given).view(np.uint32))


def with_one_nan(given: np.ndarray) -> np.ndarray:
    """The same with every NaN as null reads."""
    return np.where(np.isnan(given), np.float32(np.nan), given)


@given(arrays(np.float64, SHAPES, elements=FINITE64))
def test_float64_is_not_rounded_before_it_is_sent(given: np.ndarray) -> None:
    received = np.array(printed(encode.rows(given)), np.float64)
    np.testing.assert_array_equal(received, given)


@given(st.integers(1_000, 9_999_999), st.integers(0, 6))
def test_float32_is_printed_in_the_digits_it_was_written_in(digits: int, places: int) -> None:
    """Down to 0.001; below, where float32 is coarser than 7 digits, there may be 9."""
    value = digits / 10**places
    assert encode.rows(np.array([[value, -value]], np.float32)) == [[value, -value]]


def test_float32_without_a_short_decimal_is_printed_too() -> None:
    given = np.array([[1e-45, 3e38, 1 / 3, 0.0, -0.0]], np.float32)
    received = array(printed(encode.rows(given)))
    np.testing.assert_array_equal(received.view(np.uint32), given.view(np.uint32))


@pytest.mark.parametrize(
    "given",
    [
        FRAME,
        FRAME.astype("Float64"),
        dict(FRAME),
        {"temp": [55.0, 56.5], "pressure": [None, 1018.25]},
        {"temp": [55.0, 56.5], "pressure": [pd.NA, 1018.25]},
        {"temp": [55.0, 56.5], "pressure": np.array([pd.NA, 1018.25], object)},
        {"temp": [55.0, 56.5], "pressure": pd.Series([pd.NA, 1018.25], dtype=object)},
        {"temp": np.array([55.0, 56.5], np.float32), "pressure": (np.nan, 1018.25)},
    ],
)
def test_columns_go_by_name(given: Any) -> None:
    expected = {"temp": [55.0, 56.5], "pressure": [None, 1018.25]}
    assert printed(encode.rows(given)) == expected
    assert encode.piece(given) == (expected, False)


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2], [3, None]],
        [[1, 2], [3, pd.NA]],
        np.array([[1, 2], [3, np.nan]]),
        np.array([[1, 2], [3, pd.NA]], object),
        pd.DataFrame([[1, 2], [3, pd.NA]], dtype="Int64").to_numpy(object),
        [(1, 2), [3.0, np.float32("nan")]],
    ],
)
def test_rows_go_in_order(given: Any) -> None:
    assert printed(encode.rows(given)) == [[1.0, 2.0], [3.0, None]]
    assert encode.piece(given)[1] is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1.0, None], [[1.0, None]]),
        (np.array([1.0, np.nan], np.float32), [[1.0, None]]),
        ({"temp": 55.0, "pressure": None}, {"temp": [55.0], "pressure": [None]}),
        (FRAME.iloc[0], {"temp": [55.0], "pressure": [None]}),
        ([1.0, pd.NA], [[1.0, None]]),
        ({"temp": 55.0, "pressure": pd.NA}, {"temp": [55.0], "pressure": [None]}),
        (FRAME.astype("Float64").iloc[0], {"temp": [55.0], "pressure": [None]}),
        (FRAME.astype("Float64").to_numpy(object)[0], [[55.0, None]]),
    ],
)
def test_a_single_row_is_one_time_step(given: Any, expected: Any) -> None:
    made, single = encode.piece(given)
    assert single
    assert printed(made) == expected


def test_a_batch_is_an_array_or_a_list_of_anything() -> None:
    whole = np.arange(12.0).reshape(2, 3, 2)
    assert encode.batch(whole) == encode.batch(list(whole)) == whole.tolist()
    assert len(encode.batch([FRAME, [[1.0, 2.0]], {"temp": [1.0]}])) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, 2.0], r"sequence must be \[T, F\], got \[2\]"),
        (np.zeros((1, 2, 3)), r"must be \[T, F\], got \[1, 2, 3\]"),
        ([[1.0, 2.0], [3.0]], "rows of one length"),
        ([[b"1"]], r"must be numbers, text or booleans, got \|S1"),
        ([["a", object()]], "must be numbers"),
        ([["a", np.inf]], r"sequence is infinite at \[0, 1\]"),
        ([[1.0, object()]], "must be numbers"),
        ([[pd.NA, object()]], "must be numbers"),
        (np.array([[pd.NA, [1.0]]], object), "must be numbers"),
        ([[1.0, 2.0], [3.0, np.inf]], r"sequence is infinite at \[1, 1\]"),
        ({"temp": [1.0, -np.inf]}, r"sequence\['temp'\] is infinite at \[1\]"),
        ({"temp": [[1.0]]}, r"sequence\['temp'\] must be \[T\], got \[1, 1\]"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        encode.rows(given)
    assert issubclass(InvalidInput, ValueError)


MIXED_FRAME = pd.DataFrame(
    {"temp": [55.0, np.nan], "sky": ["sun", None], "holiday": [True, False]}
).astype({"sky": "category"})


@pytest.mark.parametrize(
    "given",
    [
        [[55.0, "sun", True], [np.nan, None, False]],
        np.array([[55.0, "sun", True], [pd.NA, np.nan, np.bool_(False)]], object),
        MIXED_FRAME.to_numpy(object),
    ],
)
def test_text_and_booleans_stay_what_they_are_in_rows(given: Any) -> None:
    assert printed(encode.rows(given)) == [[55.0, "sun", True], [None, None, False]]


@pytest.mark.parametrize("kind", ["category", "str", "object"])
def test_text_and_booleans_stay_what_they_are_in_columns(kind: str) -> None:
    frame = MIXED_FRAME.astype({"sky": kind})
    expected = {"temp": [55.0, None], "sky": ["sun", None], "holiday": [True, False]}
    assert printed(encode.rows(frame)) == expected
    once = printed(encode.rows({**frame, "size": 50.0, "fuel": "gas"}))
    assert once == {**expected, "size": 50.0, "fuel": "gas"}
    first = {"temp": [55.0], "sky": ["sun"], "holiday": [True]}
    assert encode.piece(frame.iloc[0]) == (first, True)


@pytest.mark.parametrize("given", [FRAME, np.zeros((3, 2)), {"temp": [1.0]}, "rows"])
def test_one_sequence_is_no_batch(given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"predict_one|\[B, T, F\]"):
        encode.batch(given)


def test_the_sequence_that_is_wrong_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"sequences\[1\] is infinite at \[0, 0\]"):
        encode.batch([[[1.0]], [[np.inf]]])


VECTORS = arrays(
    np.float32,
    st.integers(1, 5),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(
    st.text(max_size=9)
    | VECTORS
    | st.lists(st.dictionaries(st.sampled_from("hc"), VECTORS, min_size=1), min_size=1)
)
def test_a_state_goes_back_in_the_form_it_came_in(given: Any) -> None:
    received = state(printed(encode.state(given)))
    if isinstance(given, str):
        assert received == given
    else:
        np.testing.assert_equal(received, given)


def test_options_that_are_not_given_are_not_sent() -> None:
    assert json.loads(encode.body([[[1.0]]], None, None, states=None)) == {"sequences": [[[1.0]]]}
    assert json.loads(encode.body([[[1.0]]], [None], "weather", states="none")) == {
        "sequences": [[[1.0]]], "initial_states": [None], "model": "weather", "states": "none",
    }  # fmt: skip
