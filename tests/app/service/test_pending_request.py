"""Requests that nobody waits for, or that take too long, by the timer that looks at all of them."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive

from app.errors import BodyTooSlow, Cancelled, Expired, UnrollError
from app.service.body import read_body
from app.service.pending_request import TICK_S, Deadlines, GiveUp, PendingRequest
from tests.app.caller import Caller
from tests.app.engine.running import is_idle, until
from tests.app.running_service import Loader, Service, make_service

ROW = [1.0, None, None, 0.0]
GOOD = json.dumps({"sequences": [[ROW]]}).encode()
LATE_S = 3.5 * TICK_S


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture(params=["alone", "mounted"])
def route(request: pytest.FixtureRequest) -> str:
    """FastAPI's way; `test_direct.py` has the direct one, which needs a connection."""
    return str(request.param)


def caller_of(service: Service, route: str) -> Caller:
    app: ASGIApp = service.app
    if route == "alone":
        return Caller(app)
    outer = FastAPI()
    outer.mount("/under", app)
    return Caller(outer, path="/under/predict")


def test_a_caller_who_hangs_up_late_frees_its_slots_for_the_next(
    tiny_dir: Path, loader: Loader, route: str
) -> None:
    """One lane of four slots, and a kernel that stands: who waits has its turn afterwards."""

    async def run(service: Service) -> None:
        runner, engine = loader.runner, service.app.state.context.registry.engine
        runner.gate.clear()
        going, staying = caller_of(service, route), caller_of(service, route)
        going.send(json.dumps({"sequences": [[ROW] * 100] * 6}).encode(), more=False)
        leaving = asyncio.create_task(going.answer())
        await until(runner.entered.is_set)
        staying.send(GOOD, more=False)
        waiting = asyncio.create_task(staying.answer())
        await asyncio.sleep(LATE_S)
        assert (engine.counters.running, engine.counters.waiting) == (4, 3)
        assert not leaving.done()
        going.hang_up()
        status, _, body = await leaving
        assert (status, body["title"]) == (499, "The caller has gone")
        # Those who waited have gone at once, those in flight go with their chunk.
        assert (engine.counters.running, engine.counters.waiting) == (4, 1)
        assert not waiting.done()
        runner.gate.set()
        status, _, body = await waiting
        assert (status, body["outputs"]) == (200, [[[1.0, 1.0]]])
        await until(lambda: is_idle(engine))
        # Not a chunk more for the one who has gone.
        assert runner.calls == [4, 1]
        assert (engine.counters.completed, engine.counters.failed) == (1, 6)

    with make_service(tiny_dir, loader) as service:
        service.run(run(service.wait_until_ready()))


def test_callers_who_hang_up_at_any_time_leave_nothing_behind(
    tiny_dir: Path, loader: Loader
) -> None:
    async def run(service: Service) -> None:
        before = asyncio.all_tasks()  # this one, and the worker's beat
        runner, engine = loader.runner, service.app.state.context.registry.engine
        runner.gate.clear()
        tasks = []
        for _ in range(8):
            caller = Caller(service.app)
            caller.send(GOOD, more=False)
            tasks.append(asyncio.create_task(caller.answer()))
            asyncio.get_running_loop().call_later(TICK_S * len(tasks) / 3, caller.hang_up)
        assert {status for status, _, _ in await asyncio.gather(*tasks)} == {499}
        runner.gate.set()
        await until(lambda: is_idle(engine))
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        assert not left, "a task still waits for a caller"

    with make_service(tiny_dir, loader) as service:
        service.run(run(service.wait_until_ready()))


def test_a_kernel_that_hangs_does_not_hold_its_callers(
    tiny_dir: Path, loader: Loader, route: str
) -> None:
    """Neither who is in the chunk nor who waits behind it."""

    async def run(service: Service) -> None:
        runner, engine = loader.runner, service.app.state.context.registry.engine
        runner.gate.clear()
        callers = [caller_of(service, route) for _ in range(6)]
        for caller in callers:
            caller.send(GOOD, more=False)
        tasks = [asyncio.create_task(caller.answer()) for caller in callers]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*tasks)
        for status, headers, body in answers:
            assert (status, headers["retry-after"]) == (503, "1")
            assert body["title"] == "The request took too long"
        assert not runner.calls, "the kernel did not hang"
        assert engine.counters.waiting == 0
        runner.gate.set()
        await until(lambda: is_idle(engine))
        assert engine.counters.failed == 6
        again = caller_of(service, route)
        again.send(GOOD, more=False)
        assert (await again.answer())[0] == 200

    with make_service(tiny_dir, loader, request_timeout_s=0.3) as service:
        service.run(run(service.wait_until_ready()))


@pytest.mark.long
def test_the_time_of_the_body_does_not_count_as_that_of_the_computing(
    tiny_dir: Path, loader: Loader, route: str
) -> None:
    """A slow sender whose body is in time has as long as others to be computed."""

    async def run(service: Service) -> None:
        runner = loader.runner
        runner.gate.clear()
        caller = caller_of(service, route)
        caller.send(GOOD[:5])
        task = asyncio.create_task(caller.answer())
        await asyncio.sleep(1.2)
        caller.send(GOOD[5:], more=False)
        await until(runner.entered.is_set)
        # Some looks, and far less than a second.
        await asyncio.sleep(LATE_S)
        runner.gate.set()
        status, _, body = await task
        assert (status, body) == (200, body), body
        assert body["outputs"] == [[[1.0, 1.0]]]

    with make_service(tiny_dir, loader, request_timeout_s=1.0) as service:
        service.run(run(service.wait_until_ready()))


