"""States: all forms, and every way in which one can be wrong."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from app.codec.json_numbers import MAX_FAULTS, parse_json, print_json
from app.codec.state_token import StateTokens
from app.codec.states import LayerLayout, StateCodec
from app.errors import InvalidRequest
from tests.app.strategies import attempt, finite32, json_values

LAYERS = (LayerLayout("lstm", 2, ("h", "c")), LayerLayout("gru", 1, ("h",)))
SIZES = (2, 2, 1)
TOKENS = StateTokens("tiny", 1, [(layer.cell, layer.units, layer.parts) for layer in LAYERS])
CODEC = StateCodec(LAYERS, TOKENS)
GOOD = [{"h": [1, 2], "c": [3, 4]}, {"h": [5]}]

states = arrays_of.arrays(np.float32, sum(SIZES), elements=finite32)


def refused(value: Any, count: int = 1) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        CODEC.parse(value, count)
    faults = [(fault.pointer, fault.message) for fault in caught.value.faults]
    assert 1 <= len(faults) <= MAX_FAULTS
    return faults


@given(states)
def test_all_forms_are_read_back_bit_for_bit(state: np.ndarray) -> None:
    answer = parse_json(print_json([CODEC.layered(state), state, CODEC.tokens.seal(state)]))
    assert [sorted(entry) for entry in answer[0]] == [["c", "h"], ["h"]]
    assert len(answer[1]) == sum(SIZES)
    for again in CODEC.parse(answer, 3):
        assert again is not None
        assert again.dtype == np.float32
        assert again.tobytes() == state.tobytes()


def test_concatenated_is_layer_by_layer_h_before_c() -> None:
    layered, concatenated = CODEC.parse([GOOD, [1, 2, 3, 4, 5]], 2)
    assert layered is not None
    assert concatenated is not None
    assert layered.tolist() == [1, 2, 3, 4, 5]
    assert concatenated.tolist() == [1, 2, 3, 4, 5]
    parts = [
        {name: part.tolist() for name, part in layer.items()} for layer in CODEC.layered(layered)
    ]
    assert parts == GOOD


def test_the_order_of_names_in_a_layer_does_not_matter() -> None:
    (state,) = CODEC.parse([[{"c": [3, 4], "h": [1, 2]}, {"h": [5]}]], 1)
    assert state is not None
    assert state.tolist() == [1, 2, 3, 4, 5]


def test_null_starts_from_zeros_for_all_or_for_one() -> None:
    assert CODEC.parse(None, 3) == [None, None, None]
    first, second = CODEC.parse([None, GOOD], 2)
    assert first is None
    assert second is not None


def test_a_part_that_a_cell_does_not_have_may_be_null() -> None:
    """Clients generated from the schema send all of its fields."""
    (state,) = CODEC.parse([[GOOD[0], {"h": [5], "c": None}]], 1)
    assert state is not None
    assert state.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        ("x", "", 'must be an array, got "x"'),
        ({"h": [1]}, "", "must be an array, got an object"),
        ([], "", "holds 0 states for 1 sequences; one for each"),
        ([GOOD, GOOD], "", "holds 2 states for 1 sequences; one for each"),
        ([5], "/0", "must be an array of 2 layers, got 5"),
        (["x"], "/0", "is no state token: those begin with 'u1.', got 'x'"),
        ([{"h": [1, 2]}], "/0", "must be an array of 2 layers, got an object"),
        ([[]], "/0", "must be an array of 2 layers, got an array of 0"),
        ([GOOD[:1]], "/0", "must be an array of 2 layers, got an array of 1"),
        ([[*GOOD, {"h": [1]}]], "/0", "must be an array of 2 layers, got an array of 3"),
        ([[GOOD[0], [5]]], "/0/1", "must be an object with h, got an array of 1"),
        ([[GOOD[0], None]], "/0/1", "must be an object with h, got null"),
        ([[{"h": [1, 2]}, GOOD[1]]], "/0/0", "layer 0 is lstm and its state has exactly h and c"),
        ([[{}, GOOD[1]]], "/0/0", "layer 0 is lstm and its state has exactly h and c"),
        ([[{"h": [1, 2], "c": None}, GOOD[1]]], "/0/0", "layer 0 is lstm and its state has"),
        ([[{**GOOD[0], "m": [1]}, GOOD[1]]], "/0/0", "layer 0 is lstm and its state has exactly"),
        ([[GOOD[0], {"h": [5], "c": [5]}]], "/0/1", "layer 1 is gru and its state has exactly h"),
        ([[GOOD[0], {"h": None}]], "/0/1", "layer 1 is gru and its state has exactly h"),
        ([[GOOD[0], {"h": [5, 6]}]], "/0/1/h", "must be an array of 1 numbers, got an array of 2"),
        ([[GOOD[0], {"h": []}]], "/0/1/h", "must be an array of 1 numbers, got an array of 0"),
        ([[GOOD[0], {"h": 5}]], "/0/1/h", "must be an array of 1 numbers, got 5"),
        ([[GOOD[0], {"h": ["5"]}]], "/0/1/h/0", 'must be a number, got "5"'),
        ([[GOOD[0], {"h": [True]}]], "/0/1/h/0", "must be a number, got true"),
        ([[GOOD[0], {"h": [None]}]], "/0/1/h/0", "must be a number; null is not allowed here"),
        ([[GOOD[0], {"h": [1e39]}]], "/0/1/h/0", "1e+39 is beyond the range of float32"),
        ([[1, 2, 3, 4]], "/0", "must be an array of 5 numbers, got an array of 4"),
        ([[1, 2, 3, 4, 5, 6]], "/0", "must be an array of 5 numbers, got an array of 6"),
        ([[1, 2, 3, 4, "5"]], "/0/4", 'must be a number, got "5"'),
        ([[1, 2, 3, 4, -1e39]], "/0/4", "-1e+39 is beyond the range of float32"),
        ([[1, None, 3, 4, 5]], "/0/1", "must be a number; null is not allowed here"),
        ([[1, [2], 3, 4, 5]], "/0/1", "must be a number, got an array of 1"),
    ],
)
def test_bad_states_are_refused_with_their_place(value: Any, pointer: str, message: str) -> None:
    ((found_pointer, found_message),) = refused(value)
    assert found_pointer == f"/initial_states{pointer}"
    assert found_message.startswith(message)


def test_at_most_ten_faults_of_states_are_told() -> None:
    assert len(refused([["x"] * 5] * 3, 3)) == MAX_FAULTS


@given(json_values | st.lists(json_values, min_size=2, max_size=2))
def test_any_json_as_states_parses_whole_or_is_refused(value: Any) -> None:
    found, faults = attempt(CODEC.parse, value, 2)
    if found is None:
        assert 1 <= len(faults) <= MAX_FAULTS
        assert all(fault.pointer.startswith("/initial_states") for fault in faults)
    else:
        assert [s is None for s in found] == [e is None for e in value or [None, None]]
        for state in found:
            assert state is None or state.shape == (sum(SIZES),)


near_states = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.lists(json_values, min_size=1, max_size=2) | st.just([1.0, 2.0]) | st.none()
            for name in ("h", "c", "m")
        },
    ),
    min_size=2,
    max_size=2,
)


@given(near_states)
def test_states_that_are_nearly_right_parse_whole_or_are_refused(entry: list[Any]) -> None:
    found, faults = attempt(CODEC.parse, [entry], 1)
    if found is None:
        assert 1 <= len(faults) <= MAX_FAULTS
        assert all(fault.pointer.startswith("/initial_states/0") for fault in faults)
    else:
        (state,) = found
        assert state is not None
        given_numbers = [*entry[0]["h"], *entry[0]["c"], *entry[1]["h"]]
        np.testing.assert_array_equal(state, np.array(given_numbers, np.float32))
