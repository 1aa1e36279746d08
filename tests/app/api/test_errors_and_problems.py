"""Errors as answers: each class has its status, and nothing of the inside gets out."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI, Response
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from app import errors
from app.api.problems import LAST, MEDIA_TYPE, faults_of, install, problem_of
from app.api.schemas import PredictRequest
from app.errors import Fault, InvalidRequest, UnrollError
from tests.app.caller import Caller
from tests.app.running_service import Service
from tests.app.strategies import json_values

STATUSES = {
    "UnrollError": 500,
    "InvalidRequest": 422,
    "NotHTTP": 400,
    "UnknownCoding": 501,
    "HeadTooLarge": 431,
    "HeadTooSlow": 408,
    "NotJSON": 400,
    "EncodedBody": 415,
    "BodyTooLarge": 413,
    "BodyTooSlow": 408,
    "UnknownModel": 404,
    "OtherModel": 409,
    "UnknownSession": 404,
    "SessionConflict": 409,
    "TooManySessions": 503,
    "TooManyConnections": 503,
    "SessionsUnavailable": 503,
    "NotFinite": 422,
    "Unavailable": 503,
    "NotReady": 503,
    "Overloaded": 503,
    "Expired": 503,
    "ShuttingDown": 503,
    "Cancelled": 499,
    "RunFailed": 500,
    "ModelRefused": 500,
    "DeviceFailed": 500,
}
# RFC 6901: ~ is followed by 0 or 1, and / begins a part.
POINTER = re.compile(r"(/([^~/]|~[01])*)*", re.DOTALL)


def tree(kind: type[UnrollError]) -> list[type[UnrollError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in tree(below))]


def make(kind: type[UnrollError]) -> UnrollError:
    if issubclass(kind, InvalidRequest):
        return kind(Fault("/a", "is wrong"))
    return kind("something happened")


def body_of(response: Response) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(response.body))
    return body


def faults_in(document: Any) -> list[Fault]:
    with pytest.raises(ValidationError) as caught:
        PredictRequest.model_validate(document)
    return faults_of(caught.value.errors(include_url=False))


@pytest.mark.parametrize("kind", tree(UnrollError), ids=lambda kind: kind.__name__)
def test_every_error_is_a_problem_with_its_status(kind: type[UnrollError]) -> None:
    error = make(kind)
    response = problem_of(error)
    body = body_of(response)
    assert response.status_code == body["status"] == STATUSES[kind.__name__]
    assert response.headers["content-type"] == MEDIA_TYPE == "application/problem+json"
    assert re.fullmatch(r"urn:unroll:problem:[a-z-]+", body["type"])
    assert body["title"]
    assert body["detail"] == str(error)
    assert ("errors" in body) == isinstance(error, InvalidRequest)
    assert ("retry-after" in response.headers) == issubclass(kind, errors.Unavailable)
    closes = issubclass(kind, LAST)
    assert (response.headers.get("connection") == "close") == closes


def test_the_tree_is_the_one_that_is_tested() -> None:
    assert sorted(kind.__name__ for kind in tree(UnrollError)) == sorted(STATUSES)


def test_faults_are_listed_with_pointer_and_message_at_most_ten() -> None:
    faults = [Fault(f"/a/{i}", f"message {i}") for i in range(12)]
    listed = body_of(problem_of(InvalidRequest(*faults)))["errors"]
    assert listed == [{"pointer": f"/a/{i}", "message": f"message {i}"} for i in range(10)]


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("a/b", "/a~1b"),
        ("a~b", "/a~0b"),
        ("~1", "/~01"),
        ("", "/"),
        ("x" * 1000, "/" + "x" * 80),
        # Cut before it is escaped: a single ~ at the end would not be a pointer.
        ("x" * 79 + "~~", "/" + "x" * 79 + "~0"),
    ],
)
def test_pointers_are_escaped_and_cut(name: str, pointer: str) -> None:
    (fault,) = faults_in({"sequences": [], name: 1})
    assert fault.pointer == pointer
    assert POINTER.fullmatch(fault.pointer)


@given(st.dictionaries(st.text(max_size=100), json_values, min_size=1, max_size=12))
def test_any_envelope_is_refused_with_valid_pointers_and_short_messages(
    document: dict[str, Any],
) -> None:
    document.pop("sequences", None)
    faults = faults_in(document)
    assert 1 <= len(faults) <= 10
    for fault in faults:
        assert POINTER.fullmatch(fault.pointer)
        assert len(fault.message) < 250


def test_a_long_value_is_cut() -> None:
    (fault,) = faults_in({"sequences": [], "outputs": "y" * 10_000})
    assert fault.pointer == "/outputs"
    assert fault.message.startswith("Input should be 'all', 'last' or 'none', got \"yyy")
    assert fault.message.endswith("yyy...")
    assert len(fault.message) < 150


def test_a_deep_value_is_named_and_not_shown() -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    (fault,) = faults_in({"sequences": [], "states": deep})
    assert fault.pointer == "/states"
    assert fault.message.endswith("got an array of 1")


@pytest.mark.parametrize(
    ("model", "pointers"),
    [
        (5, {"/model"}),
        ([], {"/model"}),
        ({}, {"/model/name"}),
        ({"name": 5}, {"/model/name"}),
        ({"name": "a", "version": "1"}, {"/model/version"}),
        ({"name": "a", "version": True}, {"/model/version"}),
        ({"name": "a", "colour": 1}, {"/model/colour"}),
    ],
)
def test_pointers_into_the_model_name_places_of_the_request(model: Any, pointers: set[str]) -> None:
    """Not the alternatives of a union, which the caller's document does not have."""
    assert {fault.pointer for fault in faults_in({"sequences": [], "model": model})} == pointers


