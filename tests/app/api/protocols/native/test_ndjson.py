"""Answers line by line: every chunk once and in order, then the states; errors in their place."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import is_idle, until
from tests.app.fakes import FakeRunner
from tests.app.live import LIMIT_S, Connection, Live, request
from tests.app.running_service import Loader, Service, make_service

OVERFLOW = 777.0
ACCEPT = "application/x-ndjson"
ROW = [1.0, None, None, 0.0]


@pytest.fixture
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(overflow=OVERFLOW)) as service:
        yield service.wait_until_ready()


def ones(*lengths: int) -> list[Any]:
    return [[ROW] * length for length in lengths]


def ask(service: Service, status: int = 200, **body: Any) -> list[dict[str, Any]]:
    """The lines of an answer."""
    answer = service.post("/predict", json=body, headers={"Accept": ACCEPT})
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.headers["content-type"] == ACCEPT
    return [json.loads(line) for line in answer.text.splitlines()]


def test_chunks_come_in_order_and_each_once(service: Service) -> None:
    first, *chunks, last = ask(service, sequences=ones(100, 5, 40))
    assert first == {"model": {"name": "tiny", "version": 1}}
    outputs: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    for chunk in chunks:
        found = outputs[chunk["sequence"]]
        assert chunk["time_step"] == len(found)
        found += chunk["outputs"]
    assert len(chunks) > 3, "long sequences come in several chunks"
    whole = service.post("/predict", json={"sequences": ones(100, 5, 40)}).json()
    assert [outputs[row] for row in range(3)] == whole["outputs"]
    assert last == {"states": whole["states"]}


@pytest.mark.parametrize("outputs", ["last", "none"])
def test_only_what_is_asked_for_comes(service: Service, outputs: str) -> None:
    lines = ask(service, sequences=ones(100, 5), outputs=outputs, states="none")
    whole = service.post(
        "/predict", json={"sequences": ones(100, 5), "outputs": outputs, "states": "none"}
    ).json()
    model, *rest = lines
    assert model == {"model": whole.pop("model")}
    assert rest == [whole]


def test_a_session_goes_on_in_lines_too(service: Service) -> None:
    *_, last = ask(service, sequences=ones(20), session={"id": "a", "time_step": 0})
    assert last == {"session": {"id": "a", "time_step": 20}}
    again = ask(service, sequences=ones(20), session={"id": "a", "time_step": 0})
    assert again[-1] == last
    _, chunk, _ = ask(service, sequences=ones(1), session="a")
    assert chunk["outputs"][0][0] == 21


def test_what_is_wrong_before_the_first_line_is_a_problem(service: Service) -> None:
    (problem,) = ask(service, 422, sequences=[[[1]]])
    assert problem["errors"][0]["pointer"] == "/sequences/0/0"
    (problem,) = ask(service, 422, sequences=[[[OVERFLOW, *ROW[1:]]]])
    assert problem["title"] == "The model overflows on this input"


def test_what_fails_later_ends_with_an_error(service: Service) -> None:
    late = [[ROW] * 90 + [[OVERFLOW, *ROW[1:]]]]
    first, *chunks, last = ask(service, sequences=late)
    assert first["model"]
    assert len(chunks) >= 1
    assert last["error"]["status"] == 422
    assert "between time steps" in last["error"]["detail"]


def test_other_accepts_are_answered_in_one(service: Service) -> None:
    unwanted = "application/x-ndjson;q=0"
    for accept in ("*/*", "application/json", "text/html, */*;q=0.1", "x", unwanted):
        answer = service.post("/predict", json={"sequences": ones(1)}, headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json"


def test_http_1_0_gets_its_lines_in_one(tiny_dir: Path) -> None:
    body = json.dumps({"sequences": ones(40)}).encode()
    message = b"".join(request("/predict", body, f"Accept: {ACCEPT}", version="1.0"))

    async def ask(connection: Connection) -> None:
        answer = await connection.ask(message)
        assert "transfer-encoding" not in answer.headers
        first, *chunks, last = (json.loads(line) for line in answer.body.splitlines())
        assert "model" in first
        assert [chunk["time_step"] for chunk in chunks] == [0, 16, 32]
        assert "states" in last

    with live_of(tiny_dir, Loader()) as live:
        live.run(live.ready())
        live.talk(ask)


async def read_part(connection: Connection) -> list[dict[str, Any]]:
    """The lines of the next part of a chunked answer."""
    async with asyncio.timeout(LIMIT_S):
        size = int(await connection.reader.readuntil(b"\r\n"), 16)
        part = await connection.reader.readexactly(size + 2)
        return [json.loads(line) for line in part.splitlines() if line]


def stop_after_one(runner: FakeRunner) -> None:
    """Has it stand at the gate with its second chunk."""
    compute = runner.run

    def once(*arrays: Any) -> Any:
        results = compute(*arrays)
        if len(runner.calls) == 1:
            runner.gate.clear()
        return results

    runner.run = once  # type: ignore[method-assign]


def test_a_chunk_is_sent_before_the_next_is_computed(tiny_dir: Path) -> None:
    body = json.dumps({"sequences": ones(100)}).encode()

    async def work(live: Live) -> None:
        await live.ready()
        runner = loader.runner
        stop_after_one(runner)
        caller = await live.connect()
        await caller.send(b"".join(request("/predict", body, f"Accept: {ACCEPT}")))
        await caller.head()
        model, outputs = await read_part(caller)
        assert "model" in model
        assert outputs["time_step"] == 0
        assert len(runner.calls) == 1, "the second stands at the gate"
        runner.gate.set()
        while "states" not in (await read_part(caller))[-1]:
            pass

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        live.run(work(live))


@pytest.mark.long
@pytest.mark.parametrize("lines", [0, 1], ids=["before a line", "between two"])
def test_a_caller_who_hangs_up_frees_the_slot(tiny_dir: Path, lines: int) -> None:
    body = json.dumps({"sequences": ones(9000)}).encode()

    async def work(live: Live) -> None:
        await live.ready()
        caller = await live.connect()
        runner = loader.runner
        stop_after_one(runner) if lines else runner.gate.clear()
        await caller.send(b"".join(request("/predict", body, f"Accept: {ACCEPT}")))
        if lines:
            await caller.head()
            assert len(await read_part(caller)) == 2, "the model and the first time step"
        await until(runner.entered.is_set)
        await live.leave(caller)
        runner.gate.set()
        await until(lambda: is_idle(live.app.state.context.registry.engine))
        assert len(runner.calls) < 9000 // 16, "it was not computed to the end"

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        live.run(work(live))
