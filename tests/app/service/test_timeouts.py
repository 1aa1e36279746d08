"""The time that a caller has for a request: by a field, the query, or a header."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.endpoint import wait_of
from tests.app.formats import npy, zip_of
from tests.app.running_service import Loader, Service, make_service

ROW = [1.0, 2.0, 3.0, 4.0]
NPZ = zip_of(sequences=npy(np.float32([[ROW]])))


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        (["wait=5"], 5.0),
        (["respond-async, wait=10"], 10.0),
        (["respond-async", 'Wait = "7"'], 7.0),
        (["handling=lenient; wait=3"], 3.0),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1234567"], None),
        (["await=5"], None),
        (["wait=soon"], None),
        # A whole number, and nothing else.
        (["wait=0.5"], None),
        (["wait=5s"], None),
        (["wait=5 s"], None),
        (["wait="], None),
        (['wait="5'], None),
        (['wait="5.0"'], None),
        (["WAIT\t=\t00001 , x"], 1.0),
        # What stands in quotes is no preference.
        (['foo="a,wait=0"'], None),
        (['foo="a;wait=0", wait=4'], 4.0),
        ([r'foo="\",wait=0", wait=4'], 4.0),
        (['foo="a', 'wait=0"'], None),
        # The first of several.
        (["wait=1,wait=0"], 1.0),
        (["wait=1", "wait=0"], 1.0),
        (["wait=x, wait=2"], None),
        ([", ;, a, wait=6"], 6.0),
    ],
)
def test_how_long_a_caller_waits(values: list[str], seconds: float | None) -> None:
    headers = [(b"prefer", value.encode()) for value in values]
    found = wait_of({"headers": headers})
    assert found == (float("inf") if seconds is None else seconds)


@pytest.mark.parametrize("text", ["wait" + " " * 8000 + '"', "x" * 8000 + '"', ", " * 4000])
def test_a_preference_of_any_kind_is_read_in_no_time(text: str) -> None:
    began_s = time.perf_counter()
    assert wait_of({"headers": [(b"prefer", text.encode())]}) == float("inf")
    # A tenth of a millisecond; if each space were tried with each other, a second.
    assert time.perf_counter() - began_s < 0.1


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def service(tiny_dir: Path, loader: Loader) -> Iterator[Service]:
    with make_service(tiny_dir, loader) as service:
        service.wait_until_ready()
        yield service
        loader.runner.gate.set()


def body(**options: Any) -> bytes:
    return json.dumps({"sequences": [[ROW]], **options}).encode()


REQUESTS: dict[str, dict[str, Any]] = {
    "field": {"content": body(timeout_s=0.2)},
    "query": {"params": {"timeout_s": "0.2"}, "content": NPZ},
    "lines": {"content": body(timeout_s=0.2), "headers": {"accept": "application/x-ndjson"}},
    "header": {"content": body(), "headers": {"prefer": "wait=0"}},
    "the shorter": {"content": body(timeout_s=0.2), "headers": {"prefer": "wait=30"}},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_given_up_when_the_callers_time_is_over(
    service: Service, loader: Loader, name: str
) -> None:
    """The kernel stands; the time of the settings is a minute."""
    loader.runner.gate.clear()
    options = dict(REQUESTS[name])
    headers = {"content-type": "application/json"} | options.pop("headers", {})
    if name == "query":
        headers["content-type"] = "application/x-npz"
    answer = service.post("/predict", headers=headers, **options)
    assert answer.status_code == 503
    assert answer.json()["title"] == "The request took too long"


@pytest.mark.parametrize("seconds", [0, -1, 86_401, "5", None])
def test_what_is_no_time_is_refused(service: Service, seconds: Any) -> None:
    answer = service.post("/predict", content=body(timeout_s=seconds))
    assert answer.status_code == (422 if seconds is not None else 200)


def test_who_could_not_be_answered_in_its_time_is_refused_at_once(
    service: Service, loader: Loader
) -> None:
    """Others wait for the kernel, which stands: longer than the newcomer has."""

    async def run() -> httpx.Response:
        loader.runner.gate.clear()
        long = json.dumps({"sequences": [[ROW] * 2000] * 4}).encode()
        waiting = asyncio.create_task(service.client.post("/predict", content=long))
        while not loader.runner.entered.is_set():
            await asyncio.sleep(0.001)
        refused = await service.client.post("/predict", content=body(timeout_s=0.01))
        loader.runner.gate.set()
        assert (await waiting).status_code == 200
        return refused

    refused = service.run(run())
    assert refused.json()["title"] == "The service is overloaded"
    assert "would wait for" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) >= 1
