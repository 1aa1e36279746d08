"""Sequences with columns that are no plain numbers: what they become, what is refused, and how."""

import io
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codec import arrow, npz
from app.codec.json_bounds import UNCOUNTED_BYTES, JSONBounds
from app.codec.json_numbers import BLOCK, MAX_FAULTS, parse_json, print_json
from app.codec.mixed_sequences import MixedSequences, sequence_codecs, texts_of
from app.codec.model_codec import Codec
from app.codec.output_bases import OutputBases
from app.codec.sequences import Limits, SequenceCodec
from app.codec.signature import Signature, StateTensor
from app.codec.state_token import StateTokens
from app.codec.states import LayerLayout, StateCodec
from app.columns import Change, Feature, Flag, OneHot, Output, Relative, Standardize
from app.errors import InvalidRequest
from tests.app.formats import stream_of
from tests.app.strategies import attempt, finite32, json_values

BASE = 4_512_345_000.0
LIMITS = Limits(max_sequences=3, max_sequence_steps=5000)
NUMBER = Standardize(kind="standardize", mean=0.0, std=1.0)
SKIES = ("drizzle", "rain", "sun")


def one_hot(*values: str) -> OneHot:
    return OneHot(kind="one_hot", values=values, shares=(1 / len(values),) * len(values))


FEATURES = (
    Feature(
        name="meter", unit="kWh", transform=Relative(kind="relative", base=BASE, mean=0.0, std=1.0)
    ),
    Feature(name="sky", unit="", missing=True, transform=one_hot(*SKIES)),
    Feature(name="holiday", unit="", transform=Flag(kind="flag", mean=0.1)),
    Feature(name="size", unit="MW", static=True, transform=NUMBER),
    Feature(name="zone", unit="", static=True, transform=one_hot("1", "20", "x")),
)
NAMES = tuple(feature.name for feature in FEATURES)
SENT, TAKEN = sequence_codecs(FEATURES, LIMITS)
LAYOUT = ("lstm", 1, ("h", "c"))
CODEC = Codec(
    SENT,
    TAKEN,
    None,
    StateCodec((LayerLayout(*LAYOUT),), StateTokens("kinds", 1, [LAYOUT])),
    Signature(5, 1, (StateTensor("state_0_h", 0, 1), StateTensor("state_0_c", 1, 2))),
    JSONBounds.of(NAMES, 1, 3, texts_of(FEATURES)),
    "kinds",
    1,
)
ROW = [BASE + 7, "sun", True, 50.0, "x"]
ROW_TAKEN = [7.0, 3.0, 1.0, 50.0, 3.0]


def refused(value: Any, codec: SequenceCodec = SENT) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        codec.parse(value)
    assert len(caught.value.faults) <= MAX_FAULTS
    return [(fault.pointer, fault.message) for fault in caught.value.faults]


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[list[Any]], np.ndarray]:
    """Rows as callers send them, and as kernels take them."""
    steps = draw(st.integers(1, 6))
    size, zone = draw(finite32), draw(st.sampled_from(["1", "20", "x", "other", 1, 20.0, 3]))
    zones = {"1": 1, 1: 1, "20": 2, 20.0: 2, "x": 3}
    sent, taken = [], []
    for time in range(steps):
        rise = draw(st.integers(-(10**6), 10**6))
        sky = draw(st.sampled_from([None, *SKIES, "hail", "Rain", ""]))
        flag = draw(st.sampled_from([True, False, 1, 0, 1.0]))
        code = np.nan if sky is None else {v: i for i, v in enumerate(SKIES, 1)}.get(sky, 0)
        given_again = time == 0 or draw(st.booleans())
        sent.append([BASE + rise, sky, flag, *([size, zone] if given_again else [None, None])])
        taken.append([rise, code, float(flag), size, zones.get(zone, 0)])
    return sent, np.array(taken, np.float32)


@given(sequences())
def test_rows_and_columns_are_what_kernels_take(both: tuple[list[list[Any]], np.ndarray]) -> None:
    sent, taken = both
    body = orjson.dumps([sent, dict(zip(NAMES, zip(*sent, strict=True), strict=True))])
    for array in SENT.parse(parse_json(body)):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, taken)


@given(sequences())
def test_tensors_come_as_kernels_take_them(both: tuple[list[list[Any]], np.ndarray]) -> None:
    _, taken = both
    rows = [[None if np.isnan(x) else float(x) for x in row] for row in taken]
    np.testing.assert_array_equal(TAKEN.parse_one(rows, "/x"), taken)
    first_only = taken.copy()
    first_only[1:, 3:] = np.nan
    first_only.flags.writeable = False
    (array,) = TAKEN.cut(first_only, [len(taken)])
    np.testing.assert_array_equal(array, taken)


