"""What chunks cost, and how they are cut by it: against a search of all lengths."""

import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from app.engine.cost_model import (
    ENOUGH,
    LANE_S,
    MIN_STEPS,
    NEARLY,
    QUANTUM_S,
    ROW_S,
    TYPICAL_STEPS,
    Cost,
)
from tests.app.engine.scheduling import costs

remaining_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=20).map(sorted)
limits = st.integers(1, 100)


def rate(cost: Cost, remaining: list[int], steps: int) -> float:
    """Useful time steps a second: what is computed beyond a row's end is of no use."""
    useful = sum(min(left, steps) for left in remaining)
    return useful / cost.chunk_s(len(remaining), steps)


def allowed(cost: Cost, rows: int, most: int) -> int:
    """The longest chunk: as long as the limit, but not longer than a quantum nor too short."""
    within = [
        steps
        for steps in range(1, most + 1)
        if steps * (cost.time_step_s + rows * cost.row_step_s) <= QUANTUM_S
    ]
    return max(max(within, default=0), min(MIN_STEPS, most))


@settings(max_examples=400)
@given(costs, remaining_lengths, limits)
@example(Cost(1e-3, 0.0, 0.0), [1], 1)
@example(Cost(1e-9, 0.0, 1e-5), [1] * 19 + [300], 100)
@example(Cost(1e-1, 0.0, 1e-5), [1] * 19 + [300], 100)
def test_a_chunk_is_nearly_as_good_as_the_best_of_all_lengths(
    cost: Cost, remaining: list[int], most: int
) -> None:
    steps = cost.best_steps(remaining, most)
    longest = allowed(cost, len(remaining), most)
    # A product and a quotient of the same numbers may differ by one time step.
    assert 1 <= steps <= min(most, max(remaining), longest + 1)
    best = max(rate(cost, remaining, other) for other in range(1, longest + 1))
    assert rate(cost, remaining, steps) >= NEARLY * best * (1 - 1e-9)


@settings(max_examples=400)
@given(costs, remaining_lengths, limits)
def test_a_chunk_ends_where_a_row_does_or_where_it_must(
    cost: Cost, remaining: list[int], most: int
) -> None:
    steps = cost.best_steps(remaining, most)
    if steps not in remaining:
        assert abs(steps - allowed(cost, len(remaining), most)) <= 1


@settings(max_examples=200)
@given(costs, remaining_lengths, limits)
def test_of_nearly_equal_lengths_the_longest_is_taken(
    cost: Cost, remaining: list[int], most: int
) -> None:
    steps = cost.best_steps(remaining, most)
    longest = allowed(cost, len(remaining), most)
    best = max(rate(cost, remaining, other) for other in range(1, longest + 1))
    assert rate(cost, remaining, steps) >= NEARLY * best * (1 - 1e-9)
    for longer in {left for left in remaining if steps < left <= longest}:
        assert rate(cost, remaining, longer) < NEARLY * best * (1 + 1e-9)


@given(costs, st.integers(1, 300), limits)
def test_one_alone_goes_as_far_as_the_limits_allow(cost: Cost, left: int, most: int) -> None:
    expected = min(left, allowed(cost, 1, most))
    assert abs(cost.best_steps([left], most) - expected) <= 1
    if expected == most:
        assert cost.best_steps([left], most) == most


@pytest.mark.parametrize("step_s", [1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1.0, 1e6])
@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("most", [1, MIN_STEPS - 1, MIN_STEPS, 64, 4096])
def test_a_chunk_is_not_longer_than_its_quantum(step_s: float, rows: int, most: int) -> None:
    steps = Cost(1e-4, step_s, 0.0).best_steps([10_000] * rows, most)
    assert steps <= most
    assert steps * step_s <= QUANTUM_S * (1 + 1e-9) or steps <= MIN_STEPS
    assert steps >= min(most, MIN_STEPS)


@given(st.sampled_from([1e-300, 1e-12, 1.0]), st.sampled_from([0.0, 1e-300, 1e-6, 1.0]), st.data())
def test_a_cost_of_nearly_nothing_is_no_failure(
    call_s: float, time_step_s: float, data: st.DataObject
) -> None:
    cost = Cost(call_s, time_step_s, data.draw(st.sampled_from([0.0, 1e-300, 1e-6, 1.0])))
    assert 1 <= cost.best_steps([1, 2, 500], 64) <= 64
    assert 1 <= cost.best_steps([500], 64) <= 64
    assert 1 <= cost.enough_rows(64) <= 64


