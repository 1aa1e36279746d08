"""The rules of sessions: where a piece begins, and what is kept after it. They know no store."""

import hashlib
from dataclasses import dataclass

import numpy as np

from app.codec.state_token import StateTokens
from app.errors import Fault, SessionConflict, UnknownSession, quoted
from app.sessions.record import LastPiece, Record

# Idempotency keys that a session remembers.
MAX_KEYS = 32
DIGEST_BYTES = 8


@dataclass(frozen=True)
class SessionRef:
    """How a request names its session.

    Attributes:
        name: of the session.
        time_step: where the caller believes that the piece begins; None if it does not say.
        key: the same for the same piece, whenever it is sent; None if there is none.
        start: whether the session begins anew with this piece, whatever was there.
        must_exist: whether the piece is refused if there is no such session; None for all but a
            first one, which says so by its time step 0 or a state that it brings.
        end: whether it is the last piece.
        pointer: to the session in the request.
    """

    name: str
    time_step: int | None = None
    key: str | None = None
    start: bool = False
    must_exist: bool | None = None
    end: bool = False
    pointer: str = "/session"


@dataclass(frozen=True)
class Piece:
    """The next time steps of a session.

    Attributes:
        ref: names the session.
        inputs: float32 `[T, F]`.
        initial_state: float32 `[sum of H]` that a new session begins from; None for zeros.
    """

    ref: SessionRef
    inputs: np.ndarray
    initial_state: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """Of its numbers, and of the state that it would begin a session from."""
        given = b"" if self.initial_state is None else self.initial_state.tobytes()
        return _digest(self.inputs.tobytes(), key=_digest(given).encode() if given else b"")

    @property
    def key(self) -> str | None:
        """Digest of its idempotency key, if it has one."""
        return None if self.ref.key is None else _digest(self.ref.key.encode())


@dataclass(frozen=True)
class Start:
    """Where a piece begins.

    Attributes:
        time_step: of the session.
        state: float32 `[sum of H]`; None for zeros.
        again: whether the piece is part of the session already; its answer is computed once more.
    """

    time_step: int
    state: np.ndarray | None
    again: bool = False


def start_of(piece: Piece, record: Record | None, tokens: StateTokens) -> Start:
    """Where a piece begins in what is kept of its session.

    Raises:
        UnknownSession: there is no such session, and the piece does not say that it may begin it.
        SessionConflict: the session is elsewhere, or the piece was sent with other numbers or
            another initial state.
        OtherModel: the session belongs to another model or version.
    """
    ref = piece.ref
    if record is None or (ref.start and not _is_again(piece, record)):
        return _first(piece, record)
    # Opened first: if another model or version wrote it, the piece is not computed again either.
    state = tokens.open(record.state, ref.pointer)
    if _is_again(piece, record):
        return _again(piece, record, tokens)
    name = quoted(ref.name)
    if piece.key in record.keys:
        raise conflict(
            ref,
            f"the piece with this key is part of session {name} already, and later ones are too; "
            f"the session is at time step {record.time_step}",
        )
    if ref.time_step not in (None, record.time_step):
        raise conflict(
            ref,
            f"session {name} is at time step {record.time_step}, this piece begins at "
            f"{ref.time_step}",
        )
    if piece.initial_state is not None:
        raise conflict(
            ref,
            f"session {name} has a state already, at time step {record.time_step}; "
            "only a new session can begin from one that is given",
        )
    return Start(record.time_step, state)


def record_after(
    piece: Piece, start: Start, record: Record | None, state: np.ndarray, tokens: StateTokens
) -> Record:
    """What is kept once a piece is computed.

    Args:
        piece: was computed.
        start: where it began.
        record: of the session before.
        state: float32 `[sum of H]` after it.
        tokens: of the model.
    """
    keys, key = record.keys if record is not None and not piece.ref.start else (), piece.key
    if key is not None:
        keys = (*keys, key)[-MAX_KEYS:]
    origin = None if start.state is None else tokens.seal(start.state)
    return Record(
        start.time_step + len(piece.inputs),
        tokens.seal(state),
        LastPiece(start.time_step, origin, piece.digest, key),
        keys,
    )


def _first(piece: Piece, record: Record | None) -> Start:
    ref = piece.ref
    if ref.time_step and piece.initial_state is None:
        raise unknown(ref.name, ref.pointer)
    if record is None and not _may_begin(piece):
        hint = "; a piece that may begin it says so, with time_step 0 or must_exist false"
        raise unknown(ref.name, ref.pointer, hint if ref.must_exist is None else "")
    return Start(ref.time_step or 0, piece.initial_state)


def _may_begin(piece: Piece) -> bool:
    """Whether the caller says that the piece may be the first one.

    A session that has gone leaves nothing behind, so nobody but the caller can know. A name or a
    key alone does not tell: if they began a session, one that has gone would begin anew from zeros.
    """
    if piece.ref.must_exist is None:
        return piece.ref.time_step == 0 or piece.initial_state is not None
    return not piece.ref.must_exist


def _is_again(piece: Piece, record: Record) -> bool:
    """Whether the piece is the last one of the session, sent once more."""
    last = record.last
    if piece.key is not None and last.key is not None:
        return piece.key == last.key
    return piece.ref.time_step == last.time_step != record.time_step


def _again(piece: Piece, record: Record, tokens: StateTokens) -> Start:
    last = record.last
    if piece.digest != last.digest:
        raise conflict(
            piece.ref,
            "a piece with other numbers or another initial state is part of session "
            f"{quoted(piece.ref.name)} already, at time step {last.time_step}; the session is at "
            f"time step {record.time_step}",
        )
    state = None if last.state is None else tokens.open(last.state, piece.ref.pointer)
    return Start(last.time_step, state, again=True)


def unknown(name: str, pointer: str = "", hint: str = "") -> UnknownSession:
    """The error of a session that is not there, with what else there is to say."""
    message = f"it was never begun, was idle for too long, or has been ended{hint}"
    return UnknownSession(Fault(pointer, f"there is no session {quoted(name)}: {message}"))


def conflict(ref: SessionRef, message: str) -> SessionConflict:
    """The error of a piece that does not fit."""
    return SessionConflict(Fault(ref.pointer, message))


def _digest(data: bytes, key: bytes = b"") -> str:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, key=key).hexdigest()
