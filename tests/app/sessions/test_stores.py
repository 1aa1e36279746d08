"""The stores of sessions, with the same tests each: a shared file, and a real Redis server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import SessionsUnavailable, TooManySessions
from app.sessions.local import LocalStore
from app.sessions.record import Before, Record
from app.sessions.redis import RedisStore
from app.sessions.store import SessionStore
from tests.redis_server import RedisServer, redis_server

# Makes one more store over the same sessions, as another worker or replica has it.
Make = Callable[..., SessionStore]
BEFORE = Before(0, None, "")


def record(time_step: int = 1) -> Record:
    return Record(time_step, "token", BEFORE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["local", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "local":

        def local(limit: int = 10, idle_s: float = 60.0, **_: Any) -> SessionStore:
            return LocalStore(tmp_path / "sessions", limit, idle_s)

        return local
    server: RedisServer = request.getfixturevalue("server")
    server.flush()

    def on_redis(limit: int = 10, idle_s: float = 60.0, model: str = "tiny") -> SessionStore:
        return RedisStore(server.url, model, limit, idle_s)

    return on_redis


def run(work: Callable[..., Awaitable[None]], *stores: SessionStore) -> None:
    async def all_of_it() -> None:
        try:
            await work(*stores)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(all_of_it())


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


def test_models_do_not_share_sessions_on_redis(server: RedisServer) -> None:
    server.flush()

    async def work(one: SessionStore, other: SessionStore) -> None:
        assert await one.write("a", record(), None)
        assert await other.read("a") is None
        assert await other.write("a", record(), None)

    run(work, *(RedisStore(server.url, model, 1, 60.0) for model in ("one", "other")))


def test_the_same_write_twice_is_one_write_on_redis(server: RedisServer) -> None:
    """The client sends again where no answer came; then the first may have arrived."""
    server.flush()

    async def work(store: SessionStore) -> None:
        first, second = record(1), record(2)
        assert await store.write("a", first, None)
        assert await store.write("a", first, None)
        assert await store.write("a", second, first)
        assert await store.write("a", second, first)

    run(work, RedisStore(server.url, "tiny", 1, 60.0))


def test_a_store_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        store = RedisStore(server.url, "tiny", 10, 60.0)

        async def work(store: SessionStore) -> None:
            written = record()
            assert await store.write("a", written, None)
            server.kill()
            for attempt in (store.read("a"), store.write("a", written, None), store.delete("a")):
                with pytest.raises(SessionsUnavailable, match="does not answer"):
                    await attempt
            server.start()
            kept = await store.read("a")
            assert kept is not None
            assert kept.record == written

        run(work, store)


def test_a_locked_or_lost_file_is_unavailable(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("app.sessions.local.BUSY_S", 0.05)
    one, other = (LocalStore(tmp_path / "sessions", 10, 60.0) for _ in range(2))

    async def work(one: LocalStore, other: LocalStore) -> None:
        one._database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SessionsUnavailable, match="locked"):
            await other.write("a", record(), None)
        one._database.execute("ROLLBACK")
        assert await other.write("a", record(), None)

    run(work, one, other)