@given(sequences())
def test_npz_has_numbers_whole_and_codes(both: tuple[list[list[Any]], np.ndarray]) -> None:
    _, taken = both
    rows = taken.astype(np.float64)
    rows[:, 0] += BASE
    sink = io.BytesIO()
    np.savez(sink, sequences=rows, lengths=[len(rows)])
    (array,) = npz.read(sink.getvalue(), CODEC, 1 << 20).sequences
    np.testing.assert_array_equal(array, taken)


@given(sequences(), st.booleans(), st.booleans(), st.integers(1, 2))
def test_arrow_has_text_and_booleans(
    both: tuple[list[list[Any]], np.ndarray], dictionary: bool, single: bool, cuts: int
) -> None:
    sent, taken = both
    meter, sky, holiday, size, zone = (list(column) for column in zip(*sent, strict=True))
    zone = [
        None
        if value is None
        else str(int(value))
        if value != "x" and not isinstance(value, str)
        else value
        for value in zone
    ]
    text = pa.dictionary(pa.int8(), pa.string()) if dictionary else pa.string()
    count = 2
    columns = {
        "meter": pa.array([meter] * count, pa.list_(pa.float64())),
        "sky": pa.array([sky] * count, pa.list_(text)),
        "holiday": pa.array([[bool(x) for x in holiday]] * count, pa.list_(pa.bool_())),
        "size": pa.array(
            [size[0]] * count if single else [size] * count,
            pa.float32() if single else pa.list_(pa.float32()),
        ),
        "zone": pa.array(
            [zone[0]] * count if single else [zone] * count, text if single else pa.list_(text)
        ),
    }
    arrays = arrow.read(stream_of(columns, cuts), CODEC).sequences
    assert len(arrays) == count
    for array in arrays:
        np.testing.assert_array_equal(array, taken)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, "7", 'meter must be a number, got "7"'),
        (0, True, "meter must be a number, got true"),
        (0, None, "meter must be there; null is not allowed here"),
        (0, 1e39, "meter 1e+39 is beyond the range of float32, 3.403e+38 from its base 4512345000"),
        (1, 3, "sky must be text, got 3"),
        (1, ["sun"], "sky must be text, got an array of 1"),
        (2, "true", 'holiday must be true or false, got "true"'),
        (2, 2, "holiday must be true or false, got 2"),
        (2, None, "holiday must be there; null is not allowed here"),
        (3, False, "size must be a number, got false"),
        (4, True, "zone must be text or a number, got true"),
    ],
)
def test_what_is_wrong_is_told_with_feature_and_value(index: int, value: Any, message: str) -> None:
    row = list(ROW)
    row[index] = value
    assert refused([[ROW, row]]) == [(f"/sequences/0/1/{index}", message)]
    columns = {name: [a, b] for name, a, b in zip(NAMES, ROW, row, strict=True)}
    assert refused([columns]) == [(f"/sequences/0/{NAMES[index]}/1", message)]


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (1, 4, "sky must be a whole number from 0 to 3, got 4"),
        (1, -1, "sky must be a whole number from 0 to 3, got -1"),
        (1, 0.5, "sky must be a whole number from 0 to 3, got 0.5"),
        (1, "sun", 'sky must be a whole number from 0 to 3, got "sun"'),
        (2, True, "holiday must be a whole number from 0 to 1, got true"),
    ],
)
def test_what_is_no_code_is_told_with_feature_and_value(
    index: int, value: Any, message: str
) -> None:
    row: list[Any] = list(ROW_TAKEN)
    row[index] = value
    assert refused([[ROW_TAKEN, row]], TAKEN) == [(f"/sequences/0/1/{index}", message)]
    if isinstance(value, float | int) and not isinstance(value, bool):
        _, faults = attempt(TAKEN.cut, np.array([ROW_TAKEN, row], np.float32), [2])
        told = f"{NAMES[index]} is {value}, no whole number from 0 to 3"
        assert [(f.pointer, f.message) for f in faults] == [(f"/sequences/0/1/{index}", told)]


@pytest.mark.parametrize("codec", [SENT, TAKEN])
def test_what_is_static_is_in_the_first_row_and_does_not_change(codec: SequenceCodec) -> None:
    row = list(ROW if codec is SENT else ROW_TAKEN)
    without, other = [*row[:3], None, row[4]], [*row[:3], 51.0, row[4]]
    assert refused([[row], [without, without]], codec) == [
        ("/sequences/1/0/3", "size is static: it must be in the first row")
    ]
    assert refused([[row, without, other]], codec) == [
        ("/sequences/0/2/3", "size is static: it must be that of the first row, or null")
    ]
    (array,) = codec.parse([[row, without, row]])
    assert array[:, 3].tolist() == [50.0] * 3


