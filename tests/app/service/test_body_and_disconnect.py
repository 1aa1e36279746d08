"""Bodies that are too large or too slow, and callers that go, message by message (ASGI)."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.service.body import DISCARD_FACTOR
from tests.app.caller import Caller
from tests.app.engine.running import until
from tests.app.running_service import Loader, Service, make_service

LIMIT = 5000
ROW = [1.0, None, None, 0.0]
GOOD = json.dumps({"sequences": [[ROW]]}).encode()


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def service(tiny_dir: Path, loader: Loader) -> Iterator[Service]:
    with make_service(tiny_dir, loader, max_body_bytes=LIMIT, body_timeout_s=0.2) as service:
        yield service.wait_until_ready()


def answer(service: Service, *parts: bytes, **headers: str) -> tuple[int, dict[str, str], Any]:
    async def run() -> tuple[int, dict[str, str], Any]:
        caller = Caller(service.app, {name.replace("_", "-"): v for name, v in headers.items()})
        for part in parts:
            caller.send(part)
        caller.send(b"", more=False)
        return await caller.answer()

    return service.run(run())


@pytest.mark.parametrize("size", [1, 7, len(GOOD)])
def test_a_body_in_any_parts_is_read_whole(service: Service, size: int) -> None:
    parts = [GOOD[i : i + size] for i in range(0, len(GOOD), size)]
    status, _, body = answer(service, *parts)
    assert (status, body["outputs"]) == (200, [[[1.0, 1.0]]])


def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not(service: Service) -> None:
    full = GOOD.ljust(LIMIT)
    assert answer(service, full, content_length=str(LIMIT))[0] == 200
    assert answer(service, full)[0] == 200
    assert answer(service, full, b" ", content_length=str(LIMIT + 1))[0] == 413
    assert answer(service, full, b" ")[0] == 413


@pytest.mark.parametrize("announced", [None, 3 * LIMIT, 2**64 - 1])
def test_a_body_that_is_too_large_is_refused_and_the_connection_closed(
    service: Service, announced: int | None
) -> None:
    """The rest of a little too much is read, so that the sender gets to read the answer.

    However long it says that it is, it is not told to come again, as where there is no room.
    """
    assert answer(service, GOOD)[0] == 200
    parts = [b" " * LIMIT] * 3
    headers = {"content_length": str(announced)} if announced else {}
    status, answered, body = answer(service, *parts, **headers)
    assert status == 413
    assert answered["connection"] == "close"
    assert body["title"] == "The body is too large"
    assert f"the limit is {LIMIT}" in body["errors"][0]["message"]


def test_a_body_without_end_is_not_read_to_its_end(service: Service) -> None:
    async def run() -> None:
        caller = Caller(service.app)
        for _ in range(10 * DISCARD_FACTOR):
            caller.send(b" " * LIMIT)
        status, headers, _ = await caller.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert caller.read == DISCARD_FACTOR + 1

    service.run(run())


def test_who_asks_before_sending_too_much_is_refused_at_once(service: Service) -> None:
    async def run() -> None:
        headers = {"content-length": str(LIMIT + 1), "expect": "100-continue"}
        caller = Caller(service.app, headers)
        status, answered, _ = await caller.answer()
        assert (status, answered["connection"]) == (413, "close")
        assert caller.read == 0

    service.run(run())


def test_who_cannot_be_answered_now_is_told_before_the_body_is_read(tiny_dir: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    with make_service(tiny_dir, loader, max_sequences=1, max_waiting_sequences=1) as service:

        async def title() -> str:
            caller = Caller(service.app)
            status, headers, body = await caller.answer()
            assert (status, headers["retry-after"], caller.read) == (503, "1", 0)
            return str(body["title"])

        assert service.run(title()) == "The service is not ready"
        loader.gate.set()
        service.wait_until_ready()
        loader.runner.gate.clear()

        async def beside_another() -> str:
            other = Caller(service.app)
            other.send(GOOD, more=False)
            task = asyncio.create_task(other.answer())
            await until(loader.runner.entered.is_set)
            found = await title()
            loader.runner.gate.set()
            assert (await task)[0] == 200
            return found

        assert service.run(beside_another()) == "The service is overloaded"


@pytest.mark.parametrize("sent", [b"", GOOD[:5]])
def test_a_body_that_does_not_end_in_time_is_refused(service: Service, sent: bytes) -> None:
    async def run() -> None:
        caller = Caller(service.app)
        caller.send(sent)
        status, headers, body = await caller.answer()
        assert (status, headers["connection"]) == (408, "close")
        (fault,) = body["errors"]
        assert fault["message"].startswith(f"{len(sent)} bytes arrived in 0.2 s")

    service.run(run())


def test_a_body_that_trickles_has_no_more_time_than_one_that_stops(service: Service) -> None:
    async def trickle(caller: Caller) -> None:
        while True:
            caller.send(b" ")
            await asyncio.sleep(0.01)

    async def run() -> None:
        caller = Caller(service.app)
        sending = asyncio.create_task(trickle(caller))
        status, _, _ = await caller.answer()
        sending.cancel()
        assert status == 408
        assert caller.read >= 1

    service.run(run())


def test_a_caller_who_goes_while_sending_is_let_go(service: Service) -> None:
    async def run() -> None:
        caller = Caller(service.app)
        caller.send(GOOD[:5])
        caller.hang_up()
        status, _, body = await caller.answer()
        assert (status, body["title"]) == (499, "The caller has gone")

    service.run(run())


def test_a_caller_who_goes_cancels_its_sequences(service: Service, loader: Loader) -> None:
    body = json.dumps({"sequences": [[ROW] * 20] * 6}).encode()

    async def run() -> None:
        runner = loader.runner
        runner.gate.clear()
        engine = service.app.state.context.registry.engine
        caller = Caller(service.app)
        caller.send(body, more=False)
        task = asyncio.create_task(caller.answer())
        await until(runner.entered.is_set)
        # One lane of four slots.
        assert (engine.counters.running, engine.counters.waiting) == (4, 2)
        caller.hang_up()
        status, _, _ = await task
        assert status == 499
        # Those who waited have gone at once, those in flight go with their chunk.
        await until(lambda: engine.counters.waiting == 0)
        assert engine.counters.running == 4
        runner.gate.set()
        await until(lambda: engine.counters.running == 0)
        assert runner.calls == [4]

    service.run(run())
    assert service.post("/predict", json={"sequences": [[ROW]]}).status_code == 200
    assert service.metric("unroll_sequences_failed_total") == 6.0
    assert service.metric("unroll_sequences_completed_total") == 1.0


def test_a_caller_who_stays_gets_an_answer_though_another_goes(
    service: Service, loader: Loader
) -> None:
    async def run() -> None:
        runner = loader.runner
        runner.gate.clear()
        going, staying = Caller(service.app), Caller(service.app)
        tasks = []
        for caller in (going, staying):
            caller.send(GOOD, more=False)
            tasks.append(asyncio.create_task(caller.answer()))
        await until(runner.entered.is_set)
        going.hang_up()
        assert (await tasks[0])[0] == 499
        runner.gate.set()
        status, _, body = await tasks[1]
        assert (status, body["outputs"]) == (200, [[[1.0, 1.0]]])

    service.run(run())
