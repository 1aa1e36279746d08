"""The rules of sessions: where a piece begins, and what is kept after it. No store, no engine."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codec.state_token import StateTokens
from app.errors import OtherModel, SessionConflict, UnknownSession
from app.sessions.continuation import MAX_KEYS, Piece, SessionRef, Start, record_after, start_of
from app.sessions.record import REVISION_BYTES, LastPiece, Record

TOKENS = StateTokens("tiny", 1, [("gru", 2, ("h",))])
OTHER = StateTokens("tiny", 2, [("gru", 2, ("h",))])
FIRST, SECOND = np.ones((3, 1), np.float32), np.full((2, 1), 2, np.float32)
STATE, LATER = np.array([1, 2], np.float32), np.array([3, 4], np.float32)


def piece(inputs: np.ndarray = FIRST, state: np.ndarray | None = None, **ref: Any) -> Piece:
    """One that may begin its session, unless it says otherwise."""
    return Piece(SessionRef("a", **{"must_exist": False, **ref}), inputs, state)


def after(done: Piece, record: Record | None = None, state: np.ndarray = STATE) -> Record:
    """What is kept once a piece is computed to a state."""
    return record_after(done, start_of(done, record, TOKENS), record, state, TOKENS)


def test_a_first_piece_begins_from_zeros() -> None:
    for first in (piece(), piece(time_step=0), piece(key="k"), piece(start=True)):
        start = start_of(first, None, TOKENS)
        assert (start.time_step, start.state, start.again) == (0, None, False)


def test_a_first_piece_may_begin_from_a_given_state_at_any_time_step() -> None:
    start = start_of(piece(state=STATE, time_step=120), None, TOKENS)
    assert start.time_step == 120
    assert start.state is STATE


def test_a_later_piece_begins_where_the_session_stopped() -> None:
    record = after(piece())
    assert record.time_step == 3
    for later in (piece(SECOND), piece(SECOND, time_step=3), piece(SECOND, key="k")):
        start = start_of(later, record, TOKENS)
        assert (start.time_step, start.again) == (3, False)
        assert start.state is not None
        assert start.state.tolist() == STATE.tolist()


@pytest.mark.parametrize("ref", [{"time_step": 3}, {"key": "second"}])
def test_a_piece_sent_again_begins_where_it_began_before(ref: dict[str, Any]) -> None:
    record = after(piece(SECOND, **ref), after(piece(key="first")), LATER)
    assert record.time_step == 5
    start = start_of(piece(SECOND, **ref), record, TOKENS)
    assert (start.time_step, start.again) == (3, True)
    assert start.state is not None
    assert start.state.tolist() == STATE.tolist()


def test_the_first_piece_sent_again_begins_from_zeros_again() -> None:
    start = start_of(piece(time_step=0), after(piece(time_step=0)), TOKENS)
    assert (start.time_step, start.state, start.again) == (0, None, True)


@pytest.mark.parametrize("ref", [{"time_step": 0}, {"key": "k"}])
def test_other_numbers_in_the_place_of_a_piece_are_refused(ref: dict[str, Any]) -> None:
    record = after(piece(**ref))
    with pytest.raises(SessionConflict, match="other numbers"):
        start_of(piece(FIRST + 1, **ref), record, TOKENS)


@pytest.mark.parametrize("ref", [{"time_step": 0}, {"time_step": 120}, {"key": "k"}])
def test_another_initial_state_in_the_place_of_a_piece_is_refused(ref: dict[str, Any]) -> None:
    record = after(piece(state=STATE, **ref))
    start = start_of(piece(state=STATE.copy(), **ref), record, TOKENS)
    assert start.again
    assert start.state is not None
    assert start.state.tolist() == STATE.tolist()
    for other in (LATER, None):
        with pytest.raises(SessionConflict, match="another initial state"):
            start_of(piece(state=other, **ref), record, TOKENS)


def test_a_later_piece_sent_again_has_no_initial_state_either() -> None:
    record = after(piece(SECOND, time_step=3), after(piece(time_step=0)), LATER)
    with pytest.raises(SessionConflict, match="another initial state"):
        start_of(piece(SECOND, state=STATE, time_step=3), record, TOKENS)


def test_numbers_and_initial_state_are_not_taken_for_each_other() -> None:
    joined = np.concatenate([STATE.reshape(-1, 1), FIRST])
    assert piece(joined).digest != piece(FIRST, STATE).digest


@pytest.mark.parametrize("time_step", [0, 1, 4, 6, 100])
def test_a_piece_from_elsewhere_is_refused_and_both_places_are_named(time_step: int) -> None:
    record = after(piece(SECOND), after(piece()), LATER)
    with pytest.raises(SessionConflict, match=f"time step 5, .* {time_step}$"):
        start_of(piece(time_step=time_step), record, TOKENS)


def test_an_older_piece_with_a_key_is_refused_while_the_key_is_remembered() -> None:
    record = after(piece(key="first"))
    for number in range(MAX_KEYS - 1):
        record = after(piece(SECOND, key=str(number)), record)
    with pytest.raises(SessionConflict, match="part of session 'a' already"):
        start_of(piece(key="first"), record, TOKENS)
    record = after(piece(SECOND, key="one more"), record)
    assert len(record.keys) == MAX_KEYS


def test_a_piece_with_a_key_is_not_the_piece_without_one_that_came_after_it() -> None:
    record = after(piece(SECOND), after(piece(key="k")), LATER)
    with pytest.raises(SessionConflict, match="with this key is part of session 'a' already"):
        start_of(piece(key="k"), record, TOKENS)


def test_there_is_nothing_to_continue_where_no_session_is() -> None:
    with pytest.raises(UnknownSession, match="'a'"):
        start_of(piece(must_exist=None, time_step=3), None, TOKENS)


@pytest.mark.parametrize("first", [{"time_step": 0}, {"time_step": 0, "key": "k"}])
def test_a_piece_that_says_that_it_is_the_first_begins_a_session(first: dict[str, Any]) -> None:
    assert start_of(piece(must_exist=None, **first), None, TOKENS) == Start(0, None)


@pytest.mark.parametrize("ref", [{}, {"key": "k"}])
def test_a_piece_that_brings_a_state_begins_a_session(ref: dict[str, Any]) -> None:
    assert start_of(piece(state=STATE, must_exist=None, **ref), None, TOKENS).state is STATE


@pytest.mark.parametrize("ref", [{}, {"key": "k"}])
def test_a_name_or_a_key_alone_begins_no_session_since_one_may_have_gone(
    ref: dict[str, Any],
) -> None:
    with pytest.raises(UnknownSession, match="says so, with time_step 0 or must_exist false"):
        start_of(piece(must_exist=None, **ref), None, TOKENS)


@pytest.mark.parametrize("state", [None, STATE])
@pytest.mark.parametrize("ref", [{}, {"key": "k"}, {"time_step": 0}, {"time_step": 3}])
def test_what_must_exist_begins_no_session_whatever_else_is_said(
    ref: dict[str, Any], state: np.ndarray | None
) -> None:
    with pytest.raises(UnknownSession, match="'a'"):
        start_of(piece(state=state, must_exist=True, **ref), None, TOKENS)


def test_a_later_place_is_no_beginning_though_the_session_need_not_exist() -> None:
    with pytest.raises(UnknownSession, match="'a'"):
        start_of(piece(must_exist=False, time_step=3), None, TOKENS)


def test_a_session_that_is_there_takes_no_other_state() -> None:
    with pytest.raises(SessionConflict, match="time step 3; only a new session"):
        start_of(piece(SECOND, state=LATER), after(piece()), TOKENS)


def test_a_start_forgets_what_was_there() -> None:
    record = after(piece(key="k"))
    start = start_of(piece(SECOND, start=True), record, TOKENS)
    assert (start.time_step, start.state) == (0, None)
    assert after(piece(SECOND, start=True), record).keys == ()


def test_a_session_of_another_version_is_refused() -> None:
    record = after(piece())
    with pytest.raises(OtherModel, match="version 1, but .* version 2"):
        start_of(piece(SECOND), record, OTHER)


@pytest.mark.parametrize("ref", [{"time_step": 0}, {"key": "k"}])
def test_a_piece_is_not_computed_again_by_another_version(ref: dict[str, Any]) -> None:
    """The first one neither, though it began from zeros."""
    record = after(piece(**ref))
    with pytest.raises(OtherModel, match="version 1, but .* version 2"):
        start_of(piece(**ref), record, OTHER)


@given(
    st.integers(0, 2**60),
    st.text(),
    st.builds(LastPiece, st.integers(0, 2**60), st.none() | st.text(), st.text()),
    st.lists(st.text(), max_size=3).map(tuple),
)
def test_a_record_is_read_back_as_it_was(
    time_step: int, state: str, last: LastPiece, keys: tuple[str, ...]
) -> None:
    record = Record(time_step, state, last, keys)
    assert len(record.revision) == REVISION_BYTES
    assert Record.from_bytes(record.to_bytes()) == record
