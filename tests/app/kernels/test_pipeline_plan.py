"""When a pipeline pays, and into how many parts it cuts a chunk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernels.pipeline_plan import (
    BLOCK_STEPS,
    LEAST_CALL_S,
    PAYS,
    WAKE_S,
    PipelinePlan,
    ends_of,
)

CALL_S = 25e-6


def test_short_chunks_and_a_single_thread_are_left_alone() -> None:
    plan = PipelinePlan(3, CALL_S)
    assert plan.parts(0.2e-3, 50, 2) == 0
    assert plan.parts(5e-3, 1000, 1) == 0
    assert plan.parts(5e-3, BLOCK_STEPS, 3) == 0
    assert plan.parts(1.3e-3, 240, 2) >= 2
    assert plan.parts(5e-3, 1000, 2) > plan.parts(1.3e-3, 240, 2)
    assert plan.parts(plan.shortest_s, 1000, 3) >= 2
    assert plan.parts(0.9 * plan.shortest_s, 1000, 3) == 0


@pytest.mark.parametrize("call_s", [-1.0, 0.0])
def test_a_call_that_seems_to_cost_nothing_costs_something(call_s: float) -> None:
    assert PipelinePlan(3, call_s).parts(LEAST_CALL_S, 1000, 3) == 0


@given(st.integers(2, 8), st.integers(2, 16), st.integers(1, 20_000), st.floats(1e-6, 0.5))
def test_parts_are_the_best_by_the_bound(
    layers: int, threads: int, steps: int, alone_s: float
) -> None:
    """By trying all: tasks, and what a hand-over costs each, of `threads` at a time."""
    plan, busy = PipelinePlan(layers, CALL_S), min(threads, layers)

    def seconds(parts: int) -> float:
        tasks = parts * layers
        return (tasks / busy + busy - 1) * (alone_s / tasks + CALL_S) + WAKE_S

    most = steps // BLOCK_STEPS
    best = min((seconds(parts) for parts in range(2, most + 1)), default=alone_s)
    found = plan.parts(alone_s, steps, threads)
    if found:
        assert found <= most
        # Parts are whole numbers.
        assert seconds(found) <= 1.1 * best
        assert seconds(found) <= PAYS * alone_s
    else:
        assert best > 0.8 * alone_s


@given(st.integers(1, 2000), st.data())
def test_parts_end_at_multiples_where_they_are_long_enough(steps: int, data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, steps))
    ends = ends_of(steps, parts)
    assert len(ends) == parts
    assert ends[-1] == steps
    assert ends == sorted({*ends, *ends})
    assert ends[0] > 0
    if parts <= steps // BLOCK_STEPS:
        assert not any(end % BLOCK_STEPS for end in ends[:-1])
