"""Both kinds of lanes do the same: every chunk comes back once, in order, on the event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from app.engine.batch import Lanes, LoopLane, Results, pack
from app.engine.cost_model import AMPLE, MAX_ENOUGH, MIN_STEPS, QUANTUM_S, Cost
from app.engine.runner_interface import MOST_ROWS, MOST_ROWS_ON_ACCELERATOR
from app.engine.scheduler import Chunk
from app.engine.sequence import Sequence
from app.engine.thread_lanes import ThreadLanes
from app.registry.engine_factory import slots_per_lane
from tests.app.engine.running import until
from tests.app.engine.scheduling import costs
from tests.app.fakes import FakeRunner

Back = list[tuple[Chunk, Results | str]]
Make = Callable[[FakeRunner, Callable[..., None]], Lanes]

KINDS: dict[str, Make] = {
    "loop": LoopLane,
    "one thread": lambda runner, computed: ThreadLanes(1, runner, computed),
    "three threads": lambda runner, computed: ThreadLanes(3, runner, computed),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def chunk_of(*numbers: float) -> Chunk:
    """A row a number, one time step each."""
    rows = tuple(Sequence(np.array([[number]], np.float32)) for number in numbers)
    return Chunk(rows, (1,) * len(rows), float("inf"))


def with_lanes(
    kind: str, check: Callable[[Lanes, Back], Awaitable[None]], runner: Any = None
) -> None:
    async def run() -> None:
        back: Back = []

        def computed(chunk: Chunk, results: Results | str) -> None:
            assert threading.current_thread() is threading.main_thread()
            back.append((chunk, results))

        lanes = KINDS[kind](runner or FakeRunner(), computed)
        assert not lanes.alive
        lanes.start(asyncio.get_running_loop())
        assert lanes.alive
        try:
            await check(lanes, back)
        finally:
            await asyncio.to_thread(lanes.stop, 20.0)
            assert not lanes.alive

    asyncio.run(run())


@every_kind
def test_every_chunk_comes_back_once_with_its_results(kind: str) -> None:
    async def check(lanes: Lanes, back: Back) -> None:
        chunks = [chunk_of(i, 100 + i) for i in range(20)]
        for chunk in chunks:
            lanes.give(chunk, pack(chunk, 1))
        # The loop has computed it by then; threads tell of it later.
        assert len(back) == (20 if kind == "loop" else 0)
        await until(lambda: len(back) == 20)
        assert {id(chunk) for chunk, _ in back} == {id(chunk) for chunk in chunks}
        if kind != "three threads":
            assert [chunk for chunk, _ in back] == chunks
        for chunk, results in back:
            assert isinstance(results, Results)
            expected = [[row.inputs.tolist()[0]] for row in chunk.sequences]
            assert results.outputs.tolist() == expected

    with_lanes(kind, check)


@every_kind
def test_a_lane_outlives_what_fails_outside_of_the_kernel(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Lies(FakeRunner):
        def run(self, inputs: np.ndarray, *rest: np.ndarray) -> Any:
            outputs, state = super().run(inputs, *rest)
            return (outputs, state) if inputs[0, 0, 0] else (outputs, state, "more")

    async def check(lanes: Lanes, back: Back) -> None:
        for number in (1, 2):
            chunk = chunk_of(number)
            lanes.give(chunk, pack(chunk, 1))
        broken = chunk_of(3)
        lanes.give(broken, None)  # type: ignore[arg-type]
        await until(lambda: len(back) == 3)
        (failed,) = [results for chunk, results in back if chunk is broken]
        assert failed == AttributeError.__name__
        assert lanes.alive
        chunk = chunk_of(4)
        lanes.give(chunk, pack(chunk, 1))
        await until(lambda: len(back) == 4)
        assert isinstance(back[-1][1], Results)

    with_lanes(kind, check, Lies())
    assert "a lane failed outside of its kernel" in caplog.text


def test_the_loop_computes_itself() -> None:
    async def check(lanes: Lanes, back: Back) -> None:
        chunk = chunk_of(1)
        lanes.give(chunk, pack(chunk, 1))
        assert [computed for computed, _ in back] == [chunk]

    class Here(FakeRunner):
        def run(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            assert threading.current_thread() is threading.main_thread()
            return super().run(*arguments)

    with_lanes("loop", check, Here())


def test_threads_compute_side_by_side() -> None:
    together = threading.Barrier(3)

    class Meets(FakeRunner):
        def run(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            together.wait(20)
            return super().run(*arguments)

    async def check(lanes: Lanes, back: Back) -> None:
        for _ in range(3):
            chunk = chunk_of(1)
            lanes.give(chunk, pack(chunk, 1))
        await until(lambda: len(back) == 3)
        assert all(isinstance(results, Results) and not results.failures for _, results in back)

    with_lanes("three threads", check, Meets())


def test_threads_finish_what_is_queued_before_they_end() -> None:
    async def check(lanes: Lanes, back: Back) -> None:
        for _ in range(10):
            chunk = chunk_of(1)
            lanes.give(chunk, pack(chunk, 1))
        await asyncio.to_thread(lanes.stop, 20.0)
        await until(lambda: len(back) == 10)

    with_lanes("one thread", check)


def test_a_thread_that_hangs_is_left_behind() -> None:
    runner = FakeRunner()
    runner.gate.clear()

    async def check(lanes: Lanes, back: Back) -> None:
        chunk = chunk_of(1)
        lanes.give(chunk, pack(chunk, 1))
        await until(runner.entered.is_set)
        await asyncio.to_thread(lanes.stop, 0.01)
        assert lanes.alive
        runner.gate.set()
        await until(lambda: not lanes.alive)

    with_lanes("one thread", check, runner)


# How many sequences a lane runs at once.


@given(costs)
def test_on_a_processor_a_lane_has_64_slots_whatever_it_costs(cost: Cost) -> None:
    assert slots_per_lane(FakeRunner(), cost) == MOST_ROWS == 64


class OnGpu(FakeRunner):
    devices = ("GPU:0",)


@given(costs)
def test_on_a_gpu_a_lane_has_as_many_slots_as_use_it_well(cost: Cost) -> None:
    slots = slots_per_lane(OnGpu(), cost)
    assert MOST_ROWS <= slots <= MOST_ROWS_ON_ACCELERATOR
    enough = cost.enough_rows(MOST_ROWS_ON_ACCELERATOR, enough=AMPLE)
    assert slots == max(MOST_ROWS, enough)


# Of a GPU: a call, a time step of all layers, and of a row a little. From a small model to a large.
GPU_COSTS = [Cost(0.6e-3, 20e-6, 0.02e-6), Cost(1.1e-3, 60e-6, 0.4e-6), Cost(2e-3, 150e-6, 2e-6)]


@pytest.mark.parametrize("cost", GPU_COSTS)
def test_on_a_gpu_chunks_are_wide_and_as_long_as_newcomers_may_wait(cost: Cost) -> None:
    slots = slots_per_lane(OnGpu(), cost)
    assert slots > 2 * MAX_ENOUGH
    assert cost.enough_rows(slots) > MAX_ENOUGH, "more are worth it than on a processor"
    for rows in (1, 64, slots):
        a_step = cost.time_step_s + rows * cost.row_step_s
        longest = max(MIN_STEPS, int(QUANTUM_S / a_step))
        # A request of a usual length is one chunk where newcomers may wait for that.
        assert cost.best_steps([20] * rows, 256) == min(20, longest)
        assert cost.best_steps([20] * (rows - 1) + [256], 256) in (20, min(256, longest))
