"""`SessionStore`: where sessions are kept. All workers and replicas may write at the same time."""

from typing import NamedTuple, Protocol

from app.sessions.record import Record


class StoredSession(NamedTuple):
    """A session as its store has it.

    Attributes:
        record: of the session.
        expires_in_s: seconds until it goes, if nothing comes for it.
    """

    record: Record
    expires_in_s: float


class SessionStore(Protocol):
    """Reads and changes sessions. Each change is done as a whole or not at all.

    Every method raises `SessionsUnavailable` if the store does not answer.
    """

    async def read(self, name: str) -> StoredSession | None:
        """A session; None if there is none, or it was idle for too long."""

    async def write(self, name: str, record: Record, over: Record | None) -> bool:
        """Puts a record in the place of another, if that is still there.

        Args:
            name: of the session.
            record: new.
            over: what the session was; None if there was none.

        Returns:
            False if somebody else has changed it meanwhile; nothing was written.

        Raises:
            TooManySessions: there was none, and no more are kept.
        """

    async def delete(self, name: str, only: Record | None = None) -> bool:
        """Ends a session; whether it was there.

        Args:
            name: of the session.
            only: end it only if it is still this; None for whatever it is.
        """

    async def close(self) -> None:
        """Called at the end."""
