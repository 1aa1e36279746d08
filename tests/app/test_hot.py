"""The short way of a route against FastAPI's, which answers where the service is mounted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.problems import MEDIA_TYPE
from app.routes import predict
from tests.app.service import Loader, Service, make_service

POISON, OVERFLOW = 666.0, 777.0
ROW = [1.0, None, None, 0.0]
LIMIT = 5000


def body_of(value: float = 1.0, **options: Any) -> bytes:
    return json.dumps({"sequences": [[[value, *ROW[1:]]] * 3, [ROW]], **options}).encode()


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    load = Loader(POISON, OVERFLOW)
    with make_service(tiny_dir, load, max_body_bytes=LIMIT) as service:
        yield service.wait_until_ready()


def both(service: Service, **request: Any) -> tuple[httpx.Response, httpx.Response]:
    """The answers of the short way and of FastAPI's."""
    outer = FastAPI()
    outer.mount("/under/it", service.app)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(outer, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/under/it/predict", **request)

    return service.post("/predict", **request), service.run(ask())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": body_of()}, 200),
        ({"content": body_of(outputs="last", states="concatenated")}, 200),
        ({"content": body_of(), "headers": {"content-type": "text/plain"}}, 200),
        ({"content": body_of(), "params": {"colour": "red"}}, 200),
        ({"content": body_of(initial_states=[[{"h": [5]}], None])}, 200),
        ({"content": body_of(colour="red")}, 422),
        ({"content": body_of(initial_states=[])}, 422),
        ({"content": body_of(value=1e39)}, 422),
        ({"content": b"[]"}, 422),
        ({"content": b"{"}, 400),
        ({"content": b""}, 400),
        ({"content": body_of(model={"name": "other"})}, 404),
        ({"content": body_of(), "headers": {"content-encoding": "gzip"}}, 415),
        ({"content": body_of().ljust(LIMIT + 1)}, 413),
        ({"content": body_of(OVERFLOW)}, 422),
        ({"content": body_of(POISON)}, 500),
    ],
)
def test_both_ways_give_the_same_answer(
    service: Service, request_: dict[str, Any], status: int
) -> None:
    short, long = both(service, **request_)
    assert short.status_code == status, short.text
    assert short.status_code == long.status_code
    assert short.content == long.content
    assert dict(short.headers) == dict(long.headers)


def test_both_ways_say_that_the_service_is_not_ready(tiny_dir: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    with make_service(tiny_dir, loader) as service:
        short, long = both(service, content=body_of())
        assert short.status_code == long.status_code == 503
        assert short.content == long.content
        assert short.headers["retry-after"] == long.headers["retry-after"] == "1"
        loader.gate.set()


def test_the_short_way_is_short(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("FastAPI was asked")

    monkeypatch.setattr(FastAPI, "__call__", fail)
    assert service.post("/predict", content=body_of()).status_code == 200
    with pytest.raises(AssertionError, match="FastAPI was asked"):
        service.run(service.app({"type": "lifespan"}, None, None))  # type: ignore[arg-type]


def test_a_bug_is_a_500_that_tells_nothing_and_is_logged(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("the password is 1234")

    with monkeypatch.context() as patched:
        patched.setattr(predict, "parse_json", fail)
        answers = both(service, content=body_of())
    for answer in answers:
        assert answer.status_code == 500
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert answer.json() == {
            "type": "urn:unroll:problem:the-service-failed",
            "title": "The service failed",
            "status": 500,
            "detail": "ValueError",
        }
    (record,) = [r for r in caplog.records if "this is a bug: /predict failed" in r.getMessage()]
    assert record.exc_info is not None
    assert "1234" in str(record.exc_info[1])
    # Nothing of it stays: the next is answered, and nobody runs.
    assert service.post("/predict", content=body_of()).status_code == 200
    assert service.metric("unroll_sequences_running") == 0.0


def test_other_paths_are_not_taken_for_it(service: Service) -> None:
    assert service.post("/predict/", content=body_of()).status_code == 404
    assert service.post("/Predict", content=body_of()).status_code == 404
    assert service.post("/under/predict", content=body_of()).status_code == 404
    assert service.get("/predict").headers["allow"] == "POST"
    # The same path, written otherwise.
    assert service.post("/%70redict", content=body_of()).status_code == 200
