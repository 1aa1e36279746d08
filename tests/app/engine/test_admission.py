"""Pieces that wait for something else before they are computed: counted once, wherever they are."""

import asyncio
import math

import pytest

from app.engine.engine import Engine
from app.engine.sequence import Sequence
from app.errors import Overloaded, ShuttingDown, UnrollError
from tests.app.engine.running import assert_summed, engine_of, is_idle, sequence, until
from tests.app.fakes import FakeRunner


def check_full(engine: Engine) -> None:
    with pytest.raises(Overloaded, match="limit is 2$"):
        engine.admit(1)
    with pytest.raises(Overloaded, match="limit is 2$"):
        engine.check_room(1, "", math.inf)


def ignore(_: UnrollError | None) -> None:
    pass


def test_room_is_taken_until_it_is_given_back() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner(), waiting=2) as engine:
            pieces = [engine.admit(1), engine.admit(1)]
            assert engine.counters.waiting == 2
            check_full(engine)
            for piece in pieces:
                engine.leave(piece)
            assert is_idle(engine)
            engine.check_room(1, "", math.inf)

    asyncio.run(work())


def test_time_steps_that_will_come_have_a_limit_too() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner(), waiting_steps=100) as engine:
            piece = engine.admit(90)
            with pytest.raises(Overloaded, match="90 time steps .* the limit is 100"):
                engine.admit(11)
            engine.leave(engine.admit(10))
            engine.leave(piece)
            assert is_idle(engine)
            engine.leave(engine.admit(100))

    asyncio.run(work())


def test_a_piece_counts_once_however_often_it_is_computed() -> None:
    async def work() -> None:
        runner = FakeRunner()
        async with engine_of(runner, waiting=2) as engine:
            piece = engine.admit(3)
            for _ in range(2):
                runner.gate.clear()
                runner.entered.clear()
                made, other = sequence(3), sequence(3)
                running = asyncio.create_task(engine.submit([made], piece))
                await until(runner.entered.is_set)
                engine.begin([other], ignore)
                check_full(engine)
                runner.gate.set()
                await running
                await until(lambda: engine.counters.running == 0)
                assert_summed(made)
                assert engine.counters.waiting == 1, "it may come again"
            engine.leave(piece)
            assert is_idle(engine)

    asyncio.run(work())


def test_nobody_takes_the_room_of_a_piece_between_two_attempts() -> None:
    """A sequence has ended by the time its listener is called; who waits for it is told later."""

    async def work() -> None:
        async with engine_of(FakeRunner(), waiting=2) as engine:
            piece, other = engine.admit(3), engine.admit(3)
            refused: list[Overloaded] = []

            def intrude(_: Sequence) -> None:
                try:
                    engine.begin([sequence(3)], ignore)
                except Overloaded as error:
                    refused.append(error)

            for attempt in range(1, 4):
                made = sequence(3, attempt, listener=intrude)
                await engine.submit([made], piece)
                assert_summed(made)
                assert len(refused) == attempt
            engine.leave(piece)
            engine.leave(other)
            assert is_idle(engine)

    asyncio.run(work())


@pytest.mark.parametrize("when", ["in flight", "ended, not told"])
def test_a_piece_that_leaves_keeps_its_room_until_its_chunk_is_computed(when: str) -> None:
    """The lane still writes into it. What has just ended keeps none."""

    async def work() -> None:
        runner = FakeRunner()
        async with engine_of(runner, waiting=2) as engine:
            piece, other = engine.admit(3), engine.admit(3)

            def leave(_: Sequence) -> None:
                if when != "in flight":
                    engine.leave(piece)

            runner.gate.clear()
            running = asyncio.create_task(
                engine.submit([sequence(3, listener=leave)], piece),
            )
            await until(runner.entered.is_set)
            if when == "in flight":
                running.cancel()
                await asyncio.wait([running])
                engine.leave(piece)
            check_full(engine)
            assert engine.counters.running == 1
            runner.gate.set()
            await until(lambda: engine.counters.running == 0)
            assert engine.counters.waiting == 1, "the other one"
            engine.check_room(1, "", math.inf)
            engine.leave(other)
            assert is_idle(engine)

    asyncio.run(work())


def test_a_piece_that_was_admitted_is_computed_while_the_engine_drains() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner()) as engine:
            piece, made = engine.admit(3), sequence(3)
            draining = asyncio.create_task(engine.drain(20.0))
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDown):
                engine.admit(1)
            with pytest.raises(ShuttingDown):
                engine.begin([sequence(1)], ignore)
            await engine.submit([made], piece)
            assert_summed(made)
            assert not draining.done(), "it may come again"
            engine.leave(piece)
            await draining

    asyncio.run(work())


def test_a_piece_that_does_not_come_in_time_is_not_waited_for() -> None:
    async def work() -> None:
        async with engine_of(FakeRunner()) as engine:
            piece = engine.admit(3)
            await engine.drain(0.01)
            with pytest.raises(ShuttingDown):
                await engine.submit([sequence(3)], piece)
            engine.leave(piece)
            assert is_idle(engine)

    asyncio.run(work())
