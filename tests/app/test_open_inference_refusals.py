"""`/v2`: what is refused, each mistake with its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.open_inference import ONE, SEQUENCES, error, infer
from tests.app.service import Loader, Service, make_service


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(overflow=777.0)) as service:
        yield service.wait_until_ready()


def changed(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{**SEQUENCES, **fields}]}


LENGTHS = {"name": "lengths", "shape": [2], "datatype": "INT32", "data": [1, 3]}
STATE = {"name": "state_0_h", "shape": [2, 1], "datatype": "FP32", "data": [0, 0]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "/inputs: Field required"),
        ({"inputs": []}, "/inputs: List should have at least 1 item"),
        ({"inputs": [LENGTHS]}, "/inputs: sequences is missing"),
        ({"inputs": [SEQUENCES, 7]}, "/inputs/1: Input should be an object, got 7"),
        ({"inputs": [7] * 100_000}, "/inputs/0: Input should be an object, got 7"),
        ({"inputs": [SEQUENCES] * 2}, "/inputs/1/name: sequences is there twice"),
        (changed(name="x"), '/inputs/0/name: there is no "x"; there are sequences, lengths, state'),
        (changed(shape=[2, 3]), "/inputs/0/shape: sequences: must be [B, T, 4], got [2, 3]"),
        (changed(shape=[2, 3, 5]), "/inputs/0/shape: sequences: must be [B, T, 4], got [2, 3, 5]"),
        (changed(shape=[2, 0, 4]), "/inputs/0/shape/1: Input should be greater than or equal to 1"),
        (
            changed(shape=[2, -3, 4]),
            "/inputs/0/shape/1: Input should be greater than or equal to 1",
        ),
        (changed(shape=[2, 3.0, 4]), "/inputs/0/shape/1: Input should be a valid integer, got 3.0"),
        (
            changed(shape=[2, True, 4]),
            "/inputs/0/shape/1: Input should be a valid integer, got tru",
        ),
        (changed(shape=[1] * 9), "/inputs/0/shape: List should have at most 8 items"),
        (
            changed(shape=[2**62, 2**62, 4]),
            f"/sequences: holds {2**62} sequences, the limit is 256",
        ),
        (
            changed(shape=[2, 10_001, 4]),
            "/sequences: has 10001 time steps, the limit is 10000; send",
        ),
        (changed(shape=[2, 10_000, 4]), "/inputs/0/data: sequences: is not of shape [2, 10000, 4]"),
        (changed(data=None), "/inputs/0: sequences must have either data or the parameter binary_"),
        (
            changed(datatype="INT32"),
            '/inputs/0/datatype: sequences: must be FP32 or FP64, got "INT',
        ),
        (
            changed(data=[[[None] * 4] * 3] * 2),
            "/sequences/0/0/0: temp is missing, which it may not",
        ),
        (
            {"inputs": [SEQUENCES, {**LENGTHS, "shape": [1]}]},
            "/inputs/1/shape: lengths: must be [2]",
        ),
        (
            {"inputs": [SEQUENCES, {**LENGTHS, "data": [0, 4]}]},
            "/lengths/0: must be from 1 to 3, got 0",
        ),
        (
            {"inputs": [SEQUENCES, {**LENGTHS, "data": [1, 2.0]}]},
            "/inputs/1/data: lengths: must hold",
        ),
        (
            {"inputs": [SEQUENCES, {**STATE, "shape": [2]}]},
            "/inputs/1/shape: state_0_h: must be [2, 1]",
        ),
        ({"inputs": [SEQUENCES, {**STATE, "data": [0, None]}]}, "/state_0_h/1/0: must be a number"),
        ({"inputs": [SEQUENCES], "outputs": [{"name": "x"}]}, '/outputs/0/name: there is no "x"'),
        (
            {"inputs": [SEQUENCES], "outputs": [{"name": "outputs"}] * 2},
            "/outputs/1/name: outputs is t",
        ),
        ({"inputs": [SEQUENCES], "id": 7}, "/id: Input should be a valid string, got 7"),
        (
            changed(data=[777.0] * 24),
            "/sequences/0: the model overflows between time steps 0 and 2",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    service: Service, body: dict[str, Any], message: str
) -> None:
    assert error(infer(service, **body)).startswith(message)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sequence_id": -1}, "sequence_id: Input should be a whole number from 0, or at most 256"),
        ({"sequence_id": 1.5}, "sequence_id: Input should be a whole number from 0"),
        ({"sequence_id": True}, "sequence_id: Input should be a whole number from 0"),
        ({"sequence_id": "a\n"}, "sequence_id: Input should be a whole number from 0"),
        ({"sequence_id": "a" * 257}, "sequence_id: Input should be a whole number from 0"),
        (
            {"sequence_id": 7, "sequence_start": 1},
            "sequence_start: Input should be a valid boolean",
        ),
        ({"sequence_start": True}, "sequence_start: There is no sequence_id, got true"),
        (
            {"sequence_id": 0, "sequence_end": True},
            "sequence_end: There is no sequence_id, got true",
        ),
        ({"timeout": -1}, "timeout: Input should be greater than or equal to 0, got -1"),
        ({"timeout": 1e6}, "timeout: Input should be a valid integer, got 1000000.0"),
        ({"binary_data_output": "yes"}, "binary_data_output: Input should be a valid boolean"),
    ],
)
def test_a_wrong_parameter_is_refused(
    service: Service, parameters: dict[str, Any], message: str
) -> None:
    text = error(infer(service, inputs=[ONE], parameters=parameters))
    assert text.startswith(f"/parameters/{message}")


@pytest.mark.parametrize("name", ["classification", "shared_memory_region"])
def test_what_would_make_another_answer_is_refused(service: Service, name: str) -> None:
    outputs = [{"name": "outputs", "parameters": {name: 2}}]
    text = error(infer(service, inputs=[ONE], outputs=outputs))
    assert text == f"/outputs/0/parameters/{name}: Not supported, got 2"
