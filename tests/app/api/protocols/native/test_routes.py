"""`POST /predict` over a fake kernel: what can be asked and what is answered.

The fake sums up the first of the four features, exactly, into both outputs and the state.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.problems import MEDIA_TYPE
from tests.app.running_service import Loader, Service, make_service

POISON = 666.0
OVERFLOW = 777.0
FIRST = [[1.0, 1000.0, 90.0, 3.0], [2.0, None, None, 4.0], [3.0, 1001.0, 91.0, 5.0]]
SECOND = [[10.0, None, 0.0, 0.0]]


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(POISON, OVERFLOW)) as service:
        yield service.wait_until_ready()


def predict(service: Service, **body: Any) -> httpx.Response:
    return service.post("/predict", json=body)


def answer(service: Service, **body: Any) -> dict[str, Any]:
    response = predict(service, **body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    made: dict[str, Any] = response.json()
    return made


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= body.keys()
    return body


def fault(response: httpx.Response, status: int = 422) -> tuple[str, str]:
    (only,) = problem(response, status)["errors"]
    return only["pointer"], only["message"]


def test_all_outputs_and_states_per_layer_are_the_default(service: Service) -> None:
    assert answer(service, sequences=[FIRST, SECOND]) == {
        "model": {"name": "tiny", "version": 1},
        "outputs": [[[1.0, 1.0], [3.0, 3.0], [6.0, 6.0]], [[10.0, 10.0]]],
        "states": [[{"h": [6.0]}], [{"h": [10.0]}]],
    }


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ("all", [[[1.0, 1.0], [3.0, 3.0], [6.0, 6.0]], [[10.0, 10.0]]]),
        ("last", [[6.0, 6.0], [10.0, 10.0]]),
        ("none", None),
    ],
)
def test_outputs_of_all_time_steps_the_last_or_none(
    service: Service, outputs: str, expected: object
) -> None:
    made = answer(service, sequences=[FIRST, SECOND], outputs=outputs)
    assert made.get("outputs") == expected
    assert ("outputs" in made) == (outputs != "none")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("per_layer", [[{"h": [6.0]}], [{"h": [10.0]}]]),
        ("concatenated", [[6.0], [10.0]]),
        ("none", None),
    ],
)
def test_states_layer_by_layer_in_a_row_or_none(
    service: Service, states: str, expected: object
) -> None:
    made = answer(service, sequences=[FIRST, SECOND], states=states)
    assert made.get("states") == expected
    assert ("states" in made) == (states != "none")


@pytest.mark.parametrize("states", ["per_layer", "concatenated", "token"])
def test_a_sequence_continues_from_the_states_of_an_answer(service: Service, states: str) -> None:
    first = answer(service, sequences=[FIRST[:1], SECOND], states=states)
    rest = answer(service, sequences=[FIRST[1:], SECOND], initial_states=first["states"])
    assert rest["outputs"] == [[[3.0, 3.0], [6.0, 6.0]], [[20.0, 20.0]]]
    again = answer(service, sequences=[FIRST, SECOND], initial_states=[None, first["states"][1]])
    assert again["states"] == [[{"h": [6.0]}], [{"h": [20.0]}]]


@pytest.mark.parametrize(
    "model", [None, "tiny", {"name": "tiny"}, {"name": "tiny", "version": 1}, {"name": "tiny",
    "version": None}],
)  # fmt: skip
def test_a_caller_may_name_the_model(service: Service, model: object) -> None:
    assert answer(service, sequences=[SECOND], model=model)["model"] == {
        "name": "tiny",
        "version": 1,
    }


@pytest.mark.parametrize(
    ("model", "pointer", "message"),
    [
        ("other", "/model", "there is no model 'other'; this service has 'tiny'"),
        ("", "/model", "there is no model ''; this service has 'tiny'"),
        ({"name": "other"}, "/model", "there is no model 'other'; this service has 'tiny'"),
        ({"name": "tiny", "version": 2}, "/model/version", "version 2 is not served; version 1 is"),
    ],
)
def test_another_model_than_the_one_served_is_not_found(
    service: Service, model: object, pointer: str, message: str
) -> None:
    assert fault(predict(service, sequences=[SECOND], model=model), 404) == (pointer, message)


@pytest.mark.parametrize(
    ("changes", "pointer", "message"),
    [
        ({"outptus": "all"}, "/outptus", "Extra inputs are not permitted"),
        ({"model": {"name": "tiny", "label": "a"}}, "/model/label", "Extra inputs"),
        (
            {"outputs": "first"},
            "/outputs",
            "Input should be 'all', 'last' or 'none', got \"first\"",
        ),
        ({"outputs": None}, "/outputs", "Input should be 'all', 'last' or 'none', got null"),
        (
            {"states": True},
            "/states",
            "Input should be 'per_layer', 'concatenated', 'token' or",
        ),
        ({"model": 5}, "/model", "Input should be an object"),
        ({"model": {"name": "tiny", "version": "1"}}, "/model/version", "Input should be a valid"),
        ({"sequences": None}, "/sequences", "must be an array of sequences, got null"),
        ({"sequences": [[[1, 2, 3]]]}, "/sequences/0/0", "must hold 4 features, got 3"),
        ({"sequences": [[[None, 2, 3, 4]]]}, "/sequences/0/0/0", "must be a number; null is not"),
        ({"initial_states": []}, "/initial_states", "holds 0 states for 1 sequences"),
        ({"initial_states": [[{"h": [1, 2]}]]}, "/initial_states/0/0/h", "must be an array of 1"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    service: Service, changes: dict[str, Any], pointer: str, message: str
) -> None:
    found_pointer, found_message = fault(predict(service, **{"sequences": [SECOND], **changes}))
    assert found_pointer == pointer
    assert found_message.startswith(message)


def test_sequences_are_required(service: Service) -> None:
    assert fault(predict(service)) == ("/sequences", "Field required")


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"sequences"'])
def test_a_body_that_is_no_object_is_refused(service: Service, body: bytes) -> None:
    pointer, message = fault(service.post("/predict", content=body))
    assert pointer == ""
    assert "must be an object" in message


@pytest.mark.parametrize("body", [b"", b"{", b'{"sequences": [[[NaN]]]}', b"\xff", b"\x00" * 100])
def test_a_body_that_is_not_json_is_refused(service: Service, body: bytes) -> None:
    found = problem(service.post("/predict", content=body), 400)
    assert found["title"] == "The body is not JSON"
    assert found["errors"][0]["pointer"] == ""


def test_the_content_type_does_not_matter(service: Service) -> None:
    """curl's `-d` sends another."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    body = b'{"sequences": [[[1, 2, 3, 4]]], "states": "none"}'
    assert service.post("/predict", content=body, headers=kind).status_code == 200


