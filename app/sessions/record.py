"""`Record`: what a store keeps of a session, and its form as bytes."""

import secrets
from dataclasses import dataclass, field

import orjson
from pydantic import TypeAdapter

REVISION_BYTES = 8


class NoRecord(ValueError):
    """The bytes cannot be read as a record."""


@dataclass(frozen=True)
class LastPiece:
    """The last piece of a session: where it began, in case that it is sent again.

    Attributes:
        time_step: of the session before the piece.
        state: token of its state then; None for zeros.
        digest: of the piece's numbers, and of the initial state that it came with.
        key: digest of its idempotency key; None if it had none.
    """

    time_step: int
    state: str | None
    digest: str
    key: str | None = None


@dataclass(frozen=True)
class Record:
    """A session between two pieces.

    Attributes:
        time_step: time steps so far: the next piece begins there.
        state: token of its state.
        last: the piece that led here.
        keys: digests of the last idempotency keys, oldest first.
        revision: another one for each record ever written, of `REVISION_BYTES`.
    """

    time_step: int
    state: str
    last: LastPiece
    keys: tuple[str, ...] = ()
    revision: bytes = field(default_factory=lambda: secrets.token_bytes(REVISION_BYTES))

    def to_bytes(self) -> bytes:
        """As stores keep it: the revision, then JSON."""
        return self.revision + orjson.dumps(
            {
                "time_step": self.time_step,
                "state": self.state,
                # As records in Redis have it: they outlive a version of the service.
                "before": self.last,
                "keys": self.keys,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Reads it back; raises `NoRecord` if somebody else wrote it."""
        try:
            kept = KEPT.validate_json(data[REVISION_BYTES:], strict=True)
        except (ValueError, TypeError) as error:
            raise NoRecord(str(error)) from None
        revision = data[:REVISION_BYTES]
        return cls(kept.time_step, kept.state, kept.before, tuple(kept.keys), revision)


@dataclass(frozen=True)
class _Kept:
    """The fields of a record's JSON."""

    time_step: int
    state: str
    before: LastPiece
    keys: list[str]


KEPT = TypeAdapter(_Kept)