def test_named_columns_have_what_is_static_once() -> None:
    columns = {"meter": [BASE, BASE + 1], "sky": ["sun", None], "holiday": [False, True]}
    (array,) = SENT.parse([{**columns, "size": 50, "zone": 20}])
    assert array[:, 3:].tolist() == [[50.0, 2.0]] * 2
    assert refused([{**columns, "size": 50, "zone": {}}]) == [
        ("/sequences/0/zone", "must be an array of numbers, got an object")
    ]
    assert refused([{**columns, "size": None, "zone": "x"}]) == [
        ("/sequences/0/0/3", "size is static: it must be in the first row")
    ]


@given(json_values | st.lists(st.lists(st.lists(json_values, max_size=5), max_size=3), max_size=2))
def test_anything_else_is_refused_and_nothing_fails(value: Any) -> None:
    for codec in (SENT, TAKEN):
        arrays, faults = attempt(codec.parse, value)
        assert (arrays is None) == bool(faults)
    attempt(SENT.parse, [dict(zip(NAMES, value, strict=False))] if isinstance(value, list) else [])


def test_a_fault_far_behind_is_found_and_alone() -> None:
    rows = [list(ROW) for _ in range(3 * BLOCK)]
    rows[-5][1] = 7
    told = "sky must be text, got 7"
    assert refused([rows]) == [(f"/sequences/0/{3 * BLOCK - 5}/1", told)]
    columns = {
        name: list(column) for name, column in zip(NAMES, zip(*rows, strict=True), strict=True)
    }
    assert refused([columns]) == [(f"/sequences/0/sky/{3 * BLOCK - 5}", told)]


def test_numbers_too_short_for_their_base_are_refused() -> None:
    """float32 has steps of 512 at 4.5e9: an answer would be of other numbers than were meant."""
    sink = io.BytesIO()
    rows = np.array([ROW_TAKEN], np.float32)
    np.savez(sink, sequences=rows, lengths=[1])
    _, faults = attempt(npz.read, sink.getvalue(), CODEC, 1 << 20)
    told = "must be float64 or whole numbers, not float32: meter is near 4512345000"
    assert [(f.pointer, f.message) for f in faults] == [("/sequences", told)]
    columns = arrow_columns(meter=pa.array([[BASE]], pa.list_(pa.float32())))
    _, faults = attempt(arrow.read, stream_of(columns), CODEC)
    told = "must be lists of float64 or integers, since they are near 4512345000, is list<"
    assert faults[0].pointer == "/meter"
    assert faults[0].message.startswith(told)


def arrow_columns(**changes: Any) -> dict[str, Any]:
    columns = {
        "meter": pa.array([[BASE + 7]], pa.list_(pa.float64())),
        "sky": pa.array([["sun"]]),
        "holiday": pa.array([[True]]),
        "size": pa.array([[50.0]]),
        "zone": pa.array([["x"]]),
    }
    return columns | changes


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("sky", pa.array([[1.0]]), "must be lists of text, or dictionaries of text, is list<"),
        ("sky", pa.array([[3]]), "must be lists of text, or dictionaries of text, is list<"),
        ("sky", pa.array(["sun"]), "must be lists of text, or dictionaries of text, is string"),
        ("zone", pa.array([[1.0]]), "must be lists of text, dictionaries of text, or integers, or"),
        ("holiday", pa.array([["yes"]]), "must be lists of booleans, or the numbers 1 and 0, is"),
        ("size", pa.array([["x"]]), "must be lists of numbers, or one for each sequence, is list<"),
    ],
)
def test_an_arrow_column_of_another_type_is_refused(name: str, column: Any, message: str) -> None:
    _, faults = attempt(arrow.read, stream_of(arrow_columns(**{name: column})), CODEC)
    assert faults[0].pointer == f"/{name}"
    assert faults[0].message.startswith(message)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.dictionary(pa.int8(), pa.int32())])
@pytest.mark.parametrize("value", [1, 20, 99])
@pytest.mark.parametrize("name", ["sky", "zone"])
def test_an_integer_is_a_category_in_arrow_as_in_json(name: str, value: int, kind: Any) -> None:
    """Where a known value is a number, it is that text; where none is, it is a mistake."""
    row = [value if name == each else sent for each, sent in zip(NAMES, ROW, strict=True)]
    in_json, told = attempt(SENT.parse, [[row]])
    values = pa.array([value], kind.value_type if pa.types.is_dictionary(kind) else kind)
    values = values.dictionary_encode() if pa.types.is_dictionary(kind) else values
    column = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), values)
    in_arrow, faults = attempt(arrow.read, stream_of(arrow_columns(**{name: column})), CODEC)
    assert bool(faults) is bool(told) is (name == "sky")
    if not told:
        np.testing.assert_array_equal(in_arrow.sequences[0], in_json[0])