@pytest.mark.parametrize("pointer", ["", "/model"])
def test_a_crowd_of_unknown_fields_is_one_fault(pointer: str) -> None:
    crowd = {f"field {i}": 1 for i in range(1000)}
    document = {"model": crowd} if pointer else crowd
    faults = faults_in({"sequences": [], **document})
    assert faults == [Fault(pointer, "Objects have at most 32 fields, got an object")]


@pytest.fixture
def client() -> Iterator[Service]:
    app = FastAPI()
    install(app)

    @app.get("/bug")
    async def bug() -> None:
        raise ValueError("the password is 1234")

    @app.get("/gone")
    async def gone() -> None:
        raise errors.Cancelled("the caller has gone")

    @app.get("/number")
    async def number(n: int) -> int:
        return n

    @app.get("/teapot/{status}")
    async def teapot(status: int) -> None:
        raise HTTPException(status, "short and stout", {"X-Kind": "teapot"})

    with Service(app) as service:
        yield service


def test_an_unexpected_exception_is_a_500_that_tells_nothing(client: Service) -> None:
    response = client.get("/bug")
    assert response.status_code == 500
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.json() == {
        "type": "urn:unroll:problem:the-service-failed",
        "title": "The service failed",
        "status": 500,
        "detail": "ValueError",
    }


def test_a_caller_who_has_gone_is_no_error_of_the_service(
    client: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/gone").status_code == 499
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_errors_of_the_framework_are_problems_too(client: Service) -> None:
    missing = client.get("/nowhere")
    assert missing.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is nothing at '/nowhere'; /docs lists what there is",
    }
    wrong = client.post("/bug")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert wrong.json()["detail"] == "POST is not allowed at '/bug'; GET is"
    bad = client.get("/number", params={"n": "1/~" + "x" * 10_000})
    assert bad.status_code == 422
    (fault,) = bad.json()["errors"]
    assert fault["pointer"] == "/query/n"
    assert len(bad.content) < 600
    for response in (missing, wrong, bad):
        assert response.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize("status", [418, 499, 520])
def test_any_status_has_a_problem(client: Service, status: int) -> None:
    response = client.get(f"/teapot/{status}")
    assert response.status_code == response.json()["status"] == status
    assert response.headers["x-kind"] == "teapot"
    assert response.json()["detail"] == "short and stout"


def test_what_callers_ask_for_is_kept_in_no_cache() -> None:
    """`urlsplit` of the standard library keeps what it is given."""
    app = FastAPI()
    install(app)

    @app.post("/refuses")
    async def refuses() -> None:
        raise InvalidRequest(Fault("", "always"))

    before = urlsplit.cache_info().currsize
    for path in ("/refuses", "/nowhere"):
        status, _, _ = asyncio.run(Caller(app, path=path).answer())
        assert status in (404, 422)
    assert urlsplit.cache_info().currsize == before
