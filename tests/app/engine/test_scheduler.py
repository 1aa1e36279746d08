"""The scheduler by itself: no threads, no numbers computed, a clock that stands until it is set."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.cost_model import AMPLE, MIN_STEPS, QUANTUM_S, TYPICAL_STEPS, Cost
from app.engine.scheduler import LISTENED_STEPS, LONG_CHUNKS, LONG_STEPS, TURNS
from app.errors import Overloaded
from tests.app.engine.scheduling import FREE_CALLS, Clock, make, sequences, take

DEAR_CALLS = Cost(call_s=1.0, time_step_s=1e-6, row_step_s=1e-6)


def test_a_lane_with_nothing_to_do_gets_no_chunk() -> None:
    scheduler = make()
    assert scheduler.next_chunk() is None
    assert len(scheduler) == 0
    assert not scheduler.has_work


def test_there_is_work_for_a_free_lane_while_somebody_is_ready_or_has_room_to_be() -> None:
    scheduler = make(lanes=3, rows=1, slots=2)
    scheduler.add(sequences(3, 3, 3))
    assert scheduler.has_work
    first = take(scheduler)
    assert scheduler.has_work
    take(scheduler)
    assert not scheduler.has_work, "the third has no slot"
    assert scheduler.next_chunk() is None
    scheduler.advance(first)
    assert scheduler.has_work


def test_there_is_no_work_where_no_lane_is_free() -> None:
    scheduler = make(rows=1, slots=2)
    scheduler.add(sequences(3, 3))
    chunk = take(scheduler)
    assert not scheduler.has_work
    scheduler.advance(chunk)
    assert scheduler.has_work


def test_lone_callers_are_computed_at_once_side_by_side() -> None:
    scheduler = make(lanes=3, rows=4)
    for _ in range(3):
        scheduler.add(sequences(5))
        assert scheduler.has_work
        assert len(take(scheduler).sequences) == 1


def test_a_free_lane_waits_for_as_many_rows_as_the_smallest_chunk_under_way() -> None:
    scheduler = make(lanes=3, rows=4)
    scheduler.add(sequences(*[5] * 8))
    assert len(take(scheduler).sequences) == 3
    small, *_ = sequences(5)
    assert len(take(scheduler).sequences) == 3
    # Two are ready, and each chunk under way has three.
    assert not scheduler.has_work
    assert scheduler.next_chunk() is None
    scheduler.add([small])
    assert scheduler.has_work
    chunk = take(scheduler)
    assert len(chunk.sequences) == 3
    assert small in chunk.sequences


def test_who_was_made_to_wait_runs_as_soon_as_nobody_else_does() -> None:
    scheduler = make(lanes=2, rows=3)
    scheduler.add(sequences(*[3] * 6))
    first, second = take(scheduler), take(scheduler)
    late, later = sequences(5, 5)
    scheduler.add([late])
    scheduler.advance(first)
    assert scheduler.next_chunk() is None
    scheduler.add([later])
    assert scheduler.next_chunk() is None
    scheduler.advance(second)
    # Two lanes are free, for two.
    assert [take(scheduler).sequences for _ in range(2)] == [(late,), (later,)]


def test_nobody_waits_for_more_rows_than_pay() -> None:
    """Once they are enough for a chunk, those beyond wait for nobody."""
    scheduler = make(lanes=2, rows=8, cost=FREE_CALLS)
    enough = FREE_CALLS.enough_rows(8)
    assert enough < 8
    scheduler.add(sequences(*range(TYPICAL_STEPS, TYPICAL_STEPS + 3 * enough)))
    assert [len(take(scheduler).sequences) for _ in range(2)] == [enough, enough]


def test_of_the_same_length_more_rows_pay() -> None:
    """They end together, so that none is computed in vain beside another."""
    scheduler = make(rows=16, cost=FREE_CALLS)
    enough = FREE_CALLS.enough_rows(16)
    ample = FREE_CALLS.enough_rows(16, enough=AMPLE)
    assert enough < ample < 16
    scheduler.add(sequences(*[TYPICAL_STEPS] * (TURNS * enough + 1)))
    chunk = take(scheduler)
    assert len(chunk.sequences) == ample
    scheduler.advance(chunk)
    scheduler.add(sequences(TYPICAL_STEPS + 1))
    assert len(take(scheduler).sequences) == enough, "one goes on for longer"


def test_where_many_wait_more_rows_pay() -> None:
    """One of three of them, slot or not, until more rows gain little."""
    enough = FREE_CALLS.enough_rows(16)
    ample = FREE_CALLS.enough_rows(16, enough=AMPLE)
    for count, rows in (
        (TURNS * enough, enough),
        (TURNS * (enough + 1), enough + 1),
        (TURNS * ample, ample),
        (10 * TURNS * ample, ample),
    ):
        scheduler = make(rows=16, slots=16, waiting=1000, cost=FREE_CALLS)
        scheduler.add(sequences(*range(TYPICAL_STEPS, TYPICAL_STEPS + count)))
        assert len(take(scheduler).sequences) == rows, count


def test_nobody_waits_for_a_lane_that_hangs() -> None:
    clock = Clock()
    scheduler = make(lanes=2, rows=8, clock=clock)
    scheduler.add(sequences(*[5] * 4))
    hung, other = take(scheduler), take(scheduler)
    scheduler.advance(other)
    scheduler.add(sequences(5))
    assert not scheduler.has_work, "one row waits beside a chunk of two"
    clock.now += 1e6
    assert scheduler.hangs(hung, clock.now)
    assert len(take(scheduler).sequences) == 1


def test_who_waits_for_a_slot_makes_no_rows() -> None:
    scheduler = make(lanes=2, rows=2, slots=3)
    scheduler.add(sequences(*[5] * 9))
    assert len(take(scheduler).sequences) == 2
    assert not scheduler.has_work, "one slot is left, and the chunk under way has two rows"


def test_the_oldest_are_admitted_first() -> None:
    scheduler = make(rows=2)
    first, second, third, fourth = request = sequences(4, 4, 4, 4)
    for sequence in request:
        scheduler.add([sequence])
    chunk = take(scheduler)
    assert chunk.sequences == (first, second)
    assert list(scheduler.waiting) == [third, fourth]
    scheduler.advance(chunk)
    assert take(scheduler).sequences == (third, fourth)


def test_a_newcomer_joins_those_who_run() -> None:
    scheduler = make(rows=2, steps=8)
    (long,) = sequences(20)
    scheduler.add([long])
    scheduler.advance(take(scheduler))
    (late,) = sequences(3)
    scheduler.add([late])
    chunk = take(scheduler)
    assert chunk.sequences == (long, late)
    assert (long.cursor, late.cursor) == (8, 0)
    assert chunk.steps == (8, 3)


def test_who_listens_hears_of_short_chunks() -> None:
    """Others beside them too, since a chunk has one length; without them it may be longer."""
    scheduler = make(rows=2, steps=4 * LISTENED_STEPS)
    heard, other = request = sequences(*[8 * LISTENED_STEPS] * 2)
    heard.listener = lambda _: None
    scheduler.add(request)
    chunk = take(scheduler)
    assert chunk.steps == (LISTENED_STEPS, LISTENED_STEPS)
    scheduler.advance(chunk)
    scheduler.cancel([heard])
    assert take(scheduler).steps == (4 * LISTENED_STEPS,)


def test_ready_sequences_are_shared_among_free_lanes() -> None:
    scheduler = make(lanes=3, rows=4)
    scheduler.add(sequences(*[5] * 7))
    chunks = [take(scheduler) for _ in range(3)]
    assert [len(chunk.sequences) for chunk in chunks] == [3, 2, 2]
    assert len({s for chunk in chunks for s in chunk.sequences}) == 7


def test_a_lane_that_computes_gets_no_share() -> None:
    """Those who are ready do not wait for it."""
    scheduler = make(lanes=3, rows=4)
    scheduler.add(sequences(*[5] * 3))
    assert len(take(scheduler).sequences) == 1
    scheduler.add(sequences(*[5] * 4))
    # Six are ready for the two lanes that are free.
    assert [len(take(scheduler).sequences) for _ in range(2)] == [3, 3]


def test_a_sequence_runs_in_one_chunk_at_a_time_in_whichever_lane_comes() -> None:
    scheduler = make(lanes=2, rows=1, steps=8)
    left, right = request = sequences(40, 40)
    scheduler.add(request)
    first, second = take(scheduler), take(scheduler)
    assert (first.sequences, second.sequences) == ((left,), (right,))
    for _ in range(3):
        scheduler.advance(first)
        first = take(scheduler)
        assert first.sequences == (left,)
        assert right.status == "in flight"


def test_more_run_than_a_chunk_has_rows_and_all_have_their_turn() -> None:
    scheduler = make(rows=1, slots=3, steps=8)
    request = sequences(40, 40, 40)
    scheduler.add(request)
    turns = []
    for _ in range(9):
        chunk = take(scheduler)
        turns += chunk.sequences
        scheduler.advance(chunk)
    assert turns == request * 3


def test_a_slot_is_held_until_the_end_and_goes_to_the_next() -> None:
    scheduler = make(rows=3, steps=8)
    short, long, other, next_one = request = sequences(2, 30, 30, 5)
    scheduler.add(request)
    chunk = take(scheduler)
    assert scheduler.running == 3
    assert next_one.status == "waiting"
    scheduler.advance(chunk)
    assert short.status == "ended"
    assert scheduler.running == 2
    assert (long.status, other.status) == ("ready", "ready")
    assert set(take(scheduler).sequences) == {long, other, next_one}
    assert scheduler.running == 3


def test_a_large_request_lends_slots_to_others() -> None:
    """It has all while nobody else is there; then the youngest of its sequences wait again."""
    scheduler = make(rows=2, slots=8, steps=8)
    many = sequences(*[80] * 20)
    scheduler.add(many)
    scheduler.advance(take(scheduler))
    assert scheduler.running == 8
    assert {s.status for s in many[:8]} == {"ready"}
    others = [sequences(16) for _ in range(3)]
    for other in others:
        scheduler.add(other)
    scheduler.advance(take(scheduler))
    assert [other[0].status for other in others] == ["ready", "ready", "waiting"]
    assert [s.status for s in many] == ["ready"] * 6 + ["waiting"] * 14
    assert scheduler.running == 8


def test_however_many_large_requests_leave_slots_for_others() -> None:
    scheduler = make(rows=4, slots=8, steps=8, waiting=1000)
    for _ in range(10):
        scheduler.add(sequences(*[80] * 20))
        scheduler.advance(take(scheduler))
    (late,) = sequences(5)
    scheduler.add([late])
    scheduler.advance(take(scheduler))
    assert late.status in ("ready", "ended")


def test_long_sequences_lend_slots_to_short_ones_however_few_a_request_has() -> None:
    """Who is long would hold its slot for all of its turns, alone in its request or not."""
    scheduler = make(rows=4, slots=8, steps=8, waiting=1000)
    for count in (1, 1, 1, 1, 2, 2, 2, 2):
        scheduler.add(sequences(*[80] * count))
    scheduler.advance(take(scheduler))
    assert scheduler.running == 8
    late = [sequences(LONG_CHUNKS * 8)[0] for _ in range(3)]
    for sequence in late:
        scheduler.add([sequence])
    scheduler.advance(take(scheduler))
    assert [sequence.status for sequence in late] == ["ready", "ready", "waiting"]


def test_in_a_request_of_few_only_the_long_ones_lend() -> None:
    scheduler = make(rows=8, slots=8, steps=8)
    request = sequences(80, 10)
    scheduler.add(request)
    assert [sequence.large for sequence in request] == [True, False]


@pytest.mark.parametrize("chunk_steps", [256, 4096])
def test_usual_lengths_are_not_long_and_long_ones_are_whatever_a_chunk_has(
    chunk_steps: int,
) -> None:
    scheduler = make(slots=64, steps=chunk_steps)
    usual, long = sequences(*[330] * 16), sequences(LONG_STEPS + 1)
    scheduler.add(usual)
    scheduler.add(long)
    assert not any(sequence.large for sequence in usual)
    assert long[0].large


def test_a_single_slot_goes_from_long_to_short_and_back_in_turns() -> None:
    """Nobody starves, neither by one that goes on for long nor by many that come."""
    scheduler = make(rows=1, slots=1, steps=8)
    (long,) = sequences(10 * 8)
    scheduler.add([long])
    turns = []
    while long.status != "ended":
        scheduler.add(sequences(3))
        (row,) = (chunk := take(scheduler)).sequences
        turns.append(row is long)
        scheduler.advance(chunk)
    assert turns[:3] == [True, False, True] or turns[:3] == [False, True, False]
    assert turns.count(True) == 10
    assert len(turns) <= 20


def test_short_ones_that_never_end_leave_long_ones_their_share() -> None:
    scheduler = make(rows=4, slots=4, steps=8, waiting=1000)
    long = sequences(200)
    scheduler.add(long)
    for _ in range(2 * 200 // 8):
        for _ in range(6):
            scheduler.add(sequences(16))
        scheduler.advance(take(scheduler))
    assert long[0].status == "ended"


def test_who_has_lent_its_slot_goes_on_where_it_was() -> None:
    scheduler = make(rows=2, slots=2, steps=8)
    first, second = request = sequences(80, 80)
    scheduler.add(request)
    scheduler.advance(take(scheduler))
    (late,) = sequences(3)
    scheduler.add([late])
    chunk = take(scheduler)
    assert set(chunk.sequences) == {first, late}
    assert (second.status, second.cursor) == ("waiting", 8)
    scheduler.advance(chunk)
    chunk = take(scheduler)
    assert set(chunk.sequences) == {first, second}
    assert second.cursor == 8


def test_requests_that_fit_keep_their_slots() -> None:
    """One sequence each: the next waits for the first that ends, as ever."""
    scheduler = make(rows=2, slots=2, steps=8)
    first, second, late = (sequences(80) for _ in range(3))
    for request in (first, second, late):
        scheduler.add(request)
    for _ in range(3):
        chunk = take(scheduler)
        assert set(chunk.sequences) == {*first, *second}
        scheduler.advance(chunk)
    assert late[0].status == "waiting"


def test_who_has_waited_longest_since_its_last_chunk_leads() -> None:
    """Although others would fit together without it."""
    scheduler = make(rows=2, slots=5, steps=8)
    short, *long = request = sequences(3, 80, 80, 80, 80)
    scheduler.add(request)
    assert take(scheduler).sequences[0] is short

    scheduler = make(rows=2, slots=5, steps=8)
    a, b, odd, c, d = request = sequences(80, 80, 3, 80, 80)
    scheduler.add(request)
    first = take(scheduler)
    assert first.sequences == (a, b)
    scheduler.advance(first)
    assert take(scheduler).sequences == (odd, c)


def test_sequences_alike_in_length_go_together() -> None:
    scheduler = make(rows=3, slots=6, steps=100, cost=FREE_CALLS)
    a, x, b, y, c, z = request = sequences(50, 20, 52, 22, 49, 21)
    scheduler.add(request)
    first = take(scheduler)
    assert first.sequences[0] is a
    assert set(first.sequences) == {a, b, c}
    scheduler.advance(first)
    assert set(take(scheduler).sequences) == {x, y, z}


def test_lengths_beyond_a_chunk_are_alike_and_the_oldest_of_them_goes_first() -> None:
    scheduler = make(rows=2, slots=4, steps=16)
    leader, _, oldest, _ = request = sequences(1000, 15, 16, 999)
    scheduler.add(request)
    assert take(scheduler).sequences == (leader, oldest)


@pytest.mark.parametrize(
    ("row_step_s", "rows"),
    [
        # More rows cost nothing: as many as there may be.
        (0.0, 8),
        # A row has all of the cost: more of them gain nothing and hold each other up.
        (1.0, 1),
        # Two rows already use 20 * 2 * 2 of 20 + 20 * 2 * 2: that is enough.
        (2.0, 2),
    ],
)
def test_a_chunk_has_no_more_rows_than_pay(row_step_s: float, rows: int) -> None:
    call_s = 20.0 if row_step_s == 2.0 else 1.0
    scheduler = make(rows=8, slots=20, cost=Cost(call_s, 0.0, row_step_s))
    scheduler.add(sequences(*[TYPICAL_STEPS] * 7, TYPICAL_STEPS + 1))
    assert len(take(scheduler).sequences) == rows


def test_a_chunk_of_few_time_steps_has_more_rows() -> None:
    """Its call is most of its price. Beside one that goes on longer it would hold that up."""
    cost = Cost(call_s=20.0, time_step_s=0.0, row_step_s=2.0)
    assert cost.enough_rows(40) < cost.enough_rows(40, 1) < 40
    for lengths, steps in (([1] * 40, 1), ([1] * 5 + [2], TYPICAL_STEPS)):
        scheduler = make(rows=40, cost=cost)
        scheduler.add(sequences(*lengths))
        assert len(take(scheduler).sequences) == cost.enough_rows(40, steps), lengths


@pytest.mark.parametrize(
    ("cost", "lengths", "max_steps", "expected"),
    [
        # Calls cost nothing: up to where the first one ends,
        (FREE_CALLS, (12, 30), 16, (12, 12)),
        (FREE_CALLS, (2, 30), 16, (2, 2)),
        # calls cost much: further, and who is shorter gets what is left of it.
        (DEAR_CALLS, (12, 30), 16, (12, 16)),
        (DEAR_CALLS, (2, 30), 16, (2, 16)),
        (DEAR_CALLS, (3, 5), 16, (3, 5)),
        # Not beyond the limit, not even for one alone.
        (DEAR_CALLS, (500, 30), 16, (16, 16)),
        (DEAR_CALLS, (500,), 64, (64,)),
        (FREE_CALLS, (500,), 32, (32,)),
        (DEAR_CALLS, (2, 30), 4, (2, 4)),
        (DEAR_CALLS, (30,), 1, (1,)),
        # Slow time steps end a chunk sooner, for newcomers wait for it,
        (Cost(1e-3, QUANTUM_S / 10.5, 0.0), (500, 500), 64, (10, 10)),
        # but not below what a call is worth,
        (Cost(1e-3, 1.0, 0.0), (500, 500), 64, (MIN_STEPS, MIN_STEPS)),
        # unless the limit is.
        (Cost(1e-3, 1.0, 0.0), (500, 500), 4, (4, 4)),
    ],
)
def test_time_steps_of_a_chunk(
    cost: Cost, lengths: tuple[int, ...], max_steps: int, expected: tuple[int, ...]
) -> None:
    scheduler = make(rows=2, steps=max_steps, cost=cost)
    request = sequences(*lengths)
    scheduler.add(request)
    chunk = take(scheduler)
    assert chunk.sequences == tuple(request)
    assert chunk.steps == expected


def test_the_cursor_moves_by_what_was_computed_until_the_end() -> None:
    scheduler = make(steps=10)
    (sequence,) = sequences(25)
    scheduler.add([sequence])
    cursors = []
    while (chunk := scheduler.next_chunk()) is not None:
        scheduler.advance(chunk)
        cursors.append(sequence.cursor)
    assert cursors == [10, 20, 25]
    assert sequence.status == "ended"
    assert sequence.error is None
    assert scheduler.take_ended() == [sequence]


def test_ended_sequences_are_taken_once() -> None:
    scheduler = make()
    request = sequences(3, 3)
    scheduler.add(request)
    scheduler.advance(take(scheduler))
    assert scheduler.take_ended() == request
    assert scheduler.take_ended() == []
    scheduler.cancel(request)
    assert scheduler.take_ended() == []


def test_a_request_that_does_not_fit_is_refused_whole_until_there_is_room() -> None:
    scheduler = make(rows=1, waiting=3)
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


def test_who_came_first_is_in_every_chunk_beside_newcomers() -> None:
    """A long sequence goes on while others come and go."""
    scheduler = make(lanes=1, rows=4, slots=100, steps=8)
    (long,) = sequences(80)
    scheduler.add([long])
    scheduler.add(sequences(*[8] * 6))
    for _ in range(10):
        chunk = take(scheduler)
        assert long in chunk.sequences
        assert len(chunk.sequences) == 4
        scheduler.advance(chunk)
        scheduler.add(sequences(*[8] * 3))
    assert long.status == "ended"


@settings(max_examples=100)
@given(st.integers(1, 12), st.integers(1, 40))
def test_long_sequences_that_came_first_starve_nobody(rows: int, others: int) -> None:
    """Whoever is ready is in a chunk after at most as many chunks as others are ready."""
    scheduler = make(lanes=1, rows=rows, slots=1000, steps=8)
    scheduler.add(sequences(*[10_000] * others))
    late = sequences(3)[0]
    scheduler.add([late])
    for _ in range(others + 1):
        scheduler.advance(take(scheduler))
        if late.status == "ended":
            return
    pytest.fail("it starves")


def test_a_lane_cannot_have_two_chunks_nor_return_one_twice() -> None:
    scheduler = make()
    scheduler.add(sequences(30))
    chunk = take(scheduler)
    assert scheduler.next_chunk() is None
    scheduler.advance(chunk)
    with pytest.raises(KeyError):
        scheduler.advance(chunk)


def test_time_steps_that_wait_are_bounded_and_come_back() -> None:
    scheduler = make(waiting_steps=10)
    first, second = sequences(6, 4)
    scheduler.add([first, second])
    with pytest.raises(Overloaded, match="10 time steps .* the limit is 10"):
        scheduler.add(sequences(1))
    scheduler.cancel([first])
    scheduler.add(sequences(6))
    with pytest.raises(Overloaded):
        scheduler.admission.check(1, 1, "", 60.0)
