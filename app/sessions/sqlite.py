"""`SqliteStore`: sessions of one service on one machine, in a file that its workers share.

SQLite keeps it whole, whatever worker dies when. The file is in the service's temporary folder and
never flushed to disk: sessions end with the service.
"""

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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

FAILURES = (sqlite3.DatabaseError, NoRecord)

# The table `total` has the number of sessions: SQLite would walk through all of them to count them.
SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=OFF;
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
        clock: seconds; the same in all processes.
    """

    def __init__(
        self,
        path: Path | None,
        limit: int,
        idle_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._clock = clock
        name = str(path) if path else ":memory:"
        # With no isolation level each statement is a transaction, unless one is begun.
        self._database = sqlite3.connect(name, timeout=OPENING_S, isolation_level=None)
        # SQLite does not wait for another process that makes the same file.
        with _alone(path):
            self._database.executescript(SCHEMA)
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
            if over is not None:
                change = (
                    "UPDATE sessions SET record = ?, expires = ? "
                    "WHERE name = ? AND expires > ? AND substr(record, 1, ?) = ?"
                )
                values = (data, expires, name, now, REVISION_BYTES, over.revision)
                return self._database.execute(change, values).rowcount == 1
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._delete_expired(name, now)
                (count,) = self._database.execute("SELECT count FROM total").fetchone()
                if count >= self._limit and not self._has(name):
                    raise TooManySessions.at(self._limit)
                begin = "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?)"
                return self._database.execute(begin, (name, data, expires)).rowcount == 1
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

    def _delete_expired(self, name: str, now: float) -> None:
        """Deletes some that have expired, and the one of this name if it has."""
        some = (
            "DELETE FROM sessions WHERE name IN "
            "(SELECT name FROM sessions WHERE expires <= ? ORDER BY expires LIMIT ?)"
        )
        self._database.execute(some, (now, EXPIRED_AT_ONCE))
        own = "DELETE FROM sessions WHERE name = ? AND expires <= ?"
        self._database.execute(own, (name, now))

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
    return SessionsUnavailable(f"sessions cannot be read or written: {error}")