def test_an_input_that_overflows_is_the_callers_mistake(service: Service) -> None:
    bad = [[OVERFLOW, 0, 0, 0]]
    pointer, message = fault(predict(service, sequences=[FIRST, bad]))
    assert pointer == "/sequences/1"
    assert "overflows between time steps 0 and 0" in message


def test_a_kernel_that_fails_is_a_500_without_details_of_it(service: Service) -> None:
    body = problem(predict(service, sequences=[[[POISON, 0, 0, 0]]]), 500)
    assert body["detail"] == "the kernel failed: RuntimeError"
    assert "errors" not in body
    assert answer(service, sequences=[SECOND])["outputs"] == [[[10.0, 10.0]]]


def test_more_than_the_limits_is_refused(tiny_dir: Path) -> None:
    limits = {"max_sequences": 2, "max_sequence_steps": 3}
    with make_service(tiny_dir, **limits) as service:
        service.wait_until_ready()
        assert fault(predict(service, sequences=[SECOND] * 3)) == (
            "/sequences",
            "holds 3 sequences, the limit is 2",
        )
        pointer, message = fault(predict(service, sequences=[[*FIRST, *SECOND]]))
        assert pointer == "/sequences/0"
        assert message.startswith("holds 4 time steps, the limit is 3")
        assert predict(service, sequences=[FIRST]).status_code == 200


def test_who_finds_the_line_full_is_told_to_come_back(tiny_dir: Path) -> None:
    load = Loader()
    with make_service(tiny_dir, load, max_sequences=1, max_waiting_sequences=1) as service:
        service.wait_until_ready()
        load.runner.gate.clear()

        async def two() -> list[httpx.Response]:
            first = asyncio.ensure_future(
                service.client.post("/predict", json={"sequences": [FIRST]})
            )
            while not load.runner.entered.is_set():
                await asyncio.sleep(0.001)
            second = await service.client.post("/predict", json={"sequences": [SECOND]})
            load.runner.gate.set()
            return [await first, second]

        first, second = service.run(two())
    assert first.status_code == 200
    assert problem(second, 503)["title"] == "The service is overloaded"
    assert second.headers["retry-after"] == "1"


def test_a_request_that_takes_too_long_is_given_up(tiny_dir: Path) -> None:
    """Every deadline has passed when the first chunk is cut."""
    with make_service(tiny_dir, request_timeout_s=1e-9) as service:
        service.wait_until_ready()
        response = predict(service, sequences=[FIRST])
        assert problem(response, 503)["title"] == "The request took too long"
        assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_another_method_is_a_problem_that_names_the_right_one(
    service: Service, method: str
) -> None:
    response = service.request(method, "/predict")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.headers["content-type"] == MEDIA_TYPE
    if method == "HEAD":
        assert response.content == b""
    else:
        assert problem(response, 405)["title"] == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/nowhere", "/predict/x", "/docs/assets/x", "/docs/x"])
def test_another_path_is_a_problem(service: Service, path: str) -> None:
    assert problem(service.get(path), 404)["title"] == "Not Found"
