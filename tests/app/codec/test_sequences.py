"""Sequences and bodies: what is read back exactly, what is refused, and how that is told."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from app.codec.json_numbers import (
    BLOCK,
    MAX_ECHO,
    MAX_FAULTS,
    echo,
    may_have_booleans,
    parse_json,
    print_json,
)
from app.codec.sequences import Limits, SequenceCodec
from app.codec.state_token import StateTokens
from app.codec.states import LayerLayout, StateCodec
from app.errors import InvalidRequest, NotJSON
from tests.app.strategies import attempt, count_looks, finite32, json_values

LIMITS = Limits(max_sequences=3, max_sequence_steps=5)
# The second of two features may be null.
CODEC = SequenceCodec(("x", "y/z"), (False, True), LIMITS)
STATES = StateCodec((LayerLayout("gru", 2, ("h",)),), StateTokens("tiny", 1, [("gru", 2, ("h",))]))
STRICT = SequenceCodec(("x", "y/z"), (False, False), LIMITS)


def refused(value: Any, codec: SequenceCodec = CODEC) -> list[tuple[str, str]]:
    """Pointer and message of each fault, after a look at what holds for all."""
    with pytest.raises(InvalidRequest) as caught:
        codec.parse(value)
    faults = [(fault.pointer, fault.message) for fault in caught.value.faults]
    assert 1 <= len(faults) <= MAX_FAULTS
    return faults


@given(
    st.lists(
        arrays_of.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2)), elements=finite32),
        min_size=1,
        max_size=3,
    )
)
def test_float32_survives_printing_and_parsing_bit_for_bit(sequences: list[np.ndarray]) -> None:
    body = print_json({"sequences": sequences})
    again = CODEC.parse(parse_json(body)["sequences"])
    assert len(again) == len(sequences)
    for before, after in zip(sequences, again, strict=True):
        assert after.dtype == np.float32
        # As bytes: -0.0 equals 0.0 as a number.
        np.testing.assert_array_equal(after.view(np.uint32), before.view(np.uint32))


@given(st.lists(st.tuples(finite32, finite32 | st.none()), min_size=1, max_size=5))
def test_null_is_nan_in_its_own_place_only(rows: list[tuple[float, float | None]]) -> None:
    (array,) = CODEC.parse(parse_json(orjson.dumps([rows])))
    expected = [[a, np.nan if b is None else b] for a, b in rows]
    np.testing.assert_array_equal(array, np.array(expected, np.float32))


@pytest.mark.parametrize(
    "number",
    [1e-45, -1e-45, 1.1754942e-38, -0.0, 3.4028234663852886e38, 3.4028235e38, 1, -(2**63)],
)
def test_numbers_at_the_edges_of_float32_survive(number: float) -> None:
    (array,) = CODEC.parse(parse_json(orjson.dumps([[[number, 0]]])))
    expected = np.array([[number, 0]], np.float32)
    assert array.tobytes() == expected.tobytes()
    printed = print_json(array)
    assert np.array(parse_json(printed), np.float32).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        (None, "/sequences", "must be an array of sequences, got null"),
        ("ab", "/sequences", 'must be an array of sequences, got "ab"'),
        ({"a": 1}, "/sequences", "must be an array of sequences, got an object"),
        ([], "/sequences", "must hold at least one sequence"),
        ([[[1, 2]]] * 4, "/sequences", "holds 4 sequences, the limit is 3"),
        ([7], "/sequences/0", "must be an array of time steps, got 7"),
        ([[[1, 2]], []], "/sequences/1", "must hold at least one time step"),
        ([[[1, 2]] * 6], "/sequences/0", "holds 6 time steps, the limit is 5; send it in pieces"),
        ([[[1, 2], 3]], "/sequences/0/1", "must be an array of 2 numbers, got 3"),
        ([[[1, 2], {"x": 1}]], "/sequences/0/1", "must be an array of 2 numbers, got an object"),
        ([[[1, 2], [1]]], "/sequences/0/1", "must hold 2 features, got 1"),
        ([[[1, 2, 3]]], "/sequences/0/0", "must hold 2 features, got 3"),
        ([[[1, 2], []]], "/sequences/0/1", "must hold 2 features, got 0"),
        ([[[1, "2"]]], "/sequences/0/0/1", 'must be a number, got "2"'),
        ([[[True, 2]]], "/sequences/0/0/0", "must be a number, got true"),
        ([[[1, False]]], "/sequences/0/0/1", "must be a number, got false"),
        ([[[None, 2]]], "/sequences/0/0/0", "must be a number; null is not allowed here"),
        ([[[{}, 2]]], "/sequences/0/0/0", "must be a number, got an object"),
        ([[[1, [2]]]], "/sequences/0/0/1", "must be a number, got an array of 1"),
        ([[[1e39, 2]]], "/sequences/0/0/0", "1e+39 is beyond the range of float32, 3.403e+38"),
        ([[[1, -1e39]]], "/sequences/0/0/1", "-1e+39 is beyond the range of float32, 3.403e+38"),
    ],
)
def test_bad_sequences_are_refused_with_their_place(value: Any, pointer: str, message: str) -> None:
    ((found_pointer, found_message),) = refused(value)
    assert found_pointer == pointer
    assert found_message.startswith(message)


def test_null_is_refused_where_no_feature_may_be_missing() -> None:
    assert refused([[[1, None]]], STRICT) == [
        ("/sequences/0/0/1", "must be a number; null is not allowed here")
    ]


def test_every_fault_of_a_request_is_told_at_once() -> None:
    faults = refused([[[1, 2], [1]], "x", [[None, True]]])
    assert [pointer for pointer, _ in faults] == [
        "/sequences/0/1",
        "/sequences/1",
        "/sequences/2/0/0",
        "/sequences/2/0/1",
    ]


def test_at_most_ten_faults_are_told() -> None:
    assert len(refused([[["a", "b"]] * 5] * 3)) == MAX_FAULTS == 10


@given(st.text(min_size=90, max_size=120))
def test_echoed_values_are_at_most_80_characters(text: str) -> None:
    ((_, message),) = refused([[[1, text]]])
    assert len(message) <= len("must be a number, got ") + MAX_ECHO
    assert message.endswith("...")
    assert len(echo(text)) == MAX_ECHO == 80


def test_values_nested_900_deep_are_refused() -> None:
    deep = parse_json(b"[" * 900 + b"]" * 900)
    for value in (deep, [deep], [[deep]], [[[1, deep]]]):
        assert refused(value)
    with pytest.raises(InvalidRequest):
        STATES.parse([deep], 1)
    with pytest.raises(InvalidRequest):
        STATES.parse([[{"h": deep}]], 1)


@given(
    json_values
    | st.lists(st.lists(st.lists(json_values, min_size=2, max_size=2), max_size=3), max_size=3)
)
def test_any_json_as_sequences_parses_whole_or_is_refused(value: Any) -> None:
    arrays, faults = attempt(CODEC.parse, value)
    if arrays is None:
        assert 1 <= len(faults) <= MAX_FAULTS
        assert all(fault.pointer.startswith("/sequences") for fault in faults)
    else:
        # Nothing is dropped: each sequence with each of its time steps.
        assert [len(array) for array in arrays] == [len(rows) for rows in value]
        assert not any(np.isinf(array).any() for array in arrays)


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b"1" * 400,
        b"[1,]",
        b'{"a": 1,}',
        b"",
        b" ",
        b"[1",
        b"[1] 2",
        b"{'a': 1}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\udc00x"',
        b"\xef\xbb\xbf[]",
        b"[" * 10_000 + b"]" * 10_000,
        b"[" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_not_json_is_refused_with_its_position(body: bytes) -> None:
    with pytest.raises(NotJSON) as caught:
        parse_json(body)
    (fault,) = caught.value.faults
    assert fault.pointer == ""
    assert "line 1 column" in fault.message
    assert len(fault.message) < 200


@pytest.mark.parametrize("body", [b"[NaN]", b"[Infinity]", b"[1, -Infinity]"])
def test_not_json_says_that_nan_and_infinity_are_not(body: bytes) -> None:
    with pytest.raises(NotJSON, match="NaN and Infinity are not JSON"):
        parse_json(body)


@given(st.binary() | st.binary().map(lambda inside: b'{"sequences": [' + inside + b"]}"))
def test_any_bytes_are_a_value_or_not_json(body: bytes) -> None:
    try:
        value = parse_json(body)
    except NotJSON as error:
        event(error.faults[0].message.partition(":")[0])
        return
    assert orjson.loads(orjson.dumps(value)) == value


def test_named_columns_are_read_as_rows_are() -> None:
    rows = [[1, 2], [3.5, None]]
    for columns in ({"x": [1, 3.5], "y/z": [2, None]}, {"y/z": [2, None], "x": [1, 3.5]}):
        (array,) = CODEC.parse([columns])
        np.testing.assert_array_equal(array, CODEC.parse([rows])[0])


@pytest.mark.parametrize(
    ("columns", "faults"),
    [
        ({"x": [1]}, [("/sequences/0", 'column "y/z" is missing')]),
        ({"x": [1], "y/z": [1], "w": [1]}, [("/sequences/0", 'there is no feature "w"')]),
        ({"x": 1, "y/z": [1]}, [("/sequences/0/x", "must be an array of numbers, got 1")]),
        ({"x": [1, 2], "y/z": [1]}, [("/sequences/0/y~1z", 'holds 1 time steps, "x" 2')]),
        ({"x": [None], "y/z": [None]}, [("/sequences/0/x/0", "must be a number; null is not")]),
        ({"x": [1], "y/z": ["a"]}, [("/sequences/0/y~1z/0", 'must be a number, got "a"')]),
        ({"x": [1e39], "y/z": [1]}, [("/sequences/0/x/0", "1e+39 is beyond the range")]),
        ({"x": [], "y/z": []}, [("/sequences/0/x", "must hold at least one time step")]),
        ({"x": [1] * 6, "y/z": [1] * 6}, [("/sequences/0/x", "holds 6 time steps, the limit")]),
        ({}, [("/sequences/0", 'column "x" is missing'), ("/sequences/0", 'column "y/z" is')]),
    ],
)
def test_a_fault_in_a_column_is_told(columns: Any, faults: list[tuple[str, str]]) -> None:
    found = refused([columns])
    assert len(found) == len(faults)
    for (pointer, message), (place, text) in zip(found, faults, strict=True):
        assert pointer == place
        assert message.startswith(text)


@pytest.mark.parametrize("time", [0, BLOCK // 2 - 1, BLOCK // 2, 2 * BLOCK - 1])
def test_a_wrong_number_among_very_many_is_told_with_its_place(time: int) -> None:
    codec = SequenceCodec(CODEC.names, (False, True), Limits(2, 2 * BLOCK))
    rows: list[list[object]] = [[1, None if n % 3 else 2] for n in range(2 * BLOCK)]
    rows[time][1] = "a"
    columns = {name: [row[i] for row in rows] for i, name in enumerate(codec.names)}
    good = [[1, 2]] * len(rows)
    assert refused([good, rows], codec) == [(f"/sequences/1/{time}/1", 'must be a number, got "a"')]
    assert refused([columns], codec) == [(f"/sequences/0/y~1z/{time}", 'must be a number, got "a"')]


def test_of_very_many_numbers_few_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = count_looks(monkeypatch)
    codec = SequenceCodec(CODEC.names, (False, True), Limits(1, 20 * BLOCK))
    missing: list[object] = [None] * (20 * BLOCK - 1)
    columns = {"x": [1] * (20 * BLOCK), "y/z": [*missing, 1e39]}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    for sequence in (rows, columns):
        assert len(refused([sequence], codec)) == 1
    assert len(looked) <= 2 * BLOCK


def test_of_very_many_unknown_columns_the_first_are_told() -> None:
    columns = {"x": [1], "y/z": [1]} | {f"{n:04}": [1] for n in reversed(range(5000))}
    assert [message for _, message in refused([columns])] == [
        f'there is no feature "{n:04}"' for n in range(MAX_FAULTS)
    ]


CELLS = st.integers(-5, 5) | st.floats(width=32, allow_nan=False) | st.booleans() | json_values


@given(st.lists(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=3), max_size=3))
def test_what_is_known_of_booleans_changes_nothing(sequences: list[Any]) -> None:
    """Where no letter of them is in the text, none are looked for."""
    body = orjson.dumps(sequences)

    def outcome(booleans: bool) -> Any:
        try:
            return [array.tolist() for array in CODEC.parse(orjson.loads(body), booleans)]
        except InvalidRequest as error:
            return error.faults

    assert repr(outcome(may_have_booleans(body))) == repr(outcome(True))
