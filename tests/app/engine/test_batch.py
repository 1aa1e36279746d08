"""Numbers on their way into a call and out of it: none lost, none mixed up, whoever fails."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.batch import compute, finite_rows, pack, unpack
from app.engine.scheduler import Chunk
from app.engine.sequence import Sequence
from app.errors import NotFinite, RunFailed
from tests.app.engine.running import assert_summed, numbers
from tests.app.fakes import FakeRunner

POISON, OVERFLOW = 666.0, 777.0
BIG = np.finfo(np.float32).max


def remaining(sequence: Sequence) -> int:
    return len(sequence.inputs) - sequence.cursor


def chunk_of(*rows: Sequence, steps: int = 16) -> Chunk:
    return Chunk(rows, tuple(min(steps, remaining(row)) for row in rows), float("inf"))


def run(chunk: Chunk, runner: FakeRunner) -> None:
    unpack(chunk, compute(runner, pack(chunk, runner.state_size)))
    for sequence, steps in zip(chunk.sequences, chunk.steps, strict=True):
        sequence.cursor += steps


def test_a_batch_holds_the_next_steps_the_states_and_zeros_elsewhere() -> None:
    begun = Sequence(numbers(9), state=np.array([5.0], np.float32), cursor=4)
    new = Sequence(numbers(2, seed=1))
    batch = pack(chunk_of(begun, new, steps=3), 1)
    assert batch.inputs.shape == (2, 3, 1)
    assert batch.inputs[0].tolist() == begun.inputs[4:7].tolist()
    assert batch.inputs[1].tolist() == [*new.inputs.tolist(), [0.0]]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.state.tolist() == [[5.0], [0.0]]
    assert {batch.inputs.dtype, batch.state.dtype} == {np.dtype(np.float32)}
    assert batch.lengths.dtype == np.int32


def test_a_batch_is_a_copy() -> None:
    sequence = Sequence(numbers(3), state=np.array([5.0], np.float32))
    batch = pack(chunk_of(sequence), 1)
    batch.inputs[:] = batch.state[:] = 0.0
    assert sequence.inputs.any()
    assert sequence.state == [5.0]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(-50, 50)), min_size=1, max_size=6),
    st.integers(1, 16),
)
def test_chunk_by_chunk_is_as_the_whole(rows: list[tuple[int, int]], steps: int) -> None:
    sequences = [
        Sequence(numbers(length, seed), state=np.array([start], np.float32))
        for seed, (length, start) in enumerate(rows)
    ]
    while left := [sequence for sequence in sequences if remaining(sequence)]:
        run(chunk_of(*left, steps=steps), FakeRunner())
    for sequence, (_, start) in zip(sequences, rows, strict=True):
        assert_summed(sequence, start)


@given(st.lists(st.sampled_from([1.0, 2.0, POISON]), min_size=1, max_size=17))
def test_whom_the_kernel_fails_on_fails_alone(values: list[float]) -> None:
    rows = [Sequence(np.array([[value]], np.float32)) for value in values]
    run(chunk_of(*rows), FakeRunner(poison=POISON))
    for row, value in zip(rows, values, strict=True):
        if value == POISON:
            assert isinstance(row.error, RunFailed)
            assert str(row.error) == "the kernel failed: RuntimeError"
        else:
            assert_summed(row)


def test_who_overflows_fails_alone_and_is_told_where() -> None:
    rows = [Sequence(np.array([[v], [1.0]], np.float32), f"/{v}") for v in (1.0, OVERFLOW, 2.0)]
    run(chunk_of(*rows), FakeRunner(overflow=OVERFLOW))
    assert_summed(rows[0])
    assert_summed(rows[2])
    assert isinstance(rows[1].error, NotFinite)
    (fault,) = rows[1].error.faults
    assert fault.pointer == f"/{OVERFLOW}"
    assert "between time steps 0 and 1" in fault.message


def test_no_memory_for_the_outputs_is_one_rows_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first is longer than its chunk, so room for all of its outputs is made.
    long, short = Sequence(numbers(20)), Sequence(numbers(3, seed=1))
    chunk = chunk_of(long, short)
    results = compute(FakeRunner(), pack(chunk, 1))

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(np, "empty", fail)
        unpack(chunk, results)
    assert isinstance(long.error, RunFailed)
    assert_summed(short)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["outputs", "state"])
def test_what_is_not_finite_is_found_wherever_it_is(bad: float, where: str) -> None:
    outputs, state = np.zeros((3, 2, 2), np.float32), np.zeros((3, 4), np.float32)
    assert finite_rows(outputs, state) is None
    (outputs if where == "outputs" else state)[1, -1] = bad
    found = finite_rows(outputs, state)
    assert found is not None
    assert found.tolist() == [True, False, True]


def test_a_sum_that_overflows_of_itself_is_no_failure() -> None:
    outputs = np.full((2, 3, 1), BIG, np.float32)
    found = finite_rows(outputs, np.zeros((2, 1), np.float32))
    assert found is None or found.all()


def test_infinities_that_cancel_are_found() -> None:
    outputs = np.array([[[np.inf], [-np.inf]], [[1.0], [1.0]]], np.float32)
    found = finite_rows(outputs, np.zeros((2, 1), np.float32))
    assert found is not None
    assert found.tolist() == [False, True]
