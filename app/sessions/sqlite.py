"""`SqliteStore`: sessions of one service on one machine, in a file that its workers share.

SQLite keeps it whole, whatever worker dies when. The file is in the service's temporary folder and
never flushed to disk: sessions end with the service.

A folder that is full takes no more sessions, but those that are kept go on, end and expire, in the
space that the file has: it grows by whole chunks, each of them written before it is used, and
SQLite may not make it larger by itself (`max_page_count`). A change is written to the log first,
which is written over again and again and is as long as a chunk.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from app.errors import SessionsUnavailable, TooManySessions
from app.sessions.record import REVISION_BYTES, NoRecord, Record
from app.sessions.store import SessionStore, StoredSession

# A change takes some 50 us. It may wait so long for those of other workers: the event loop stands
# still meanwhile.
BUSY_S = 0.1
# The same when the file is opened, before there is an event loop.
OPENING_S = 10.0

# A new session deletes at most so many expired ones. If it deleted all of them, it might take long.
EXPIRED_AT_ONCE = 100

# What the file grows by, 1 MiB, which takes about 2 ms, and pages that the log holds until they are
# copied into the file: with those of a change more, it is no longer than a chunk.
PAGE_BYTES = 4096
CHUNK_PAGES = 256
LOG_PAGES = CHUNK_PAGES // 2
# Chunks that are free in the folder where the file grows: one for it, one for its log.
FREE_CHUNKS = 2
# Pages that a new session leaves free besides those of one more: SQLite writes a record before it
# frees the pages of the one in whose place it comes.
SPARE_PAGES = 16
FULL = "the folder of the sessions is full; end some, or wait until idle ones go"

FAILURES = (sqlite3.DatabaseError, NoRecord)

T = TypeVar("T")

# The table `total` has the number of sessions: SQLite would walk through all of them to count them.
SCHEMA = f"""
PRAGMA page_size={PAGE_BYTES};
PRAGMA journal_mode=WAL;
PRAGMA synchronous=OFF;
PRAGMA temp_store=MEMORY;
PRAGMA wal_autocheckpoint={LOG_PAGES};
CREATE TABLE IF NOT EXISTS growth (pages BLOB);
CREATE TABLE IF NOT EXISTS sessions
    (name TEXT PRIMARY KEY, record BLOB, expires REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_expiry ON sessions (expires);
CREATE TABLE IF NOT EXISTS total (count INTEGER);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS one_more AFTER INSERT ON sessions
    BEGIN UPDATE total SET count = count + 1; END;
CREATE TRIGGER IF NOT EXISTS one_less AFTER DELETE ON sessions
    BEGIN UPDATE total SET count = count - 1; END;
"""


class SqliteStore(SessionStore):
    """See the module.

    Args:
        path: of the file; None for sessions of this process alone.
        limit: most sessions.
        idle_s: seconds until an idle session goes.
        clock: seconds; the same in all processes. A step of the wall clock would end all sessions.
    """

    def __init__(
        self,
        path: Path | None,
        limit: int,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._clock = clock
        self._folder = path.parent if path else None
        self._pages = 0
        name = str(path) if path else ":memory:"
        # With no isolation level each statement is a transaction, unless one is begun.
        self._database = sqlite3.connect(name, timeout=OPENING_S, isolation_level=None)
        # SQLite does not wait for another process that makes the same file.
        with _alone(path):
            self._database.executescript(SCHEMA)
            self._pages = self._may_have(1)
            if self._free_pages() < SPARE_PAGES:
                self._add_chunk()
        self._database.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")

    async def read(self, name: str) -> StoredSession | None:
        """As `SessionStore`."""
        now = self._clock()
        query = "SELECT record, expires FROM sessions WHERE name = ? AND expires > ?"
        try:
            row = self._database.execute(query, (name, now)).fetchone()
            return StoredSession(Record.from_bytes(row[0]), row[1] - now) if row else None
        except FAILURES as error:
            raise _unavailable(error) from error

    async def write(self, name: str, record: Record, over: Record | None) -> bool:
        """As `SessionStore`."""
        now = self._clock()
        data, expires = record.to_bytes(), now + self._idle_s
        try:
            if over is None:
                self._delete_expired(name, now)
                self._make_room(len(data))
                return self._growing(lambda: self._begin(name, data, expires))
            change = (
                "UPDATE sessions SET record = ?, expires = ? "
                "WHERE name = ? AND expires > ? AND substr(record, 1, ?) = ?"
            )
            values = (data, expires, name, now, REVISION_BYTES, over.revision)
            return self._growing(lambda: self._database.execute(change, values).rowcount == 1)
        except FAILURES as error:
            raise _unavailable(error) from error

    async def delete(self, name: str, only: Record | None = None) -> bool:
        """As `SessionStore`."""
        change = "DELETE FROM sessions WHERE name = ? AND expires > ?"
        values: list[object] = [name, self._clock()]
        if only is not None:
            change += " AND substr(record, 1, ?) = ?"
            values += [REVISION_BYTES, only.revision]
        try:
            return self._database.execute(change, values).rowcount == 1
        except FAILURES as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """As `SessionStore`."""
        self._database.close()

    def _begin(self, name: str, data: bytes, expires: float) -> bool:
        """Keeps a new session; False if there is one of this name."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            (count,) = self._database.execute("SELECT count FROM total").fetchone()
            if count >= self._limit and not self._has(name):
                raise TooManySessions.at(self._limit)
            begin = "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?)"
            return self._database.execute(begin, (name, data, expires)).rowcount == 1

    def _delete_expired(self, name: str, now: float) -> None:
        """Deletes some that have expired, and the one of this name if it has.

        Not along with what begins the new session: where that finds no space, they are gone.
        """
        some = (
            "DELETE FROM sessions WHERE name IN "
            "(SELECT name FROM sessions WHERE expires <= ? ORDER BY expires LIMIT ?)"
        )
        self._database.execute(some, (now, EXPIRED_AT_ONCE))
        own = "DELETE FROM sessions WHERE name = ? AND expires <= ?"
        self._database.execute(own, (name, now))

    def _make_room(self, size: int) -> None:
        """Makes the file larger if a record of so many bytes would leave too little for others."""
        needed = 2 * (size // PAGE_BYTES + 1) + SPARE_PAGES
        while self._free_pages() < needed:
            if not self._grow():
                raise SessionsUnavailable(FULL)

    def _free_pages(self) -> int:
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        return int(free)

    def _growing(self, change: Callable[[], T]) -> T:
        """Makes a change, and the file larger if there is no room in it."""
        while True:
            try:
                return change()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._grow():
                    raise

    def _grow(self) -> bool:
        """Makes the file larger, unless another worker has; whether a change is worth a retry."""
        return self._has_grown() or (self._add_chunk() and self._has_grown())

    def _add_chunk(self) -> bool:
        """Adds a chunk to the file; False if there is no space for it."""
        last = self._last_chunk()
        if last is None:
            if not self._folder_has_space():
                return False
            self._may_have(self._pages + 2 * CHUNK_PAGES)
            size = CHUNK_PAGES * PAGE_BYTES
            try:
                self._database.execute("INSERT INTO growth VALUES (zeroblob(?))", (size,))
            finally:
                self._may_have(1)
            last = self._last_chunk()
        # Its pages may be used once they are in the file, not in its log alone.
        busy, logged, copied = self._database.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy or logged != copied:
            return False
        self._database.execute("DELETE FROM growth WHERE rowid <= ?", (last,))
        return True

    def _last_chunk(self) -> int | None:
        """A chunk that is not in the file yet, this process's or another one's."""
        (last,) = self._database.execute("SELECT max(rowid) FROM growth").fetchone()
        return None if last is None else int(last)

    def _folder_has_space(self) -> bool:
        if self._folder is None:
            return True
        folder = os.statvfs(self._folder)
        return folder.f_bavail * folder.f_frsize >= FREE_CHUNKS * CHUNK_PAGES * PAGE_BYTES

    def _has_grown(self) -> bool:
        """Whether the file has more pages than this process knew of."""
        known, self._pages = self._pages, self._may_have(1)
        return self._pages > known

    def _may_have(self, pages: int) -> int:
        """Lets the file have so many pages, or those that it has; returns how many."""
        (most,) = self._database.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        return int(most)

    def _has(self, name: str) -> bool:
        query = "SELECT 1 FROM sessions WHERE name = ?"
        return self._database.execute(query, (name,)).fetchone() is not None


@contextmanager
def _alone(path: Path | None) -> Iterator[None]:
    """Keeps other processes out that would make the same file."""
    if path is None:
        yield
        return
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unavailable(error: Exception) -> SessionsUnavailable:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return SessionsUnavailable(FULL)
    return SessionsUnavailable(f"sessions cannot be read or written: {error}")
