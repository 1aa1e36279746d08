"""Callers who share the engine: whatever one sends, the others are computed soon."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.cost_model import QUANTUM_S, SHARED_QUANTUM_S, Cost
from app.engine.fair_share import SHARED_S
from app.engine.scheduler import Chunk, Scheduler
from app.engine.sequence import Sequence
from tests.app.engine.scheduling import Clock, make, sequences, take

# A call of nearly nothing, 0.1 ms a time step: 30 of them are the shared quantum.
STEP_S = 1e-4
COST = Cost(call_s=1e-6, time_step_s=STEP_S, row_step_s=1e-7)
LANES, ROWS, SLOTS = 2, 8, 16


# Time steps of three callers' chunks, twice.
MOST_PASSED = 2 * 3 * ROWS * int(QUANTUM_S / STEP_S)


def shared(clock: Clock | None = None) -> Scheduler:
    return make(LANES, ROWS, SLOTS, 10_000, waiting=10_000, cost=COST, clock=clock)


def expected_s(chunk: Chunk) -> float:
    return COST.chunk_s(len(chunk.sequences), max(chunk.steps))


@pytest.mark.parametrize("length", [510, 5_000], ids=["small", "large"])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 200])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_newcomer_is_in_the_next_chunk_whatever_another_caller_has_sent(
    length: int, count: int, at_once: bool
) -> None:
    scheduler = shared()
    for request in [[length] * count] if at_once else [[length]] * count:
        scheduler.add(sequences(*request, caller="much"))
    for _ in range(2):
        scheduler.advance(take(scheduler))
    under_way = take(scheduler)
    (newcomer,) = sequences(10, caller="little")
    scheduler.add([newcomer])
    scheduler.advance(under_way)
    chunk = take(scheduler)
    assert newcomer in chunk.sequences
    assert expected_s(chunk) <= SHARED_QUANTUM_S * 1.1


def test_who_shares_the_engine_does_not_hold_it_for_long() -> None:
    clock = Clock()
    scheduler = shared(clock)
    scheduler.add(sequences(*[100_000] * SLOTS, caller="much"))
    alone = take(scheduler)
    assert expected_s(alone) == pytest.approx(QUANTUM_S, rel=0.1)
    scheduler.add(sequences(1, caller="little"))
    scheduler.advance(alone)
    for _ in range(5):
        chunk = take(scheduler)
        assert expected_s(chunk) <= SHARED_QUANTUM_S * 1.1
        scheduler.advance(chunk)
    # The other one may come again.
    clock.now += SHARED_S * 0.9
    chunk = take(scheduler)
    assert expected_s(chunk) <= SHARED_QUANTUM_S * 1.1
    scheduler.advance(chunk)
    clock.now += SHARED_S
    assert expected_s(take(scheduler)) == pytest.approx(QUANTUM_S, rel=0.1)


def test_one_sequence_of_a_caller_goes_on_as_quickly_as_all_of_another_together() -> None:
    scheduler = shared()
    (lone,) = sequences(2_000, caller="one")
    scheduler.add(sequences(*[2_000] * 100, caller="many"))
    scheduler.add([lone])
    while lone.status != "ended":
        chunk = take(scheduler)
        assert lone in chunk.sequences, "it is its turn, or it rides along"
        scheduler.advance(chunk)


requests = st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 900), min_size=1, max_size=12))


@settings(max_examples=100)
@given(st.lists(requests, min_size=1, max_size=12), st.integers(0, 1 << 30))
def test_all_are_computed_and_none_with_a_slot_waits_for_more_than_the_others_turns(
    arrivals: list[tuple[str, list[int]]], seed: int
) -> None:
    """It may have ridden along with two others, a whole chunk ahead of each of them."""
    scheduler, chance = shared(), Random(seed)
    added: list[Sequence] = []
    under_way: list[Chunk] = []
    passed: Counter[str] = Counter()
    while arrivals or len(scheduler):
        if arrivals and chance.random() < 0.5:
            caller, lengths = arrivals.pop(0)
            new = sequences(*lengths, caller=caller)
            scheduler.add(new)
            added += new
        if under_way and (len(under_way) == LANES or chance.random() < 0.5):
            scheduler.advance(under_way.pop(0))
        ready = {sequence.caller for sequence in scheduler.ready}
        if (chunk := scheduler.next_chunk()) is None:
            continue
        under_way.append(chunk)
        computed = {sequence.caller for sequence in chunk.sequences}
        for caller in ready:
            passed[caller] = 0 if caller in computed else passed[caller] + sum(chunk.steps)
            assert passed[caller] <= MOST_PASSED, "it starves"
        running = [*scheduler.ready, *(s for c in under_way for s in c.sequences)]
        assert len(running) == scheduler.running <= SLOTS
        slots = Counter(sequence.caller for sequence in running)
        waiting = {sequence.caller for sequence in scheduler.waiting}
        if len(slots.keys() | waiting) < SLOTS and len(scheduler.ready):
            lenders = [s for s in scheduler.ready if slots[s.caller] > 1]
            assert not lenders or waiting <= slots.keys(), "it has no slot beside who has several"
        assert scheduler.waiting.size == sum(s.status == "waiting" for s in added)
    assert all(s.status == "ended" and not s.error and not s.remaining for s in added)
    assert scheduler.waiting.large_running == scheduler.running == 0
