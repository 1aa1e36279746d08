"""Tensors and envelopes: what is read as it was sent, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from app.api.protocols.open_inference.binary_tensors import HEADER, print_tensors, split
from app.codec.json_numbers import BLOCK, MAX_FAULTS, parse_json, print_json
from app.codec.named_tensor import FLOATS, Tensor
from app.codec.signature import Signature, StateTensor
from app.errors import InvalidRequest
from app.manifest import Layer, Manifest, StatePart
from tests.app.strategies import attempt, count_looks, finite32, json_values

shapes = arrays_of.array_shapes(min_dims=1, max_dims=4, max_side=4)


def tensor(content: object, shape: tuple[int, ...], datatype: str = "FP32") -> Tensor:
    return Tensor("x", datatype, shape, content, "/inputs/0")


def refused(made: Tensor, read: str = "floats", **options: Any) -> tuple[str, str]:
    """Pointer and message of the first fault."""
    with pytest.raises(InvalidRequest) as caught:
        getattr(made, read)(**options)
    assert len(caught.value.faults) <= MAX_FAULTS
    return caught.value.faults[0].pointer, caught.value.faults[0].message


@given(arrays_of.arrays(np.float32, shapes, elements=finite32))
def test_float32_is_the_same_as_bytes_nested_and_flat(array: np.ndarray) -> None:
    for content in (
        memoryview(array.tobytes()),
        parse_json(print_json(array)),
        parse_json(print_json(array.ravel())),
    ):
        again = tensor(content, array.shape).floats()
        assert again.dtype == np.float32
        assert again.shape == array.shape
        # As bytes: -0.0 equals 0.0 as a number.
        assert again.tobytes() == array.tobytes()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_whole_numbers_are_the_same_as_bytes_and_as_json(numbers: list[int]) -> None:
    raw = memoryview(np.array(numbers, "<i8").tobytes())
    for content in (raw, numbers):
        assert tensor(content, (len(numbers),), "INT64").integers() == numbers


def test_float64_is_rounded_and_what_does_not_fit_is_infinite() -> None:
    raw = np.array([0.1, 1e39, np.nan], "<f8").tobytes()
    found = tensor(memoryview(raw), (3,), "FP64").floats()
    np.testing.assert_array_equal(found, np.array([0.1, np.inf, np.nan], np.float32))


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_nothing_of_the_body_is_kept(datatype: str) -> None:
    itemtype = np.dtype(FLOATS[datatype])
    body = bytearray(b"123" + np.arange(4, dtype=itemtype).tobytes())
    content = memoryview(body)[3:]
    found = tensor(content, (2, 2), datatype).floats()
    content.release()
    # A view of it could not be resized.
    body.clear()
    np.testing.assert_array_equal(found, [[0, 1], [2, 3]])


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 3 * BLOCK - 1])
def test_a_wrong_number_among_very_many_is_told_with_its_place(nullable: bool, place: int) -> None:
    numbers: list[object] = [0.5] * (3 * BLOCK)
    if nullable:
        numbers[::3] = [None] * BLOCK
    numbers[place] = "a"
    told = (f"/x/{place // 4 // 16}/{place // 4 % 16}/{place % 4}", 'must be a number, got "a"')
    assert refused(tensor(numbers, (3 * BLOCK // 64, 16, 4)), nullable=nullable) == told


def test_null_is_missing_where_that_is_allowed() -> None:
    found = tensor([[1, None]], (1, 2)).floats(nullable=True)
    np.testing.assert_array_equal(found, [[1, np.nan]])
    place = ("/x/0/1", "must be a number; null is not allowed here")
    assert refused(tensor([[1, None]], (1, 2))) == place
    assert refused(tensor([1, None], (1, 2))) == place


def test_of_very_many_numbers_few_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = count_looks(monkeypatch)
    numbers: list[object] = [0.5, None] * (20 * BLOCK)
    numbers[-1] = 1e39
    assert refused(tensor(numbers, (len(numbers),)), nullable=True)[0] == f"/x/{len(numbers) - 1}"
    assert len(looked) <= BLOCK


@pytest.mark.parametrize(
    ("content", "shape", "datatype", "pointer", "message"),
    [
        ([1, 2, 3], (2, 2), "FP32", "data", "x: holds 3 numbers, shape [2, 2] has 4"),
        ([], (1,), "FP32", "data", "x: holds 0 numbers, shape [1] has 1"),
        ([[1, 2], [3]], (2, 2), "FP32", "data", "x: is not of shape [2, 2]"),
        ([[1, 2], 3], (2, 2), "FP32", "data", "x: is not of shape [2, 2]"),
        ([[[1], [2]], [[3], [4]]], (2, 3), "FP32", "data", "x: is not of shape [2, 3]"),
        (7, (1,), "FP32", "data", "x: must be an array, got 7"),
        ([1], (1,), "FP16", "datatype", 'x: must be FP32 or FP64, got "FP16"'),
        (memoryview(b"1234"), (1,), "INT32", "datatype", 'x: must be FP32 or FP64, got "INT32"'),
        (
            memoryview(b"12345"),
            (1,),
            "FP32",
            "parameters/binary_data_size",
            "x: shape [1] of FP32 has 4 bytes, got 5",
        ),
        (
            memoryview(b""),
            (2**62, 4),
            "FP32",
            "parameters/binary_data_size",
            f"x: shape [{2**62}, 4] of FP32 has {2**66} bytes, got 0",
        ),
        (
            [1],
            (2**40, 2**40),
            "FP32",
            "data",
            f"x: holds 1 numbers, shape {[2**40] * 2} has {2**80}",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    content: object, shape: tuple[int, ...], datatype: str, pointer: str, message: str
) -> None:
    assert refused(tensor(content, shape, datatype)) == (f"/inputs/0/{pointer}", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[1.0, True]], "must be a number, got true"),
        ([[1.0, "2"]], 'must be a number, got "2"'),
        ([[1.0, [2]]], "must be a number, got an array of 1"),
        ([[1.0, 1e39]], "1e+39 is beyond the range of float32, 3.403e+38"),
    ],
)
@pytest.mark.parametrize("nullable", [True, False])
def test_what_is_no_number_is_told_with_its_place(
    content: list[list[object]], message: str, nullable: bool
) -> None:
    for data in (content, content[0]):
        made = tensor(data, (1, 2))
        assert refused(made, nullable=nullable) == ("/x/0/1", message)


@pytest.mark.parametrize("odd", [1.0, True, None, "1", [1], 2**64 * 1.0])
def test_what_is_no_whole_number_is_refused(odd: object) -> None:
    pointer, message = refused(tensor([1, odd], (2,), "INT32"), "integers")
    assert pointer == "/inputs/0/data"
    assert message.startswith("x: must hold whole numbers, got ")
    assert refused(tensor([1], (1,), "FP32"), "integers")[0] == "/inputs/0/datatype"


@given(json_values, st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
def test_whatever_json_holds_is_read_or_refused(content: object, shape: tuple[int, ...]) -> None:
    array, faults = attempt(tensor(content, shape).floats, True)
    if array is None:
        assert faults
    else:
        assert array.shape == shape
        assert not np.isinf(array).any()


@given(st.binary(max_size=30), st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
def test_whatever_bytes_are_is_read_or_refused(content: bytes, shape: tuple[int, ...]) -> None:
    for datatype, size in (("FP32", 4), ("FP64", 8)):
        array, faults = attempt(tensor(memoryview(content), shape, datatype).floats)
        assert (array is not None) == (len(content) == np.prod(shape) * size)
        assert (array is None) == bool(faults)


def test_a_shape_has_letters_for_any_size() -> None:
    tensor([], (2, 3, 4)).check_shape("B", "T", 4)


@pytest.mark.parametrize("expected", [("B", "T", 5), ("B", 4), ("B", "T", 4, "X"), ()])
def test_another_shape_is_refused(expected: tuple[int | str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tensor([], (2, 3, 4)).check_shape(*expected)
    text = ", ".join(map(str, expected))
    assert str(caught.value) == f"/inputs/0/shape: x: must be [{text}], got [2, 3, 4]"


@given(st.binary(max_size=40), st.integers(0, 40))
def test_a_body_is_split_where_its_header_says(body: bytes, length: int) -> None:
    parts, faults = attempt(split, body, str(length))
    if length > len(body):
        assert faults
    else:
        assert parts is not None
        assert (parts[0], bytes(parts[1])) == (body[:length], body[length:])


def test_without_the_header_all_is_json() -> None:
    text, raw = split(b"{}", None)
    assert (text, len(raw)) == (b"{}", 0)


@pytest.mark.parametrize("header", ["", "-1", "+1", "1.0", " 1", "0x1", "1_0", "²", "٣", "9" * 20])
def test_a_header_that_is_no_number_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{HEADER} must be a number of bytes"):
        split(b"{}" * 100, header)


def test_what_is_joined_is_split_again() -> None:
    tensors = [np.arange(6, dtype=np.float32).reshape(2, 3)[:, 1:], np.ones(1, np.float32)]
    body, headers = print_tensors(({"a": 1}, tensors))
    (_, media_type), (_, length) = headers
    text, raw = split(body, length.decode())
    assert parse_json(text) == {"a": 1}
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4"), [1, 2, 4, 5, 1])
    assert media_type == b"application/octet-stream"
    assert print_tensors(({}, [])) == (b"{}", ((b"content-type", b"application/json"),))


def test_the_states_of_all_layers_stand_one_after_the_other() -> None:
    layers = tuple(
        Layer(
            cell=cell,
            units=units,
            states=tuple(StatePart(name=n, tensor=f"state_{index}_{n}") for n in parts),
        )
        for index, (cell, units, parts) in enumerate([("lstm", 3, "hc"), ("gru", 2, "h")])
    )
    manifest = Manifest.model_construct(features=(1, 2), outputs=(1,), layers=layers)
    signature = Signature.of(manifest)
    assert signature.states == (
        StateTensor("state_0_h", 0, 3),
        StateTensor("state_0_c", 3, 6),
        StateTensor("state_1_h", 6, 8),
    )
    assert [form.shape for form in signature.inputs_form()] == [
        *((-1, -1, 2), (-1,), (-1, 3), (-1, 3), (-1, 2))
    ]
    assert [form.name for form in signature.outputs_form()] == [
        *("outputs", "state_0_h", "state_0_c", "state_1_h")
    ]
