"""The scheduler by itself: no threads, no numbers computed, a clock that stands until it is set."""

import pytest

from app.engine.scheduler import MIN_CHUNK_STEPS
from app.errors import Overloaded
from tests.app.engine.scheduling import make, sequences, take


def test_a_lane_with_nothing_to_do_gets_no_chunk() -> None:
    scheduler = make()
    assert scheduler.next_chunk(0) is None
    assert len(scheduler) == 0


def test_the_oldest_are_admitted_first() -> None:
    scheduler = make(slots=2)
    first, second, third, fourth = line = sequences(4, 4, 4, 4)
    scheduler.add(line[:3])
    scheduler.add(line[3:])
    chunk = take(scheduler)
    assert chunk.sequences == (first, second)
    assert list(scheduler.waiting) == [third, fourth]
    scheduler.advance(chunk)
    assert take(scheduler).sequences == (third, fourth)


def test_a_newcomer_joins_those_who_run() -> None:
    scheduler = make(slots=2, steps=8)
    (long,) = sequences(20)
    scheduler.add([long])
    scheduler.advance(take(scheduler))
    (late,) = sequences(3)
    scheduler.add([late])
    chunk = take(scheduler)
    assert chunk.sequences == (long, late)
    assert (long.cursor, late.cursor) == (8, 0)
    assert chunk.steps == (8, 3)


def test_lanes_are_filled_evenly() -> None:
    scheduler = make(lanes=3, slots=4)
    scheduler.add(sequences(*[5] * 7))
    take(scheduler, 1)
    assert [len(lane) for lane in scheduler.running] == [3, 2, 2]


def test_a_sequence_stays_in_its_lane_and_slot() -> None:
    scheduler = make(lanes=2, slots=1, steps=8)
    left, right = line = sequences(40, 40)
    scheduler.add(line)
    for _ in range(3):
        chunks = [take(scheduler, 0), take(scheduler, 1)]
        assert [chunk.sequences for chunk in chunks] == [(left,), (right,)]
        assert (left.slot, right.slot) == (0, 0)
        for chunk in chunks:
            scheduler.advance(chunk)


def test_slots_are_unique_in_a_lane_and_freed_for_the_next() -> None:
    scheduler = make(slots=3)
    short, long, other, next_one = line = sequences(2, 30, 30, 5)
    scheduler.add(line)
    chunk = take(scheduler)
    held = [sequence.slot for sequence in (short, long, other)]
    assert sorted(held) == [0, 1, 2]  # type: ignore[type-var]  # None would fail here
    scheduler.advance(chunk)
    assert short.slot is None
    take(scheduler)
    assert next_one.slot == held[0]


@pytest.mark.parametrize(
    ("lengths", "max_steps", "expected"),
    [
        # Up to where the first one ends,
        ((12, 30), 16, (12, 12)),
        # but not below what a call is worth: who is shorter gets what is left of it.
        ((2, 30), 16, (2, MIN_CHUNK_STEPS)),
        ((3, 5), 16, (3, 5)),
        # and not beyond the limit, not even for one alone.
        ((500, 30), 16, (16, 16)),
        ((500,), 64, (64,)),
        # A limit below the usual least one holds.
        ((2, 30), 4, (2, 4)),
        ((30,), 1, (1,)),
    ],
)
def test_time_steps_of_a_chunk(
    lengths: tuple[int, ...], max_steps: int, expected: tuple[int, ...]
) -> None:
    scheduler = make(steps=max_steps)
    scheduler.add(sequences(*lengths))
    assert take(scheduler).steps == expected


def test_the_cursor_moves_by_what_was_computed_until_the_end() -> None:
    scheduler = make(steps=10)
    (sequence,) = sequences(25)
    scheduler.add([sequence])
    cursors = []
    while (chunk := scheduler.next_chunk(0)) is not None:
        scheduler.advance(chunk)
        cursors.append(sequence.cursor)
    assert cursors == [10, 20, 25]
    assert sequence.ended
    assert sequence.error is None
    assert scheduler.take_ended() == [sequence]


def test_ended_sequences_are_taken_once() -> None:
    scheduler = make()
    line = sequences(3, 3)
    scheduler.add(line)
    scheduler.advance(take(scheduler))
    assert scheduler.take_ended() == line
    assert scheduler.take_ended() == []
    scheduler.cancel(line)
    assert scheduler.take_ended() == []


def test_a_request_that_does_not_fit_is_refused_whole_until_there_is_room() -> None:
    scheduler = make(slots=1, waiting=3)
    scheduler.add(sequences(5, 5))
    chunk = take(scheduler)
    with pytest.raises(Overloaded, match="2 sequences are waiting or running, the limit is 3"):
        scheduler.add(sequences(5, 5))
    assert len(scheduler) == 2
    scheduler.add(sequences(5))
    with pytest.raises(Overloaded):
        scheduler.add(sequences(5))
    scheduler.advance(chunk)
    scheduler.add(sequences(5))
    assert len(scheduler) == 3


def test_a_lane_cannot_have_two_chunks_nor_return_one_twice() -> None:
    scheduler = make()
    scheduler.add(sequences(30))
    chunk = take(scheduler)
    with pytest.raises(AssertionError, match="this is a bug"):
        scheduler.next_chunk(0)
    scheduler.advance(chunk)
    with pytest.raises(AssertionError, match="this is a bug"):
        scheduler.advance(chunk)


def test_time_steps_in_line_are_bounded_and_come_back() -> None:
    scheduler = make(waiting_steps=10)
    first, second = sequences(6, 4)
    scheduler.add([first, second])
    with pytest.raises(Overloaded, match="10 time steps .* the limit is 10"):
        scheduler.add(sequences(1))
    scheduler.cancel([first])
    scheduler.add(sequences(6))
    with pytest.raises(Overloaded):
        scheduler.check_room(1, 1)
