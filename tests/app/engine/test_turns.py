"""Slots are given in turns of the callers, by time steps, whatever each of them sends."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.sequence import Sequence
from app.engine.waiting_queue import MANY_CALLERS, SLOT_STEPS, WaitingQueue

SLOTS, LONG = 64, 1000


def queue_of(*requests: tuple[str, list[int]]) -> WaitingQueue:
    """Requests of callers, in the order of their arrival."""
    queue, number = WaitingQueue(SLOTS, LONG), 0
    for caller, lengths in requests:
        made = [Sequence(np.zeros((length, 1), np.float32), caller=caller) for length in lengths]
        for sequence in made:
            number += 1
            sequence.number, sequence.remaining = number, len(sequence.inputs)
        queue.add(made)
    return queue


def taken(queue: WaitingQueue, count: int) -> list[Sequence]:
    return [queue.take() for _ in range(count)]


def test_who_sends_little_does_not_wait_behind_who_sends_much() -> None:
    queue = queue_of(*[("much", [10])] * 1000, ("little", [10]), ("little", [10]))
    callers = [sequence.caller for sequence in taken(queue, 5)]
    assert callers.count("little") == 2


def test_turns_are_by_time_steps_not_by_sequences() -> None:
    queue = queue_of(*[("long", [400 - SLOT_STEPS])] * 50, *[("short", [100 - SLOT_STEPS])] * 200)
    steps: Counter[str] = Counter()
    for sequence in taken(queue, 100):
        steps[sequence.caller] += len(sequence.inputs) + SLOT_STEPS
    assert abs(steps["long"] - steps["short"]) <= 400


def test_connections_do_not_count_only_callers_do() -> None:
    """As many requests one by one, or all in one: its share is the same."""
    many = queue_of(*[("a", [10])] * 100, *[("b", [10])] * 100)
    assert Counter(s.caller for s in taken(many, 100)) == {"a": 50, "b": 50}


@given(st.lists(st.tuples(st.integers(1, 2 * LONG), st.integers(1, 40)), min_size=1, max_size=30))
def test_the_sequences_of_a_single_caller_keep_their_order(
    requests: list[tuple[int, int]],
) -> None:
    """Small ones among themselves, and large ones; as if there were no turns."""
    queue = queue_of(*[("only", [length] * count) for length, count in requests])
    order = taken(queue, queue.size)
    for large in (False, True):
        numbers = [s.number for s in order if s.large is large]
        assert numbers == sorted(numbers)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 200)), min_size=1, max_size=200))
def test_nobody_is_given_more_than_a_turn_beyond_who_waits(
    requests: list[tuple[str, int]],
) -> None:
    queue = queue_of(*[(caller, [length]) for caller, length in requests])
    longest = max(length for _, length in requests) + SLOT_STEPS
    given_steps: Counter[str] = Counter({caller: 0 for caller, _ in requests})
    while queue.size:
        sequence = queue.take()
        given_steps[sequence.caller] += len(sequence.inputs) + SLOT_STEPS
        waiting = {other.caller for other in queue}
        for caller in waiting:
            assert given_steps[sequence.caller] - given_steps[caller] <= longest


def test_the_newest_is_the_last_of_the_caller_whose_turn_it_is() -> None:
    queue = queue_of(("a", [5]), ("a", [5]), ("b", [5]), ("b", [5]), ("b", [2 * LONG]))
    assert [queue.take(newest=True).number for _ in range(5)] == [2, 5, 1, 4, 3]


def test_callers_who_come_and_go_are_forgotten() -> None:
    queue = WaitingQueue(SLOTS, LONG)
    for number in range(5 * MANY_CALLERS):
        made = Sequence(np.zeros((5, 1), np.float32), caller=f"{number}", number=number)
        queue.add([made])
        assert queue.take() is made
    assert len(queue._turns.ends) <= 2 * MANY_CALLERS
    assert len(queue._small._order) <= 2


@pytest.mark.parametrize("newest", [False, True])
def test_a_sequence_that_leaves_the_queue_leaves_its_caller_in_its_place(newest: bool) -> None:
    queue = queue_of(("a", [5, 5]), ("b", [5]))
    first = next(iter(queue))
    queue.remove(first)
    assert {queue.take(newest).number for _ in range(2)} == {2, 3}
    assert queue.size == 0
