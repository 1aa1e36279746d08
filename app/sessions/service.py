"""`SessionService`: computes pieces of sessions, those of one session one after the other.

In this process the pieces of a session wait in a queue. Other workers and replicas may work on the
same session. So a record is written only over the one that its piece was computed from. If another
is there by then, the piece is computed again from that one. If none is, the piece is refused: it
would begin anew from zeros, and nobody would know. So no lock between processes is held while a
piece is computed, and none can be left behind.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from app.codec.state_token import StateTokens
from app.engine.sequence import Sequence
from app.errors import quoted
from app.sessions.continuation import Piece, Start, conflict, record_after, start_of, unknown
from app.sessions.record import Record
from app.sessions.sqlite import SqliteStore
from app.sessions.store import SessionStore, StoredSession
from app.settings import Settings

# A piece is computed again only after another one was written, so this many attempts are very many.
MAX_ATTEMPTS = 100

MEMORY = "memory://"
FILE = "sessions"

# Computes a piece from where it begins; returns its sequence, complete.
Compute = Callable[[Start], Awaitable[Sequence]]


def open_store(settings: Settings, home: Path | None) -> SessionStore:
    """The store that the settings name.

    Args:
        settings: of the service.
        home: a folder that its workers share; None for sessions of this process alone.
    """
    limit, idle_s = settings.max_sessions, settings.session_idle_s
    if settings.sessions_url == MEMORY:
        return SqliteStore(home / FILE if home else None, limit, idle_s)
    # Loaded only where it is used.
    from app.sessions.redis import RedisStore

    return RedisStore(settings.sessions_url, settings.model, limit, idle_s)


class SessionService:
    """The sessions of an application.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._queues: dict[str, _Queue] = {}

    async def run(
        self, piece: Piece, compute: Compute, tokens: StateTokens
    ) -> tuple[Sequence, int]:
        """Computes a piece and keeps the state after it.

        Args:
            piece: of a session.
            compute: is called for each attempt.
            tokens: of the model.

        Returns:
            The sequence, complete, and the time steps of the session by then.

        Raises:
            UnknownSession: it is not there, or was ended or expired while the piece was computed.
            UnrollError: nothing was kept. After `SessionsUnavailable` it may have been: the same
                piece sent again, with its time step or key, gets the same answer.
        """
        name = piece.ref.name
        async with self._turn(name):
            was_there = False
            for _ in range(MAX_ATTEMPTS):
                kept = await self._store.read(name)
                record = kept.record if kept else None
                if record is None and was_there and not piece.ref.start:
                    raise unknown(name, piece.ref.pointer)
                was_there = was_there or record is not None
                start = start_of(piece, record, tokens)
                sequence = await compute(start)
                assert sequence.state is not None, "it has been computed"
                after = record_after(piece, start, record, sequence.state, tokens)
                if await self._keep(piece, start, record, after):
                    return sequence, after.time_step
        raise conflict(
            piece.ref, f"others wrote to session {quoted(name)} {MAX_ATTEMPTS} times meanwhile"
        )

    async def _keep(self, piece: Piece, start: Start, record: Record | None, after: Record) -> bool:
        """Writes the record after a piece; False if another one was written meanwhile."""
        name = piece.ref.name
        if piece.ref.end:
            return record is None or await self._store.delete(name, record)
        if start.again and record is not None:
            # Its record stays as it is. Only its time to live begins anew.
            await self._store.write(name, record, record)
            return True
        return await self._store.write(name, after, record)

    async def read(self, name: str) -> StoredSession:
        """What is kept of a session.

        Raises:
            UnknownSession: there is none.
        """
        async with self._turn(name):
            kept = await self._store.read(name)
        if kept is None:
            raise unknown(name)
        return kept

    async def delete(self, name: str) -> None:
        """Ends a session after the pieces that came before.

        Raises:
            UnknownSession: there is none.
        """
        async with self._turn(name):
            if not await self._store.delete(name):
                raise unknown(name)

    async def close(self) -> None:
        """Called at the end."""
        await self._store.close()

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """Waits for all that came before to the same session."""
        queue = self._queues.setdefault(name, _Queue())
        queue.members += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.members -= 1
            if queue.members == 0:
                del self._queues[name]


class _Queue:
    """All that wait for a session, and the one that has it.

    asyncio's lock is fair: first come, first served.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.members = 0