def test_arrow_flags_that_are_neither_1_nor_0_are_refused() -> None:
    columns = arrow_columns(holiday=pa.array([[2]]))
    _, faults = attempt(arrow.read, stream_of(columns), CODEC)
    told = "holiday is 2, no whole number from 0 to 1"
    assert [(f.pointer, f.message) for f in faults] == [("/sequences/0/0/2", told)]


def test_a_dictionary_is_not_read_where_nothing_is_text() -> None:
    plain = SequenceCodec(("x",), (False,), LIMITS)
    codec = Codec(
        plain,
        plain,
        None,
        *(getattr(CODEC, n) for n in ("states", "signature", "bounds", "name", "version")),
    )
    column = pa.array([["a"]], pa.list_(pa.dictionary(pa.int8(), pa.string())))
    _, faults = attempt(arrow.read, stream_of({"x": column}), codec)
    assert "a dictionary is not read here" in faults[0].message


def test_a_dictionary_that_is_compressed_is_refused() -> None:
    """A few bytes of it could become gigabytes."""
    text = pa.dictionary(pa.int8(), pa.string())
    columns = arrow_columns(sky=pa.array([["sun" * 1000]], pa.list_(text)))
    body = stream_of(columns, options=pa.ipc.IpcWriteOptions(compression="lz4"))
    _, faults = attempt(arrow.read, body, CODEC)
    assert "it is compressed; send it plain" in faults[0].message


def test_dictionaries_may_grow_and_change_from_batch_to_batch() -> None:
    text = pa.dictionary(pa.int8(), pa.string())
    batches = [
        pa.record_batch(arrow_columns(sky=pa.array([[value]]).cast(pa.list_(text))))
        for value in ("rain", "sun", "hail")
    ]
    for deltas in (True, False):
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
        with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)
        arrays = arrow.read(sink.getvalue().to_pybytes(), CODEC).sequences
        assert [array[0, 1] for array in arrays] == [2.0, 3.0, 0.0]


def test_text_has_quotes_within_the_bounds() -> None:
    """A request of text alone, as many time steps as it may have."""
    rows = [["1", "", True, 1, ""]] * 4000
    body = orjson.dumps({"sequences": [rows]})
    assert len(body) > UNCOUNTED_BYTES
    CODEC.bounds.check(body)
    with pytest.raises(InvalidRequest, match="quotes, the limit is"):
        JSONBounds.of(NAMES, 1, 3).check(body)


def test_a_model_of_plain_numbers_has_the_codec_of_plain_numbers() -> None:
    feature = Feature(name="x", unit="", transform=NUMBER)
    sent, taken = sequence_codecs((feature,), LIMITS)
    assert type(sent) is SequenceCodec
    assert taken is sent
    for change in ({"static": True}, {"transform": Flag(kind="flag", mean=0.5)}):
        sent, taken = sequence_codecs((feature.model_copy(update=change),), LIMITS)
        assert isinstance(sent, MixedSequences)
        assert taken is not sent


@given(st.lists(st.tuples(finite32, finite32, finite32), min_size=1, max_size=4))
def test_outputs_are_told_with_their_bases_and_others_as_they_are(rows: list[Any]) -> None:
    outputs = (
        Output(
            name="a", unit="", transform=Change(kind="change", feature="meter", mean=0.0, std=1.0)
        ),
        Output(name="b", unit="", transform=NUMBER),
        Output(
            name="c", unit="", transform=Relative(kind="relative", base=-3.0, mean=0.0, std=1.0)
        ),
    )
    bases = OutputBases.of(outputs, FEATURES)
    assert bases is not None
    assert bases.bases.tolist() == [BASE, 0.0, -3.0]
    array = np.array(rows, np.float32)
    added = bases.add(array)
    assert added.dtype == np.float64
    # What a float32 prints as is within half a step of it; the sum is rounded once more.
    exact = array.astype(np.float64) + bases.bases
    steps = np.abs(array.astype(np.float64)) * 2.0**-24 + 2.0**-150 + np.spacing(np.abs(exact))
    assert np.all(np.abs(added - exact) <= steps)
    # What has no base prints as before, but perhaps with another exponent.
    assert orjson.loads(print_json(added[:, 1].copy())) == orjson.loads(
        print_json(array[:, 1].copy())
    )
    assert OutputBases.of(outputs[1:2], FEATURES) is None
