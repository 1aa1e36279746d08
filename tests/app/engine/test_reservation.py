"""Room for sequences that wait for something else: counted once, wherever they are."""

import asyncio

import pytest

from app.engine.engine import Engine
from app.errors import Overloaded, ShuttingDown, UnrollError
from tests.app.engine.running import assert_summed, engine_of, is_idle, sequence, until
from tests.app.fakes import FakeRunner


def check_full(engine: Engine) -> None:
    with pytest.raises(Overloaded, match="limit is 2$"):
        engine.reserve(1)
    with pytest.raises(Overloaded, match="limit is 2$"):
        engine.check_room()


def ignore(_: UnrollError | None) -> None:
    pass


def test_room_is_taken_until_it_is_given_back() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner(), waiting=2) as engine:
            rooms = [engine.reserve(1), engine.reserve(1)]
            assert engine.load().waiting == 2
            check_full(engine)
            for room in rooms:
                room.end()
            assert is_idle(engine)
            engine.check_room()

    asyncio.run(work())


def test_time_steps_that_will_come_have_a_limit_too() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner(), waiting_steps=100) as engine:
            room = engine.reserve(90)
            with pytest.raises(Overloaded, match="90 time steps .* the limit is 100"):
                engine.reserve(11)
            engine.reserve(10).end()
            room.end()

    asyncio.run(work())


def test_a_sequence_that_runs_in_its_room_counts_once_however_often() -> None:
    async def work() -> None:
        runner = FakeRunner()
        async with engine_of(runner, waiting=2) as engine:
            room = engine.reserve(3)
            for _ in range(2):
                runner.gate.clear()
                runner.entered.clear()
                made, other = sequence(3), sequence(3)
                running = asyncio.create_task(room.submit(made))
                await until(runner.entered.is_set)
                engine.begin([other], ignore)
                check_full(engine)
                runner.gate.set()
                await running
                await until(lambda: engine.load().running == 0)
                assert_summed(made)
                assert engine.load().waiting == 1, "it may come again"
            room.end()
            assert is_idle(engine)

    asyncio.run(work())


def test_who_has_room_is_computed_while_the_engine_drains() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner()) as engine:
            room, made = engine.reserve(3), sequence(3)
            draining = asyncio.create_task(engine.drain(20.0))
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDown):
                engine.reserve(1)
            with pytest.raises(ShuttingDown):
                engine.begin([sequence(1)], ignore)
            await room.submit(made)
            assert_summed(made)
            assert not draining.done(), "its room is not given back"
            room.end()
            await draining

    asyncio.run(work())


def test_who_does_not_come_in_time_is_not_waited_for() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner()) as engine:
            room = engine.reserve(3)
            await engine.drain(0.01)
            with pytest.raises(ShuttingDown):
                await room.submit(sequence(3))
            room.end()

    asyncio.run(work())
