"""`/v2`: what is refused, each mistake with its place."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.registry.registry import Registry
from tests.app.fakes import write_version
from tests.app.foreign_protocols import error
from tests.app.open_inference import ONE, SEQUENCES, infer
from tests.app.running_service import Loader, Service, make_service


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(overflow=777.0)) as service:
        yield service.wait_until_ready()


def changed(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{**SEQUENCES, **fields}]}


LENGTHS = {"name": "lengths", "shape": [2], "datatype": "INT32", "data": [1, 3]}
NOT_SHARED = "Shared memory is not offered: tensors are sent as bytes or as JSON"
NAMELESS = "Whoever starts or ends a sequence must name it"
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
            f"/inputs/0/shape: holds {2**62} sequences, the limit is 256",
        ),
        (
            changed(shape=[2, 10_001, 4]),
            "/inputs/0/shape: sequences: has 10001 time steps, the limit is 10000; send",
        ),
        (changed(shape=[2, 10_000, 4]), "/inputs/0/data: sequences: is not of shape [2, 10000, 4]"),
        (changed(data=None), "/inputs/0: sequences must have either data or the parameter binary_"),
        (
            changed(datatype="INT32"),
            '/inputs/0/datatype: sequences: must be FP32 or FP64, got "INT',
        ),
        (
            changed(data=[[[None] * 4] * 3] * 2),
            "/inputs/0: sequences[0, 0, 0]: temp is missing, which it may not",
        ),
        (
            {"inputs": [SEQUENCES, {**LENGTHS, "shape": [1]}]},
            "/inputs/1/shape: lengths: must be [2]",
        ),
        (
            {"inputs": [SEQUENCES, {**LENGTHS, "data": [0, 4]}]},
            "/inputs/1: lengths[0]: must be from 1 to 3, got 0",
        ),
        (
            {"inputs": [SEQUENCES, {**LENGTHS, "data": [1, 2.0]}]},
            "/inputs/1/data: lengths: must hold",
        ),
        (
            {"inputs": [SEQUENCES, {**STATE, "shape": [2]}]},
            "/inputs/1/shape: state_0_h: must be [2, 1]",
        ),
        (
            {"inputs": [{**STATE, "data": [0, None]}, SEQUENCES]},
            "/inputs/0: state_0_h[1, 0]: must be a number",
        ),
        ({"inputs": [SEQUENCES], "outputs": [{"name": "x"}]}, '/outputs/0/name: there is no "x"'),
        (
            {"inputs": [SEQUENCES], "outputs": [{"name": "outputs"}] * 2},
            "/outputs/1/name: outputs is t",
        ),
        ({"inputs": [SEQUENCES], "id": 7}, "/id: Input should be a valid string, got 7"),
        (
            changed(data=[777.0] * 24),
            "/inputs/0: sequences[0]: the model overflows between time steps 0 and 2",
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
        ({"sequence_start": True}, f"sequence_id: {NAMELESS}, got 0"),
        ({"sequence_start": True, "sequence_end": True}, f"sequence_id: {NAMELESS}, got 0"),
        ({"sequence_id": "", "sequence_end": True}, f'sequence_id: {NAMELESS}, got ""'),
        ({"sequence_id": 1.5, "sequence_start": True}, "sequence_id: Input should be a whole nu"),
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
    assert ";" not in text, "one mistake is told once"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("classification", 2, "Classification is not offered: outputs are numbers, got 2"),
        ("shared_memory_region", "mine", f'{NOT_SHARED}, got "mine"'),
        ("shared_memory_region", "", f'{NOT_SHARED}, got ""'),
    ],
)
def test_what_would_make_another_answer_is_refused(
    service: Service, name: str, value: Any, text: str
) -> None:
    outputs = [{"name": "outputs", "parameters": {name: value}}]
    found = error(infer(service, inputs=[ONE], outputs=outputs))
    assert found == f"/outputs/0/parameters/{name}: {text}"


def test_inputs_in_shared_memory_are_refused(service: Service) -> None:
    region = {"shared_memory_region": "mine", "shared_memory_byte_size": 96}
    inputs = [{"name": "sequences", "shape": [2, 3, 4], "datatype": "FP32", "parameters": region}]
    text = error(infer(service, inputs=inputs))
    assert text == f'/inputs/0/parameters/shared_memory_region: {NOT_SHARED}, got "mine"'


def piece(
    service: Service, *inputs: dict[str, Any], name: str = "station", start: bool = False
) -> httpx.Response:
    parameters = {"sequence_id": name, "sequence_start": start}
    return infer(service, inputs=list(inputs), parameters=parameters)


def test_a_sequence_id_is_of_one_sequence(service: Service) -> None:
    text = error(piece(service, LENGTHS, SEQUENCES, start=True))
    assert text == "/inputs/1/shape: sequences: one sequence a request has a sequence_id, got 2"


def test_an_initial_state_is_for_the_start_of_a_sequence(service: Service) -> None:
    state = {**STATE, "shape": [1, 1], "data": [7]}
    assert piece(service, ONE, state, name="begun", start=True).status_code == 200
    for name in ("begun", "never begun"):
        assert error(piece(service, ONE, state, name=name)) == (
            "/parameters/sequence_id: this sequence goes on from the state that is kept; an "
            "initial state is for its first request, with sequence_start"
        )


async def load_newer(registry: Registry) -> None:
    """Makes it that of another service, which has the same sessions."""
    await registry.current().engine.drain(1.0)
    with registry._pinned as pinned:
        pinned.write(None)
    registry._current = None
    registry.start_loading()
    while registry.loading:
        await asyncio.sleep(0.005)


def test_a_sequence_of_another_version_is_told_by_its_id(tmp_path: Path) -> None:
    """As after an update of the model: sessions are kept, and their states do not fit."""
    write_version(tmp_path / "tiny", 1)
    with make_service(tmp_path) as service:
        service.wait_until_ready()
        sequences = {"name": "sequences", "shape": [1, 1, 1], "datatype": "FP32", "data": [1]}
        assert piece(service, sequences, start=True).status_code == 200
        write_version(tmp_path / "tiny", 2)
        service.run(load_newer(service.app.state.context.registry))
        assert error(piece(service, sequences), 409) == (
            "/parameters/sequence_id: this state is of 'tiny' version 1, but 'tiny' version 2 is "
            "served"
        )
