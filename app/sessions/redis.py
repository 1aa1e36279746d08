"""`RedisStore`: sessions that several replicas of the service share, on a Redis server."""

import secrets
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import SessionsUnavailable, TooManySessions
from app.redis_pool import connection_pool
from app.sessions.record import REVISION_BYTES, NoRecord, Record
from app.sessions.store import SessionStore, StoredSession

# uvloop raises a `RuntimeError` where a connection has broken, asyncio an `OSError`. The last two
# come of an answer that is none.
FAILURES = (RedisError, OSError, RuntimeError, ValueError, TypeError)

# In the errors of a server with no memory left, in those of scripts too.
OUT_OF_MEMORY = "command not allowed when used memory > 'maxmemory'"

# A command whose connection breaks is sent again, within less than this.
RESEND_MS = 20_000
MARK_BYTES = 8

# Keys: the session, and the names of all sessions by when they expire. A write that is sent again,
# since no answer came, finds its own revision and is done. What needs memory is the first change: a
# server that has none left refuses no change of a script that has made one.
WRITE = f"""
local found = redis.call('GET', KEYS[1])
local revision = found and string.sub(found, 1, {REVISION_BYTES}) or ''
if revision ~= ARGV[1] then
  return revision == string.sub(ARGV[2], 1, {REVISION_BYTES}) and 1 or 0
end
if not found and redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[4], '+inf') >= tonumber(ARGV[6]) then
  return -1
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4] + ARGV[3], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if not found then redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4]) end
return 1
"""

# A delete leaves a mark. If it is sent again, it finds the mark and is done.
DELETE = f"""
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
local found = redis.call('GET', KEYS[1])
if not found then return 0 end
if ARGV[1] ~= '' and string.sub(found, 1, {REVISION_BYTES}) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], '', 'PX', {RESEND_MS})
return 1
"""


class RedisStore(SessionStore):
    """See the module.

    Args:
        url: as `connection_pool` takes it.
        model: name of the model that is served; others may share the server.
        limit: most sessions.
        idle_s: seconds until an idle session goes.
        clock: seconds, about the same on all replicas.
    """

    def __init__(
        self,
        url: str,
        model: str,
        limit: int,
        idle_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = Redis.from_pool(connection_pool(url))
        self._limit = limit
        self._idle_ms = int(idle_s * 1000)
        self._clock = clock
        # A hash tag: a proxy that shards by key keeps all keys of a model together.
        self._prefix = f"unroll:{{{model}}}:session:"
        self._names = f"unroll:{{{model}}}:sessions"
        self._ended = f"unroll:{{{model}}}:ended:"
        self._write = self._redis.register_script(WRITE)
        self._delete = self._redis.register_script(DELETE)

    async def read(self, name: str) -> StoredSession | None:
        """As `SessionStore`."""
        key = self._prefix + name
        try:
            # Not as a transaction: a server that has no memory left refuses all of them.
            async with self._redis.pipeline(transaction=False) as both:
                both.get(key)
                both.pttl(key)
                data, left_ms = await both.execute()
                left_s = max(int(left_ms), 0) / 1000
        except FAILURES as error:
            raise _unavailable(error) from error
        if data is None:
            return None
        try:
            return StoredSession(Record.from_bytes(data), left_s)
        except NoRecord as error:
            raise SessionsUnavailable(f"what is kept at {key!r:.120} is no session") from error

    async def write(self, name: str, record: Record, over: Record | None) -> bool:
        """As `SessionStore`."""
        now_ms = int(self._clock() * 1000)
        revision = over.revision if over else b""
        values = (revision, record.to_bytes(), self._idle_ms, now_ms, name, self._limit)
        try:
            done = int(await self._write(keys=[self._prefix + name, self._names], args=values))
        except FAILURES as error:
            raise _unavailable(error) from error
        if done < 0:
            raise TooManySessions.at(self._limit)
        return bool(done)

    async def delete(self, name: str, only: Record | None = None) -> bool:
        """As `SessionStore`."""
        keys = (self._prefix + name, self._names, self._ended + secrets.token_hex(MARK_BYTES))
        values = (only.revision if only else b"", name)
        try:
            done = await self._delete(keys=keys, args=values)
        except FAILURES as error:
            raise _unavailable(error) from error
        return bool(done)

    async def close(self) -> None:
        """As `SessionStore`."""
        await self._redis.aclose()


def _unavailable(error: Exception) -> SessionsUnavailable:
    if OUT_OF_MEMORY in str(error):
        text = "the sessions' store has no memory left; end some, or wait until idle ones go"
        return SessionsUnavailable(text)
    return SessionsUnavailable(f"the sessions' store does not answer: {type(error).__name__}")
