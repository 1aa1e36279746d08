"""TensorFlow Serving's `:predict` over a fake kernel: what is refused, and how that is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.fakes import write_version
from tests.app.foreign_protocols import error
from tests.app.running_service import Loader, Service, make_service
from tests.app.tensorflow_serving import (
    MODEL,
    OVERFLOW,
    POISON,
    SECOND,
    predict,
)


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(POISON, OVERFLOW)) as service:
        yield service.wait_until_ready()


WHOLE = "must be a whole number from 1 to 1, the time steps that were sent, got"
NULL = "must be a number; null is not allowed here"
TOO_LARGE = "the model overflows between time steps 0 and 0: the values are too large for it"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "the body must be an object, got an array of 0"),
        ({}, "must have either instances or inputs, got neither"),
        (
            {"instances": [SECOND], "inputs": [SECOND]},
            "must have either instances or inputs, got both",
        ),
        ({"instances": [SECOND], "more": 1}, "/more: Extra inputs are not permitted"),
        (
            {"instances": [SECOND], "signature_name": "chunk"},
            '/signature_name: there is no signature "chunk"; there is "serving_default"',
        ),
        (
            {"instances": [SECOND], "signature_name": 1},
            "/signature_name: Input should be a valid string, got 1",
        ),
        ({"instances": None, "inputs": None}, "must have either instances or inputs, got neither"),
        ({"instances": None}, "/instances: must be an array of sequences, got null"),
        ({"instances": {}}, "/instances: must be an array of sequences, got an object"),
        ({"instances": []}, "/instances: must hold at least one sequence"),
        ({"instances": [SECOND] * 257}, "/instances: holds 257 sequences, the limit is 256"),
        ({"inputs": None}, "/inputs: must be an array of sequences, got null"),
        ({"inputs": []}, "/inputs: must hold at least one sequence"),
        ({"inputs": [SECOND, 1]}, "/inputs/1: must be an array of time steps, got 1"),
        ({"inputs": {}}, '/inputs: "sequences" is missing'),
    ],
)
def test_a_mistake_is_told_with_its_place(service: Service, body: Any, text: str) -> None:
    assert error(predict(service, body), 400) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (3, ": must be an array of time steps, got 3"),
        ([], ": must hold at least one time step"),
        ([[1, 2, 3]], "/0: must hold 4 features, got 3"),
        ([[None, 2, 3, 4]], f"/0/0: {NULL}"),
        ([[1e39, 2, 3, 4]], "/0/0: 1e+39 is beyond the range of float32, 3.403e+38"),
        ([[OVERFLOW, 0, 0, 0]], f": {TOO_LARGE}"),
        ([{"b64": "AA=="}], "/0: must be an array of 4 numbers, got an object"),
        ([[{"b64": "AA=="}, 1, 1, 1]], "/0/0: must be a number, got an object"),
        ({"sequences": [[1, 2]]}, "/sequences/0: must hold 4 features, got 2"),
        ({"sequences": SECOND, "lengths": 2}, f"/lengths: {WHOLE} 2"),
        ({"sequences": SECOND, "lengths": 0}, f"/lengths: {WHOLE} 0"),
        ({"sequences": SECOND, "lengths": 1.0}, f"/lengths: {WHOLE} 1.0"),
        ({"sequences": SECOND, "lengths": True}, f"/lengths: {WHOLE} true"),
        ({"sequences": SECOND, "lengths": None}, f"/lengths: {WHOLE} null"),
        ({"sequences": SECOND, "lengths": [1]}, f"/lengths: {WHOLE} an array of 1"),
        (
            {"sequences": SECOND, "state_0_h": [1, 2]},
            "/state_0_h: must be an array of 1 numbers, got an array of 2",
        ),
        ({"sequences": SECOND, "state_0_h": ["1"]}, '/state_0_h/0: must be a number, got "1"'),
        ({"sequences": SECOND, "state": [1]}, ': there is no input "state"'),
        ({"lengths": 1}, ': "sequences" is missing'),
    ],
)
def test_a_mistake_in_a_row_is_told_with_its_place(service: Service, row: Any, text: str) -> None:
    response = predict(service, {"instances": [SECOND, row]})
    assert error(response, 400) == f"/instances/1{text}"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"sequences": 1}, "/sequences: must be an array of sequences, got 1"),
        ({"sequences": []}, "/sequences: must hold at least one sequence"),
        (
            {"sequences": [SECOND, [[1, 2, 3, "x"]]]},
            '/sequences/1/0/3: must be a number, got "x"',
        ),
        ({"sequences": [SECOND, [[OVERFLOW, 0, 0, 0]]]}, f"/sequences/1: {TOO_LARGE}"),
        ({"x{}": [1]}, ': there is no input "x{}"'),
        ({"lengths": 1}, "/lengths: must be an array of 2, one entry a sequence, got 1"),
        (
            {"lengths": [1]},
            "/lengths: must be an array of 2, one entry a sequence, got an array of 1",
        ),
        ({"lengths": [1, 2]}, f"/lengths/1: {WHOLE} 2"),
        ({"state_0_h": [[1], [None]]}, f"/state_0_h/1/0: {NULL}"),
        (
            {"state_0_h": [[1], 1]},
            "/state_0_h/1: must be an array of 1 numbers, got 1",
        ),
    ],
)
def test_a_mistake_in_columns_is_told_with_its_place(
    service: Service, columns: dict[str, Any], text: str
) -> None:
    response = predict(service, {"inputs": {"sequences": [SECOND, SECOND], **columns}})
    assert error(response, 400) == f"/inputs{text}"


def test_many_unknown_inputs_are_told_in_few_words(service: Service) -> None:
    row = {"sequences": SECOND, **{f"{index}" * 200: 1 for index in range(100)}}
    assert len(error(predict(service, {"instances": [row]}), 400)) < 2000


def test_an_initial_state_has_all_of_its_parts(tmp_path: Path) -> None:
    parts = [{"name": name, "tensor": f"state_0_{name}"} for name in ("h", "c")]
    write_version(tmp_path / "tiny", 1, layers=[{"cell": "lstm", "units": 1, "states": parts}])
    text = '"state_0_c" is missing; an initial state has all of its tensors or none'
    with make_service(tmp_path) as service:
        service.wait_until_ready()
        row = {"sequences": [[1]], "state_0_h": [1]}
        assert error(predict(service, {"instances": [row]}), 400) == f"/instances/0: {text}"
        columns = {"sequences": [[[1]]], "state_0_h": [[1]]}
        assert error(predict(service, {"inputs": columns}), 400) == f"/inputs: {text}"


@pytest.mark.parametrize("body", [b"", b"{", b'{"instances": [[[NaN, 1, 2, 3]]]}', b"\xff"])
def test_a_body_that_is_not_json_is_refused(service: Service, body: bytes) -> None:
    error(service.post(f"{MODEL}:predict", content=body), 400)


def test_more_time_steps_than_the_limit_are_refused_padded_or_not(tiny_dir: Path) -> None:
    limits = {"max_sequence_steps": 2, "max_sequences": 2}
    with make_service(tiny_dir, **limits) as service:
        service.wait_until_ready()
        row = {"sequences": SECOND * 3, "lengths": 1}
        found = error(predict(service, {"instances": [row]}), 400)
    assert found.startswith("/instances/0/sequences: holds 3 time steps, the limit is 2; ")
