"""How sequences leave the scheduler before their last time step: failed, cancelled, expired."""

from app.errors import Cancelled, Expired, RunFailed, ShuttingDown
from tests.app.engine.scheduling import Clock, make, sequences, take


def test_a_failed_sequence_leaves_with_its_chunk_and_does_not_move() -> None:
    scheduler = make(steps=8)
    bad, good = request = sequences(30, 30)
    scheduler.add(request)
    chunk = take(scheduler)
    bad.error = RunFailed("the kernel failed")
    scheduler.advance(chunk)
    assert scheduler.take_ended() == [bad]
    assert (bad.cursor, bad.status, good.cursor) == (0, "ended", 8)
    assert scheduler.running == 1
    assert take(scheduler).sequences == (good,)


def test_a_sequence_cancelled_while_it_waits_ends_at_once_and_never_runs() -> None:
    scheduler = make(rows=1)
    first, second, third = request = sequences(3, 3, 3)
    scheduler.add(request)
    chunk = take(scheduler)
    scheduler.cancel([second])
    assert scheduler.take_ended() == [second]
    assert isinstance(second.error, Cancelled)
    assert len(scheduler) == 2
    scheduler.advance(chunk)
    assert take(scheduler).sequences == (third,)
    assert first.error is None


def test_a_sequence_cancelled_between_chunks_frees_its_slot_at_once() -> None:
    scheduler = make(rows=1, steps=8)
    first, second = request = sequences(30, 3)
    scheduler.add(request)
    scheduler.advance(take(scheduler))
    scheduler.cancel([first])
    assert scheduler.take_ended() == [first]
    assert first.status == "ended"
    assert take(scheduler).sequences == (second,)


def test_a_sequence_cancelled_in_flight_keeps_its_slot_until_its_chunk_is_back() -> None:
    """The lane still writes into it."""
    scheduler = make(rows=1, steps=8)
    first, second = request = sequences(30, 3)
    scheduler.add(request)
    chunk = take(scheduler)
    scheduler.cancel([first])
    assert scheduler.take_ended() == []
    assert first.status == "in flight"
    assert (scheduler.running, len(scheduler)) == (1, 2)
    assert not scheduler.has_work
    scheduler.advance(chunk)
    assert scheduler.take_ended() == [first]
    assert isinstance(first.error, Cancelled)
    assert first.cursor == 0
    assert take(scheduler).sequences == (second,)


def test_cancelling_again_changes_nothing() -> None:
    scheduler = make()
    (sequence,) = sequences(30)
    scheduler.add([sequence])
    chunk = take(scheduler)
    scheduler.cancel([sequence])
    first = sequence.error
    scheduler.cancel([sequence], ShuttingDown("later"))
    scheduler.advance(chunk)
    assert sequence.error is first
    assert scheduler.take_ended() == [sequence]


def test_cancel_all_ends_all_with_the_error_given() -> None:
    scheduler = make(lanes=2, rows=1, steps=8)
    request = sequences(30, 30, 30, 30)
    scheduler.add(request)
    in_flight = take(scheduler)
    scheduler.cancel_all(ShuttingDown("the service stopped"))
    scheduler.advance(in_flight)
    assert set(scheduler.take_ended()) == set(request)
    assert {type(sequence.error) for sequence in request} == {ShuttingDown}
    assert len(scheduler) == 0


def test_what_waited_too_long_expires_and_the_younger_do_not() -> None:
    clock = Clock()
    scheduler = make(rows=1, steps=8, clock=clock)
    (running,) = sequences(9)
    late = sequences(3, 3, deadline=5.0)
    (young,) = sequences(3, deadline=6.0)
    scheduler.add([running, *late, young])
    scheduler.advance(take(scheduler))
    clock.now = 5.0
    chunk = take(scheduler)
    assert scheduler.take_ended() == late
    assert {type(sequence.error) for sequence in late} == {Expired}
    assert "waiting queue" in str(late[0].error)
    scheduler.advance(chunk)
    assert take(scheduler).sequences == (young,)


def test_a_piece_that_came_later_with_an_earlier_deadline_expires_first() -> None:
    """It has waited for its session before it came here."""
    clock = Clock()
    scheduler = make(rows=1, steps=8, clock=clock)
    (running,), (first,) = sequences(30), sequences(3, deadline=9.0)
    (piece,) = sequences(3, deadline=5.0)
    for sequence in (running, first, piece):
        scheduler.add([sequence])
    scheduler.advance(take(scheduler))
    clock.now = 5.0
    take(scheduler)
    assert scheduler.take_ended() == [piece]
    assert isinstance(piece.error, Expired)


def test_what_runs_too_long_expires_between_two_chunks() -> None:
    clock = Clock()
    scheduler = make(rows=1, steps=8, clock=clock)
    (slow,) = sequences(100, deadline=5.0)
    (next_one,) = sequences(3)
    scheduler.add([slow, next_one])
    chunk = take(scheduler)
    clock.now = 9.0
    scheduler.advance(chunk)
    assert slow.error is None
    assert take(scheduler).sequences == (next_one,)
    assert isinstance(slow.error, Expired)
    assert "last time step" in str(slow.error)
    assert scheduler.take_ended() == [slow]


def test_what_ends_with_its_last_chunk_is_complete_even_if_late() -> None:
    clock = Clock()
    scheduler = make(clock=clock)
    (sequence,) = sequences(3, deadline=5.0)
    scheduler.add([sequence])
    chunk = take(scheduler)
    clock.now = 9.0
    scheduler.advance(chunk)
    assert scheduler.next_chunk() is None
    assert sequence.error is None