# The parts by themselves.


def watched(body: Callable[[Deadlines], Coroutine[Any, Any, None]], **timeouts: float) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        problems: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        deadlines = Deadlines(**{"body_timeout_s": 60.0, "request_timeout_s": 60.0, **timeouts})
        async with asyncio.timeout(20):
            await body(deadlines)
            assert not deadlines._open
            await until(lambda: not deadlines._ticking)
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert problems == []

    asyncio.run(run())


def hold(_: int) -> None:
    """There is always room."""


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@contextmanager
def waiting(
    deadlines: Deadlines, give_up: GiveUp, receive: Receive = never
) -> Iterator[PendingRequest]:
    """A request whose body is read, until it is answered."""
    pending = PendingRequest(deadlines)
    pending.wait(give_up)
    pending.listen(receive)
    yield pending
    assert pending.end()
    assert not pending.end(), "it ends once"


@pytest.mark.long
def test_nothing_ticks_while_nothing_is_open() -> None:
    async def body(deadlines: Deadlines) -> None:
        assert not deadlines._ticking
        for _ in range(2):
            with PendingRequest(deadlines).reading():
                assert deadlines._ticking
                await asyncio.sleep(2.5 * TICK_S)
                assert deadlines._ticking
            await until(lambda: not deadlines._ticking)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(deadlines, "_tick", lambda: pytest.fail("it ticks"))
                await asyncio.sleep(2.5 * TICK_S)

    watched(body)


def test_there_is_one_timer_for_all() -> None:
    async def body(deadlines: Deadlines) -> None:
        ticks = 0
        tick = deadlines._tick

        def counted() -> None:
            nonlocal ticks
            ticks += 1
            tick()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(deadlines, "_tick", counted)
            for _ in range(50):
                with PendingRequest(deadlines).reading(), PendingRequest(deadlines).reading():
                    await asyncio.sleep(TICK_S / 20)
            await until(lambda: not deadlines._ticking)
        # 50 pairs in about 2.5 ticks; a loaded machine takes longer for them, not more timers.
        assert 1 <= ticks < 25

    watched(body)


def test_a_quick_request_costs_no_task() -> None:
    async def body(deadlines: Deadlines) -> None:
        tasks = asyncio.all_tasks()
        with waiting(deadlines, lambda _: None):
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == tasks

    watched(body)


def test_who_hangs_up_is_given_up_once() -> None:
    """Though the request's time is over soon after."""

    async def body(deadlines: Deadlines) -> None:
        gone = asyncio.Event()
        reasons: list[UnrollError] = []

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        with waiting(deadlines, reasons.append, receive):
            await asyncio.sleep(1.5 * TICK_S)
            assert reasons == []
            gone.set()
            await asyncio.sleep(6 * TICK_S)
        assert [type(reason) for reason in reasons] == [Cancelled]

    watched(body, request_timeout_s=4 * TICK_S)


def test_a_request_out_of_time_is_given_up_once_and_not_before() -> None:
    async def body(deadlines: Deadlines) -> None:
        reasons: list[tuple[float, UnrollError]] = []
        loop = asyncio.get_running_loop()
        started = loop.time()
        with waiting(deadlines, lambda reason: reasons.append((loop.time() - started, reason))):
            await until(lambda: bool(reasons))
            await asyncio.sleep(2.5 * TICK_S)
        ((after, reason),) = reasons
        assert isinstance(reason, Expired)
        assert after >= 0.999 * 2.5 * TICK_S

    watched(body, request_timeout_s=2.5 * TICK_S)


def test_each_has_its_own_time() -> None:
    async def body(deadlines: Deadlines) -> None:
        order: list[int] = []
        with waiting(deadlines, lambda _: order.append(1)):
            await asyncio.sleep(3 * TICK_S)
            with waiting(deadlines, lambda _: order.append(2)):
                await until(lambda: bool(order))
                assert order == [1]
                await until(lambda: len(order) == 2)
        assert order == [1, 2]

    watched(body, request_timeout_s=5 * TICK_S)


def test_a_late_body_is_told_and_its_task_goes_on() -> None:
    async def body(deadlines: Deadlines) -> None:
        pending = PendingRequest(deadlines)
        with pending.reading():
            with pytest.raises(BodyTooSlow, match="0 bytes arrived in 0.1 s"):
                await read_body([], never, pending, 100, hold)
            # The cancellation is used up: what the task awaits next is not cancelled.
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            await asyncio.sleep(1.5 * TICK_S)

    watched(body, body_timeout_s=TICK_S)


def test_whoever_else_cancels_a_reader_is_obeyed() -> None:
    """A server that stops at once: no answer to make up."""

    async def body(deadlines: Deadlines) -> None:
        async def read() -> None:
            pending = PendingRequest(deadlines)
            with pending.reading():
                await read_body([], never, pending, 100, hold)

        task = asyncio.create_task(read())
        await asyncio.sleep(1.5 * TICK_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    watched(body)


def test_a_body_that_is_read_has_no_more_time_limit() -> None:
    async def body(deadlines: Deadlines) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        pending = PendingRequest(deadlines)
        with pending.reading():
            assert await read_body([], receive, pending, 100, hold) == b"{}"
        pending.wait(lambda _: pytest.fail("given up"))
        pending.listen(never)
        await asyncio.sleep(3.5 * TICK_S)
        pending.end()

    watched(body, body_timeout_s=TICK_S)
