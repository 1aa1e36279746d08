"""Redis killed, frozen, flushed and full, between and within pieces: no state begins anew."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from app.engine.engine import Engine
from app.errors import SessionsUnavailable, UnknownSession
from app.sessions.redis import RedisStore
from app.sessions.service import SessionService
from tests.app.engine.running import engine_of, until
from tests.app.fakes import FakeRunner
from tests.app.sessions.test_service import send
from tests.app.sessions.test_sqlite_full import large
from tests.support.redis_server import RedisServer, redis_server

Work = Callable[["Caller"], Awaitable[None]]

# How a caller names its pieces, the first and the others.
NAMING: dict[str, Callable[[int], dict[str, Any]]] = {
    "time_step": lambda number: {"time_step": number, "must_exist": None},
    "key": lambda number: {
        "key": f"{number}",
        "time_step": None if number else 0,
        "must_exist": None,
    },
    "name": lambda number: {"time_step": None if number else 0, "must_exist": None},
}


class Caller:
    """Sends the powers of two, one a piece, so that each answer tells what is part of it."""

    def __init__(self, server: RedisServer, engine: Engine, runner: FakeRunner, how: str) -> None:
        self.server, self.runner = server, runner
        self.sessions = SessionService(RedisStore(server.url, "tiny", 1000, 60.0))
        self._engine, self._naming = engine, NAMING[how]

    async def send(self, number: int) -> None:
        """A piece, whose answer must be the sum of all up to it."""
        value = float(2**number)
        answer = await send(self.sessions, self._engine, value, **self._naming(number))
        assert answer == ([2.0 ** (number + 1) - 1], number + 1)

    async def send_meanwhile(self, number: int, fault: Callable[[], None]) -> asyncio.Task[None]:
        """A piece within which something happens: its record is read, and not written yet."""
        self.runner.gate.clear()
        self.runner.entered.clear()
        piece = asyncio.create_task(self.send(number))
        await until(self.runner.entered.is_set)
        fault()
        self.runner.gate.set()
        return piece


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.redis_pool.TIMEOUT_S", 0.1)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def run(server: RedisServer, how: str, work: Work) -> None:
    async def all_of_it() -> None:
        runner = FakeRunner()
        async with engine_of(runner) as engine:
            caller = Caller(server, engine, runner, how)
            try:
                await work(caller)
            finally:
                await caller.sessions.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())


@pytest.mark.parametrize("how", NAMING)
def test_flushed_between_pieces_or_within_one_it_is_told(server: RedisServer, how: str) -> None:
    async def work(caller: Caller) -> None:
        for number in range(3):
            await caller.send(number)
        within = await caller.send_meanwhile(3, server.flush)
        with pytest.raises(UnknownSession):
            await within
        for number in (3, 4, 2, 1):
            with pytest.raises(UnknownSession):
                await caller.send(number)
        # Nobody but the caller can say that it begins anew.
        for number in range(3):
            await caller.send(number)

    run(server, how, work)


@pytest.mark.parametrize("how", ["time_step", "key"])
def test_frozen_or_killed_the_same_piece_sent_again_goes_on(
    own_server: RedisServer, how: str
) -> None:
    async def work(caller: Caller) -> None:
        await caller.send(0)
        for number, (harm, mend) in enumerate(
            [
                (own_server.freeze, own_server.thaw),
                (own_server.kill, own_server.start),
            ],
            start=1,
        ):
            within = await caller.send_meanwhile(2 * number - 1, harm)
            for piece in (within, caller.send(2 * number - 1)):
                with pytest.raises(SessionsUnavailable, match="does not answer"):
                    await piece
            mend()
            for again in (2 * number - 1, 2 * number):
                await caller.send(again)
        kept = await caller.sessions.read("a")
        assert kept.record.time_step == 5

    run(own_server, how, work)


@pytest.mark.parametrize("how", ["time_step", "key"])
def test_a_first_piece_whose_write_was_frozen_counts_once(server: RedisServer, how: str) -> None:
    async def work(caller: Caller) -> None:
        within = await caller.send_meanwhile(0, server.freeze)
        with pytest.raises(SessionsUnavailable):
            await within
        server.thaw()
        for number in range(3):
            await caller.send(number)

    run(server, how, work)


def test_a_full_server_takes_no_more_and_loses_nothing(server: RedisServer) -> None:
    async def work(caller: Caller) -> None:
        store = RedisStore(server.url, "tiny", 1000, 60.0)
        for name in "xy":
            assert await store.write(name, large(1), None)
        await caller.send(0)
        server.limit_memory(-200_000)
        for refused in (caller.send(1), store.write("z", large(1), None)):
            with pytest.raises(SessionsUnavailable, match="no memory left; end some"):
                await refused
        kept = await caller.sessions.read("a")
        assert kept.record.time_step == 1
        assert await store.delete("x")
        server.limit_memory(None)
        assert await store.write("z", large(1), None)
        for number in (1, 2):
            await caller.send(number)
        await store.close()

    try:
        run(server, "time_step", work)
    finally:
        server.limit_memory(None)


def test_new_sessions_do_not_fill_a_server_beyond_its_memory(server: RedisServer) -> None:
    async def work(caller: Caller) -> None:
        store = RedisStore(server.url, "tiny", 1000, 60.0)
        server.limit_memory(50_000)
        begun = 0
        with suppress(SessionsUnavailable):
            while begun < 1000:
                await store.write(f"{begun}", large(1), None)
                begun += 1
        assert begun < 50
        await store.close()

    try:
        run(server, "time_step", work)
    finally:
        server.limit_memory(None)


def test_names_of_sessions_that_went_are_forgotten(server: RedisServer) -> None:
    """They would else be counted, or kept for as long as others are begun."""
    now = 1000.0
    store = RedisStore(server.url, "tiny", 2, 0.05, lambda: now)

    async def work(_: Caller) -> None:
        nonlocal now
        for round in range(3):
            for name in ("a", "b"):
                assert await store.write(f"{name}{round}", large(1), None)
            now += 1.0
            await asyncio.sleep(0.06)
        await store.close()

    run(server, "time_step", work)
    with redis.Redis.from_url(server.url) as client:
        assert client.zcard("unroll:{tiny}:sessions") <= 2
