"""`/v2` over a fake kernel: the Open Inference Protocol, what can be asked and what is answered.

The fake sums up the first of the four features, exactly, into both outputs and the state.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.protocols.open_inference.binary_tensors import HEADER
from tests.app.foreign_protocols import error
from tests.app.open_inference import (
    IN_BYTES,
    NUMBERS,
    ONE,
    SEQUENCES,
    answer,
    infer,
    tensors,
)
from tests.app.running_service import Loader, Service, make_service


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader()) as service:
        yield service.wait_until_ready()


ALL = {
    "outputs": [[[1, 1], [3, 3], [6, 6]], [[4, 4], [9, 9], [15, 15]]],
    "state_0_h": [[6], [15]],
}


def test_an_answer_is_json_unless_something_else_is_wanted(service: Service) -> None:
    response = infer(service, id="mine", inputs=[SEQUENCES])
    assert answer(response) == {
        "model_name": "tiny",
        "model_version": "1",
        "id": "mine",
        "outputs": [
            {
                "name": "outputs",
                "datatype": "FP32",
                "shape": [2, 3, 2],
                "data": [1, 1, 3, 3, 6, 6, 4, 4, 9, 9, 15, 15],
            },
            {"name": "state_0_h", "datatype": "FP32", "shape": [2, 1], "data": [6, 15]},
        ],
    }
    assert response.headers["content-type"] == "application/json"
    assert HEADER not in response.headers
    assert "id" not in answer(infer(service, inputs=[SEQUENCES], path="/versions/1"))


@pytest.mark.parametrize("raw", [None, NUMBERS.tobytes()])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_tensors_go_in_and_come_out_as_bytes_or_json(
    service: Service, raw: bytes | None, as_bytes: bool
) -> None:
    given = IN_BYTES if raw else SEQUENCES
    response = infer(service, raw, inputs=[given], parameters={"binary_data_output": as_bytes})
    assert tensors(response) == ALL
    assert (HEADER in response.headers) == as_bytes
    octets = response.headers["content-type"] == "application/octet-stream"
    assert octets == as_bytes


def test_each_output_may_come_in_its_own_form(service: Service) -> None:
    outputs = [
        {"name": "state_0_h", "parameters": {"binary_data": False}},
        {"name": "outputs", "parameters": {"binary_data": True}},
    ]
    response = infer(
        service, inputs=[SEQUENCES], outputs=outputs, parameters={"binary_data_output": True}
    )
    assert tensors(response) == ALL
    assert list(tensors(response)) == ["state_0_h", "outputs"]
    assert len(response.content) == int(response.headers[HEADER]) + 2 * 3 * 2 * 4
    assert list(tensors(infer(service, inputs=[SEQUENCES], outputs=[{"name": "state_0_h"}]))) == [
        "state_0_h"
    ]


@pytest.mark.parametrize("datatype", ["INT32", "INT64"])
def test_nobody_looks_at_what_is_behind_the_end_of_a_sequence(
    service: Service, datatype: str
) -> None:
    padded = NUMBERS.copy()
    padded[0, 1:] = np.nan
    lengths = np.array([1, 3], {"INT32": "<i4", "INT64": "<i8"}[datatype])
    form = {"name": "lengths", "shape": [2], "datatype": datatype}
    size = {"parameters": {"binary_data_size": lengths.nbytes}}
    inputs = [{**form, **size}, IN_BYTES]
    expected = {
        "outputs": [[[1, 1], [0, 0], [0, 0]], ALL["outputs"][1]],
        "state_0_h": [[1], [15]],
    }
    assert tensors(infer(service, lengths.tobytes() + padded.tobytes(), inputs=inputs)) == expected
    as_json = [SEQUENCES, {**form, "data": [1, 3]}]
    assert tensors(infer(service, inputs=as_json)) == expected


def test_a_sequence_goes_on_from_the_state_of_an_answer(service: Service) -> None:
    (state,) = answer(infer(service, inputs=[SEQUENCES], outputs=[{"name": "state_0_h"}]))[
        "outputs"
    ]
    found = tensors(infer(service, inputs=[SEQUENCES, state]))
    assert found["state_0_h"] == [[12], [30]]
    assert found["outputs"][0] == [[7, 7], [9, 9], [12, 12]]


def test_float64_and_null_are_understood(service: Service) -> None:
    sequences = {**ONE, "datatype": "FP64", "data": [[[1, None, None, 0]] * 3]}
    assert tensors(infer(service, inputs=[sequences]))["state_0_h"] == [[3]]


def test_requests_with_a_sequence_id_are_pieces_of_one_sequence(service: Service) -> None:
    def piece(start: bool, end: bool, **more: Any) -> httpx.Response:
        parameters = {"sequence_id": 2**64 - 1, "sequence_start": start, "sequence_end": end}
        return infer(service, inputs=[ONE], parameters=parameters, **more)

    unknown = (
        f"inference request for sequence {2**64 - 1} to model 'tiny' must specify the START flag "
        "on the first request of the sequence: it was never begun, was idle for too long, or has "
        "been ended"
    )
    assert error(piece(False, False)) == unknown
    first = piece(True, False)
    assert tensors(first)["state_0_h"] == [[6]]
    assert answer(first)["parameters"] == {
        "sequence_id": 2**64 - 1,
        "sequence_start": True,
        "sequence_end": False,
    }
    assert tensors(piece(False, False))["state_0_h"] == [[12]]
    assert tensors(piece(True, False))["state_0_h"] == [[6]], "it begins anew"
    assert tensors(piece(False, True))["state_0_h"] == [[12]]
    assert error(piece(False, False)) == unknown
    assert tensors(piece(True, True))["state_0_h"] == [[6]]
    assert error(piece(False, True)) == unknown


def test_a_sequence_id_is_a_session_of_the_native_api(service: Service) -> None:
    parameters = {"sequence_id": "seven", "sequence_start": True}
    infer(service, inputs=[ONE], parameters=parameters)
    assert service.get("/sessions/seven").json()["time_step"] == 3
    body = {"sequences": [[[1, 0, 0, 0]]], "session": "seven"}
    assert service.post("/predict", json=body).json()["outputs"] == [[[7, 7]]]


def test_a_number_and_its_digits_name_the_same_sequence(service: Service) -> None:
    for sequence_id, total in ((42, 6), ("42", 12), (42, 18)):
        parameters = {"sequence_id": sequence_id, "sequence_start": total == 6}
        response = infer(service, inputs=[ONE], parameters=parameters)
        assert tensors(response)["state_0_h"] == [[total]]
        assert answer(response)["parameters"]["sequence_id"] == sequence_id


@pytest.mark.parametrize("nothing", [0, ""])
def test_no_sequence_id_is_no_sequence(service: Service, nothing: int | str) -> None:
    parameters = {"sequence_id": nothing, "sequence_start": False, "sequence_end": False}
    for _ in range(2):
        made = answer(infer(service, inputs=[SEQUENCES], parameters=parameters))
        assert made["outputs"][1]["data"] == [6, 15]
        assert "parameters" not in made


@pytest.mark.parametrize("sequence_id", [0, 7])
def test_who_waits_longer_than_the_timeout_gets_an_answer(tiny_dir: Path, sequence_id: int) -> None:
    load = Loader()
    with make_service(tiny_dir, load) as service:
        service.wait_until_ready()
        load.runner.gate.clear()
        parameters = {
            "timeout": 1000,
            "sequence_id": sequence_id,
            "sequence_start": sequence_id > 0,
        }
        response = infer(service, inputs=[ONE], parameters=parameters)
        assert error(response, 503) == "its timeout of 1000 microseconds is over"
        assert response.headers["retry-after"] == "1"
        load.runner.gate.set()
        # Enough for whoever computes, and no number is too large.
        for timeout in (60_000_000, 2**64 - 1, 0):
            found = infer(service, inputs=[ONE], parameters={"timeout": timeout})
            assert tensors(found)["state_0_h"] == [[6]]
        assert service.metric("unroll_sequences_running") == 0.0


def test_what_it_does_not_know_is_passed_over(service: Service) -> None:
    made = infer(
        service,
        model_name="tiny",
        inputs=[{**SEQUENCES, "parameters": {"content_type": "np"}}],
        outputs=[{"name": "state_0_h", "parameters": {"anything": 1}}],
        parameters={"priority": 3, "headers": {"a": "b"}},
    )
    assert tensors(made) == {"state_0_h": [[6], [15]]}
