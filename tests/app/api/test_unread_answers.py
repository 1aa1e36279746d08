"""`UnreadAnswers`: whose answer goes when those that nobody reads hold too much."""

import logging
from dataclasses import dataclass, field

import pytest

from app.api.unread_answers import UnreadAnswers

LIMIT = 100


@dataclass(eq=False)
class Reader:
    caller: str
    gone: list[bool] = field(default_factory=list)

    def let_go(self) -> None:
        self.gone.append(True)


def test_who_has_most_loses_what_was_not_read_for_longest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    unread = UnreadAnswers(LIMIT)
    first, second, other = Reader("a"), Reader("a"), Reader("b")
    unread.wait(first, 40)
    unread.wait(second, 40)
    unread.wait(first, 40)  # it has read
    unread.wait(other, 30)
    assert (first.gone, second.gone, other.gone) == ([], [True], [])
    assert unread.held == 70
    assert "the connection of a is cut" in caplog.text


def test_a_newcomer_may_be_larger_than_all_that_there_is_room_for() -> None:
    unread = UnreadAnswers(LIMIT)
    own, other, newcomer = Reader("a"), Reader("b"), Reader("a")
    unread.wait(own, 10)
    unread.wait(other, 10)
    unread.wait(newcomer, 2 * LIMIT)
    assert [bool(reader.gone) for reader in (own, other, newcomer)] == [True, True, False]
    unread.wait(own, 1)
    assert newcomer.gone


def test_what_was_read_leaves_nothing() -> None:
    unread = UnreadAnswers(LIMIT)
    readers = [Reader(name) for name in "aab"]
    for reader in readers:
        unread.wait(reader, 10)
    for reader in readers:
        unread.end(reader)
        unread.end(reader)
    assert unread.held == 0
    assert not any((unread._callers, unread._readers, unread._held_by))
