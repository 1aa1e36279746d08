"""Sessions in a folder that is full: no more begin, but all that are kept go on, end and expire."""

import asyncio
import ctypes
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import SessionsUnavailable
from app.sessions.record import LastPiece, Record
from app.sessions.sqlite import FULL, SqliteStore
from app.stats.shared_stats import SharedStats

TOKEN = "t" * 3000
LIMIT, IDLE_S = 100_000, 60.0
FOLDER_BYTES = 6 << 20


def large(time_step: int) -> Record:
    """A record as of the default model."""
    return Record(time_step, TOKEN, LastPiece(0, TOKEN, ""))


@pytest.fixture
def small_folder(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={FOLDER_BYTES}".encode()
    if libc.mount(b"none", os.fsencode(tmp_path), b"tmpfs", 0, options) != 0:
        pytest.skip(f"nothing can be mounted here: {os.strerror(ctypes.get_errno())}")
    yield tmp_path
    # Once nobody uses it.
    libc.umount2(os.fsencode(tmp_path), 2)


def use_up(folder: Path) -> None:
    """Writes to a file of others until the folder has no space."""
    with (folder / "others").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    assert os.statvfs(folder).f_bavail == 0


class Keeper:
    """Two workers' stores over one folder, and what they should have."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.kept: dict[str, Record] = {}
        self.stores = [
            SqliteStore(folder / "sessions", LIMIT, IDLE_S, lambda: self.now) for _ in range(2)
        ]
        self._names = itertools.count()
        self._chance = random.Random(0)

    @property
    def store(self) -> SqliteStore:
        """One of them."""
        return self._chance.choice(self.stores)

    async def fill(self) -> int:
        """Begins sessions until none more is taken; returns how many are kept."""
        while True:
            name, record = f"{next(self._names)}", large(1)
            try:
                assert await self.store.write(name, record, None)
            except SessionsUnavailable as error:
                if str(error) != FULL:
                    raise
                return len(self.kept)
            self.kept[name] = record

    async def go_on(self) -> None:
        """Writes and reads each session that is kept."""
        for name, record in self.kept.items():
            after = large(record.time_step + 1)
            assert await self.store.write(name, after, record)
            self.kept[name] = after
        for name, record in self.kept.items():
            found = await self.store.read(name)
            assert found is not None
            assert found.record == record

    async def close(self) -> None:
        for store in self.stores:
            await store.close()

    async def end_all(self) -> None:
        for name, record in self.kept.items():
            assert await self.store.delete(name, record)
        self.kept.clear()


def test_in_a_full_folder_sessions_go_on_end_and_make_room(small_folder: Path) -> None:
    async def work() -> None:
        keeper = Keeper(small_folder)
        count = await keeper.fill()
        assert count > 100
        use_up(small_folder)
        for _ in range(3):
            await keeper.go_on()
            await keeper.end_all()
            assert await keeper.fill() >= count - 5
        keeper.now += IDLE_S + 1
        keeper.kept.clear()
        assert await keeper.fill() >= count - 5
        (small_folder / "others").unlink()
        await keeper.end_all()
        assert await keeper.fill() >= count - 5
        await keeper.go_on()
        checked = keeper.store._database.execute("PRAGMA integrity_check")
        assert checked.fetchall() == [("ok",)]
        await keeper.close()

    asyncio.run(work())


def test_a_folder_with_room_again_takes_more_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file system of its own, so that it can be tested everywhere."""

    async def work() -> None:
        keeper = Keeper(tmp_path)
        monkeypatch.setattr(SqliteStore, "_folder_has_space", lambda _: False)
        count = await keeper.fill()
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        for _ in range(3):
            await keeper.go_on()
            await keeper.end_all()
            assert await keeper.fill() >= count - 5
        assert [path.stat().st_size for path in tmp_path.iterdir()] == sizes, "all in its space"
        monkeypatch.undo()
        for _ in range(2 * count):
            name, record = f"more {len(keeper.kept)}", large(1)
            assert await keeper.store.write(name, record, None)
            keeper.kept[name] = record
        await keeper.go_on()
        await keeper.close()

    asyncio.run(work())


def test_counters_that_find_no_space_are_told_at_the_start(small_folder: Path) -> None:
    """Not by the signal that ends a process which writes where a file has no space."""
    (small_folder / "stats").touch()
    use_up(small_folder)
    with pytest.raises(OSError, match="No space left"):
        SharedStats(1, small_folder / "stats")
