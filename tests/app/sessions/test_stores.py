"""The stores of sessions, with the same tests each: a shared file, and a real Redis server."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import TooManySessions
from app.sessions.redis import RedisStore
from app.sessions.sqlite import SqliteStore
from app.sessions.store import SessionStore
from tests.app.sessions.storing import record, run
from tests.support.redis_server import RedisServer

# Makes one more store over the same sessions, as another worker or replica has it.
Make = Callable[..., SessionStore]


@pytest.fixture(params=["local", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "local":

        def local(limit: int = 10, idle_s: float = 60.0, **_: Any) -> SessionStore:
            return SqliteStore(tmp_path / "sessions", limit, idle_s)

        return local
    server: RedisServer = request.getfixturevalue("server")

    def on_redis(limit: int = 10, idle_s: float = 60.0, model: str = "tiny") -> SessionStore:
        return RedisStore(server.url, model, limit, idle_s)

    return on_redis


def test_what_one_writes_the_other_reads(make: Make) -> None:
    async def work(one: SessionStore, other: SessionStore) -> None:
        assert await other.read("a") is None
        written = record()
        assert await one.write("a", written, None)
        kept = await other.read("a")
        assert kept is not None
        assert kept.record == written
        assert 0 < kept.expires_in_s <= 60
        assert await other.read("b") is None

    run(work, make(), make())


def test_a_record_is_written_only_over_the_one_that_was_read(make: Make) -> None:
    async def work(one: SessionStore, other: SessionStore) -> None:
        first, second, third = record(1), record(2), record(3)
        assert await one.write("a", first, None)
        assert not await other.write("a", second, None), "there is one already"
        assert await other.write("a", second, first)
        assert not await one.write("a", third, first), "another came first"
        kept = await one.read("a")
        assert kept is not None
        assert kept.record == second

    run(work, make(), make())


def test_an_ended_session_is_not_written_over(make: Make) -> None:
    async def work(one: SessionStore, other: SessionStore) -> None:
        first, second = record(1), record(2)
        assert await one.write("a", first, None)
        assert not await other.delete("a", second), "it is not this one"
        assert await other.delete("a", first)
        assert not await other.delete("a")
        assert not await one.write("a", second, first)
        assert await one.read("a") is None
        assert await one.write("a", second, None)
        assert await one.delete("a")

    run(work, make(), make())


def test_of_many_who_write_at_once_each_round_has_one_winner(make: Make) -> None:
    async def work(*stores: SessionStore) -> None:
        over = None
        for number in range(5):
            records = [record(number) for _ in stores]
            tries = zip(stores, records, strict=True)
            won = await asyncio.gather(*(s.write("a", made, over) for s, made in tries))
            assert sum(won) == 1
            over = records[won.index(True)]

    run(work, *(make() for _ in range(6)))


@pytest.mark.long
def test_idle_sessions_go_and_make_room(make: Make) -> None:
    async def work(store: SessionStore) -> None:
        old = record()
        assert await store.write("a", old, None)
        assert await store.write("b", record(), None)
        with pytest.raises(TooManySessions, match="^2 sessions are kept"):
            await store.write("c", record(), None)
        # Those that are there go on.
        over, until = old, asyncio.get_running_loop().time() + 0.6
        while asyncio.get_running_loop().time() < until:
            after = record()
            assert await store.write("a", after, over), "it was never idle"
            over = after
            await asyncio.sleep(0.02)
        assert await store.read("b") is None
        assert not await store.delete("b")
        assert await store.write("c", record(), None)
        await asyncio.sleep(0.6)
        assert await store.read("a") is None
        assert not await store.write("a", record(), over)

    run(work, make(limit=2, idle_s=0.5))


def test_an_ended_session_makes_room(make: Make) -> None:
    async def work(store: SessionStore) -> None:
        for _ in range(3):
            assert await store.write("a", record(), None)
            with pytest.raises(TooManySessions):
                await store.write("b", record(), None)
            assert await store.delete("a")

    run(work, make(limit=1))


def test_any_name_is_a_name(make: Make) -> None:
    names = ["a", "A", "a b", "ü/{}:*", "0", "x" * 256, "'; DROP TABLE sessions; --"]

    async def work(store: SessionStore) -> None:
        for number, name in enumerate(names):
            assert await store.write(name, record(number), None)
        for number, name in enumerate(names):
            kept = await store.read(name)
            assert kept is not None
            assert kept.record.time_step == number

    run(work, make())


def test_a_record_written_over_itself_stays_for_longer(make: Make) -> None:
    async def work(store: SessionStore) -> None:
        written = record()
        assert await store.write("a", written, None)
        await asyncio.sleep(0.05)
        before = await store.read("a")
        assert await store.write("a", written, written)
        after = await store.read("a")
        assert before is not None
        assert after is not None
        assert after.expires_in_s > before.expires_in_s

    run(work, make())
