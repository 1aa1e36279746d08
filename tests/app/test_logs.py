"""The log: many lines of a kind are left out, and told."""

import logging

from app.logs import MAX_LINES, PERIOD_S, FewOfAKind


def line(number: int, message: str = "it fails: %d%%", place: int = 1) -> logging.LogRecord:
    return logging.LogRecord("app", logging.ERROR, "a.py", place, message, (number,), None)


def test_many_lines_of_a_place_are_left_out_and_told_later() -> None:
    now = 0.0
    few = FewOfAKind(lambda: now)
    assert [few.filter(line(number)) for number in range(MAX_LINES + 5)].count(True) == MAX_LINES
    other = line(7, place=2)
    assert few.filter(other)
    assert other.getMessage() == "it fails: 7%"
    now = PERIOD_S
    later = line(7)
    assert few.filter(later)
    assert later.getMessage() == "it fails: 7% (5 more lines like this were left out)"
    again = line(8)
    assert few.filter(again)
    assert again.getMessage() == "it fails: 8%"


def test_a_few_lines_are_told_as_they_are() -> None:
    now = 0.0
    few = FewOfAKind(lambda: now)
    for number in range(3 * MAX_LINES):
        now += PERIOD_S / MAX_LINES
        written = line(number)
        assert few.filter(written)
        assert written.getMessage() == f"it fails: {number}%"
