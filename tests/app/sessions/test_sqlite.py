"""Sessions in a file that workers share, where that file is not as it should be."""

import asyncio
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from app.errors import SessionsUnavailable, TooManySessions
from app.sessions.sqlite import EXPIRED_AT_ONCE, SqliteStore
from tests.app.sessions.storing import record, run

WORKERS = 8


def test_a_locked_or_lost_file_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.sqlite.BUSY_S", 0.05)
    one, other = (SqliteStore(tmp_path / "sessions", 10, 60.0) for _ in range(2))

    async def work(one: SqliteStore, other: SqliteStore) -> None:
        one._database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SessionsUnavailable, match="locked"):
            await other.write("a", record(), None)
        one._database.execute("ROLLBACK")
        assert await other.write("a", record(), None)

    run(work, one, other)


def open_and_write(path: Path, worker: int) -> int:
    """As a worker does that starts; returns how many of its sessions it finds again."""

    async def work() -> int:
        store = SqliteStore(path, 1000, 60.0)
        names = [f"{worker}/{number}" for number in range(20)]
        for name in names:
            assert await store.write(name, record(), None)
        return sum([await store.read(name) is not None for name in names])

    return asyncio.run(work())


@pytest.mark.long
def test_workers_that_start_together_share_one_file(tmp_path: Path) -> None:
    for attempt in range(5):
        path = tmp_path / f"sessions {attempt}"
        with ProcessPoolExecutor(WORKERS, get_context("fork")) as pool:
            assert sum(pool.map(open_and_write, [path] * WORKERS, range(WORKERS))) == WORKERS * 20


def test_the_limit_counts_what_is_there_whatever_came_and_went() -> None:
    now = 0.0
    store = SqliteStore(None, 3, 10.0, lambda: now)

    async def work(store: SqliteStore) -> None:
        nonlocal now
        for name in "abc":
            assert await store.write(name, record(), None)
            assert not await store.write(name, record(), None), "it is there already"
        with pytest.raises(TooManySessions):
            await store.write("d", record(), None)
        assert await store.delete("b")
        assert await store.write("d", record(), None)
        now = 11.0
        for name in "efg":
            assert await store.write(name, record(), None)
        with pytest.raises(TooManySessions):
            await store.write("h", record(), None)

    run(work, store)


def test_many_that_expired_together_go_a_few_at_a_time() -> None:
    """Else the first who comes after them holds up the event loop, and the other workers."""
    now, limit = 0.0, 5 * EXPIRED_AT_ONCE
    store = SqliteStore(None, limit, 10.0, lambda: now)

    def total() -> int:
        return int(store._database.execute("SELECT count FROM total").fetchone()[0])

    async def work(store: SqliteStore) -> None:
        nonlocal now
        names = [f"{number:06}" for number in range(limit)]
        for name in names:
            assert await store.write(name, record(), None)
        now = 11.0
        # The one that would go last is not there for whoever begins it anew.
        assert await store.write(names[-1], record(), None)
        assert await store.read(names[-1]) is not None
        assert limit - EXPIRED_AT_ONCE <= total() < limit
        for number in range(limit - 1):
            assert await store.write(f"new {number}", record(), None)
        assert total() == limit
        with pytest.raises(TooManySessions):
            await store.write("one more", record(), None)

    run(work, store)


@pytest.mark.parametrize("foreign", [b"", b"x", b"12345678", b"12345678[]", b"12345678{}", "text"])
def test_what_somebody_else_wrote_is_no_session(tmp_path: Path, foreign: object) -> None:
    store = SqliteStore(tmp_path / "sessions", 10, 60.0)
    with sqlite3.connect(tmp_path / "sessions") as other:
        other.execute("INSERT INTO sessions VALUES ('a', ?, 1e12)", (foreign,))

    async def work(store: SqliteStore) -> None:
        with pytest.raises(SessionsUnavailable):
            await store.read("a")

    run(work, store)


def test_a_file_that_is_damaged_is_unavailable(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions", 10, 60.0)

    async def work(store: SqliteStore) -> None:
        for name in "abc":
            assert await store.write(name, record(), None)
        for file in tmp_path.glob("sessions*"):
            file.write_bytes(b"\xff" * file.stat().st_size)
        for attempt in (store.read("a"), store.write("d", record(), None), store.delete("a")):
            with pytest.raises(SessionsUnavailable, match="cannot be read or written"):
                await attempt

    run(work, store)


def test_a_step_of_the_wall_clock_ends_no_session() -> None:
    """The end of a session is a time on the clock that all processes have and nobody sets."""
    store = SqliteStore(None, 9, 60.0)
    assert asyncio.run(store.write("a", record(), None))
    (expires,) = store._database.execute("SELECT expires FROM sessions").fetchone()
    assert time.monotonic() < expires <= time.monotonic() + 60.0
