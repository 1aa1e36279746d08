"""Stopping the engine: who may finish, who is told, and that nothing is left behind."""

import asyncio
import threading

import numpy as np
import pytest

from app.engine import batch
from app.engine.engine import Engine
from app.engine.sequence import Sequence
from app.errors import RunFailed, ShuttingDown
from tests.app.engine.running import assert_summed, engine_of, is_idle, sequence, until
from tests.app.fakes import FakeRunner


def lanes_of(engine: Engine) -> list[threading.Thread]:
    return engine._lanes.threads


def test_draining_an_idle_engine_stops_its_lanes() -> None:
    async def run() -> None:
        async with engine_of(FakeRunner()) as engine:
            await engine.drain(10.0)
            assert not any(thread.is_alive() for thread in lanes_of(engine))
            with pytest.raises(ShuttingDown, match="the service is stopping"):
                await engine.submit([sequence(3)])

    asyncio.run(run())


def test_what_runs_and_waits_may_finish_and_nothing_more_is_taken() -> None:
    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, lanes=1, chunk_rows=2) as engine:
            request = [sequence(50, seed) for seed in range(5)]
            task = asyncio.create_task(engine.submit(request))
            await until(runner.entered.is_set)
            # So long that the test fails if the drain is not told that all have finished.
            draining = asyncio.create_task(engine.drain(1000.0))
            await until(lambda: engine._draining)
            with pytest.raises(ShuttingDown):
                await engine.submit([sequence(3)])
            assert not task.done()
            runner.gate.set()
            await asyncio.gather(task, draining)
            for done in request:
                assert_summed(done)
            assert not engine.alive
            assert (engine.counters.completed, engine.counters.failed) == (5, 0)

    asyncio.run(run())


def test_what_does_not_finish_in_time_is_told_that_the_service_stopped() -> None:
    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, lanes=1, chunk_rows=1) as engine:
            running, waiting = sequence(100, 1), sequence(100, 2)
            tasks = [asyncio.create_task(engine.submit([s])) for s in (running, waiting)]
            await until(runner.entered.is_set)
            await until(lambda: engine.counters.waiting == 1)
            draining = asyncio.create_task(engine.drain(0.05))
            # The one that waits is told although the kernel still holds the lane.
            with pytest.raises(ShuttingDown, match="before the end"):
                await tasks[1]
            runner.gate.set()
            with pytest.raises(ShuttingDown, match="before the end"):
                await tasks[0]
            await draining
            await until(lambda: not engine.alive)
            assert is_idle(engine)
            # Its chunk in flight came back, and there was no other.
            assert runner.calls == [1]
            assert engine.counters.failed == 2

    asyncio.run(run())


def test_a_kernel_that_hangs_does_not_hold_the_drain_forever() -> None:
    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, lanes=1) as engine:
            task = asyncio.create_task(engine.submit([sequence(3)]))
            await until(runner.entered.is_set)
            await engine.drain(0.05)
            assert engine.alive, "the lane is still in the kernel"
            runner.gate.set()
            with pytest.raises(ShuttingDown):
                await task

    asyncio.run(run())


def test_draining_again_is_nothing() -> None:
    async def run() -> None:
        async with engine_of(FakeRunner()) as engine:
            await engine.submit([sequence(3)])
            await engine.drain(1.0)
            await engine.drain(1.0)
            assert engine.counters.completed == 1

    asyncio.run(run())


def test_a_lane_survives_what_fails_outside_of_its_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No known way leads there; who waits must be told all the same, and the lane go on."""

    async def run() -> None:
        async with engine_of(FakeRunner(), lanes=1) as engine:
            with monkeypatch.context() as patched:
                patched.setattr(batch, "compute", lambda *_: 1 // 0)
                with pytest.raises(RunFailed):
                    await engine.submit([Sequence(np.ones((3, 1), np.float32))])
            after = Sequence(np.ones((3, 1), np.float32))
            await engine.submit([after])
            assert after.outputs[-1] == 3.0
            assert engine.alive

    asyncio.run(run())
