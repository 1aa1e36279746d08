"""`Sessions`: computes pieces of sessions, those of one session one after the other.

In this process they stand in a line. Other workers and replicas may work on the same session: a
state is written only over the one it was computed from, and who comes too late computes again from
what is there by then. If nothing is, the piece is refused: it would begin anew from zeros, and
nobody would know. So no lock is held while something is computed, and none can be left behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from app.codec.state_token import StateTokens
from app.engine.reservation import Reservation
from app.engine.sequence import Sequence
from app.errors import quoted
from app.sessions.record import Record
from app.sessions.rules import Piece, Start, conflict, record_after, start_of, unknown
from app.sessions.store import Kept, SessionStore

# Each time that a piece comes too late another one was written, so this many are very many.
MAX_ATTEMPTS = 100

Compute = Callable[[Start], Sequence]


class Sessions:
    """The sessions of an application.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._lines: dict[str, _Line] = {}

    async def run(
        self, piece: Piece, compute: Compute, room: Reservation, tokens: StateTokens
    ) -> tuple[Sequence, int]:
        """Computes a piece and keeps the state after it.

        Args:
            piece: of a session.
            compute: makes the sequence that begins at a state.
            room: for the piece, in the engine of the model.
            tokens: of the model.

        Returns:
            The sequence, complete, and the time steps of the session by then.

        Raises:
            UnknownSession: it is not there, or was ended or expired while the piece was computed.
            UnrollError: nothing was kept. After `SessionsUnavailable` it may have been: who sends
                the same piece again, with its time step or key, gets the same answer.
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
                sequence = compute(start)
                await room.submit(sequence)
                assert sequence.state is not None, "it has been computed"
                after = record_after(piece, start, record, sequence.state, tokens)
                if await self._keep(piece, start, record, after):
                    return sequence, after.time_step
        raise conflict(
            piece.ref, f"others wrote to session {quoted(name)} {MAX_ATTEMPTS} times meanwhile"
        )

    async def _keep(self, piece: Piece, start: Start, record: Record | None, after: Record) -> bool:
        """Keeps what is after a piece; whether nobody else was quicker."""
        name = piece.ref.name
        if piece.ref.end:
            return record is None or await self._store.delete(name, record)
        if start.again and record is not None:
            # Not idle: it is there for as long as after any other piece.
            await self._store.write(name, record, record)
            return True
        return await self._store.write(name, after, record)

    async def read(self, name: str) -> Kept:
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
        """Waits for those who came before to the same session."""
        line = self._lines.setdefault(name, _Line())
        line.members += 1
        try:
            async with line.lock:
                yield
        finally:
            line.members -= 1
            if line.members == 0:
                del self._lines[name]


class _Line:
    """Who waits for a session. asyncio's lock is fair: first come, first served."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.members = 0