@settings(max_examples=300)
@given(costs, st.integers(1, 200))
def test_enough_rows_are_the_fewest_that_use_the_kernel_well(cost: Cost, most: int) -> None:
    rows = cost.enough_rows(most)
    assert 1 <= rows <= most

    def used(rows: int) -> float:
        """Rows a second, as a part of what no number of rows would exceed."""
        of_a_row = ROW_S + TYPICAL_STEPS * cost.row_step_s
        return rows * of_a_row / cost.chunk_s(rows, TYPICAL_STEPS)

    if rows < most:
        assert used(rows) >= ENOUGH
    assert all(used(other) < ENOUGH for other in range(1, rows))


@given(costs, st.integers(1, 64))
def test_enough_rows_lose_little_of_the_rate(cost: Cost, most: int) -> None:
    """What the constant is for: no number of rows would be much better."""

    def per_second(rows: int) -> float:
        return rows / cost.chunk_s(rows, TYPICAL_STEPS)

    best = max(map(per_second, range(1, most + 1)))
    assert per_second(cost.enough_rows(most)) >= ENOUGH * best * (1 - 1e-9)


@given(
    st.integers(2, 128),
    st.integers(2, 64),
    st.floats(1e-6, 1e-2),
    st.floats(1e-7, 1e-3),
    st.floats(1e-8, 1e-4),
)
def test_a_fit_finds_what_calls_were_made_of(
    rows: int, steps: int, call_s: float, time_step_s: float, row_step_s: float
) -> None:
    def seconds(rows: int, steps: int) -> float:
        return call_s + steps * (time_step_s + rows * row_step_s)

    cost = Cost.fit(rows, steps, seconds(1, 1), seconds(1, steps), seconds(rows, steps))
    # One time step is within the price of the call, as is the lane's work.
    assert cost.call_s == pytest.approx(seconds(1, 1) + LANE_S, rel=1e-6)
    assert cost.time_step_s + cost.row_step_s == pytest.approx(
        time_step_s + row_step_s, rel=1e-3, abs=1e-10
    )
    assert cost.row_step_s == pytest.approx(row_step_s, rel=1e-3, abs=1e-10)


def test_a_fit_of_one_row_or_one_time_step_is_a_fit() -> None:
    """`UNROLL_SLOTS_PER_LANE=1`, `UNROLL_MAX_CHUNK_STEPS=1`."""
    lone = Cost.fit(1, 32, 1e-3, 32e-3, 32e-3)
    assert (lone.time_step_s, lone.row_step_s) == (0.0, pytest.approx(1e-3))
    for cost in (Cost.fit(8, 1, 1e-3, 1e-3, 5e-3), Cost.fit(1, 1, 1e-3, 1e-3, 1e-3), lone):
        assert cost.enough_rows(8) >= 1
        assert 1 <= cost.best_steps([1, 5], 1) <= 1


@given(
    st.integers(1, 128),
    st.integers(1, 64),
    st.lists(st.just(0.0) | st.floats(0.0, 1.0), min_size=3, max_size=3),
    remaining_lengths,
    limits,
)
def test_whatever_noise_measured_chunks_can_be_cut(
    rows: int, steps: int, seconds: list[float], remaining: list[int], most: int
) -> None:
    """A shared machine pauses at will: a long call may have measured shorter than a short one."""
    cost = Cost.fit(rows, steps, *seconds)
    assert min(cost.call_s, cost.time_step_s, cost.row_step_s) >= 0.0
    assert all(map(math.isfinite, (cost.call_s, cost.time_step_s, cost.row_step_s)))
    assert cost.call_s >= LANE_S, "a call has always a price"
    assert 1 <= cost.enough_rows(rows) <= rows
    assert 1 <= cost.best_steps(remaining, most) <= most


@given(costs, st.integers(1, 64), st.integers(1, 64))
def test_more_rows_and_more_time_steps_never_cost_less(cost: Cost, rows: int, steps: int) -> None:
    assume(rows > 1 and steps > 1)
    assert cost.chunk_s(rows, steps) >= cost.chunk_s(rows - 1, steps)
    assert cost.chunk_s(rows, steps) >= cost.chunk_s(rows, steps - 1)
