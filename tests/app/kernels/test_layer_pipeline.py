"""Layers as the stages of a pipeline: the numbers of one thread, whoever computes which part."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernels.layer_pipeline import Grid, LayerPipeline

LIMIT_S = 30.0


class RunningSum:
    """A layer of one unit: adds up what comes from below, and the sum of before.

    Attributes:
        threads: that computed its parts, in their order.
        steps: time steps of each part.
    """

    def __init__(self, is_lowest: bool, is_top: bool) -> None:
        self.is_lowest, self.is_top = is_lowest, is_top
        self.threads: list[str] = []
        self.steps: list[int] = []
        self.together = 0
        self.pause_s = 0.0

    def __call__(
        self, sequences: np.ndarray, below: np.ndarray, states: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        self.together += 1
        assert self.together == 1, "two parts of a layer at once"
        self.threads.append(threading.current_thread().name)
        time.sleep(self.pause_s)
        taken = sequences.transpose(1, 0, 2) if self.is_lowest else below
        self.steps.append(len(taken))
        (before,) = states
        above = before + np.cumsum(taken, axis=0)
        self.together -= 1
        return (above.transpose(1, 0, 2) if self.is_top else above), [above[-1:]]


def stack(layers: int) -> list[RunningSum]:
    return [RunningSum(index == 0, index == layers - 1) for index in range(layers)]


def sums(layers: int, inputs: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, final = inputs, []
    for layer in range(layers):
        values = state[:, np.newaxis, layer : layer + 1] + np.cumsum(values, axis=1)
        final.append(values[:, -1])
    return values, np.concatenate(final, axis=1)


def numbers(rows: int, steps: int, layers: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(rows + steps)
    # Whole numbers: their sums are exact in any order.
    inputs = random.integers(-9, 9, (rows, steps, 1)).astype(np.float32)
    return inputs, random.integers(-9, 9, (rows, layers)).astype(np.float32)


def ends(steps: int, parts: int) -> list[int]:
    return [steps * part // parts for part in range(1, parts + 1)]


def pipeline(layers: list[RunningSum], may_help: bool = True) -> LayerPipeline:
    return LayerPipeline(layers, [[1]] * len(layers), lambda: may_help)


@given(st.integers(2, 5), st.integers(1, 3), st.integers(1, 40), st.data())
def test_any_parts_and_helpers_give_the_sums(
    layers: int, rows: int, steps: int, data: st.DataObject
) -> None:
    stages = stack(layers)
    inputs, state = numbers(rows, steps, layers)
    made = pipeline(stages)
    for _ in range(2):
        parts, helpers = data.draw(st.integers(1, steps)), data.draw(st.integers(0, layers))
        for found, expected in zip(
            made.run(inputs, state, ends(steps, parts), helpers),
            sums(layers, inputs, state),
            strict=True,
        ):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)


def test_layers_compute_at_the_same_time_and_parts_are_alike() -> None:
    stages = stack(3)
    for stage in stages:
        stage.pause_s = 0.01
    inputs, state = numbers(1, 40, 3)
    made = pipeline(stages)
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, sum(stage.together for stage in stages))

    watching = threading.Thread(target=watch)
    watching.start()
    made.run(inputs, state, ends(40, 8), helpers=2)
    done.set()
    watching.join()
    # Not by the time that it takes: other programs use the cores too.
    assert most == 3
    assert {len({*stage.threads}) for stage in stages} != {1}, "helpers compute too"
    assert all(stage.steps == [5] * 8 for stage in stages)


def test_a_helper_ends_with_its_part_once_it_may_not_help() -> None:
    stages = stack(3)
    stages[0].pause_s = 0.002
    inputs, state = numbers(1, 60, 3)
    made = pipeline(stages, may_help=False)
    for _ in range(3):
        found = made.run(inputs, state, ends(60, 20), helpers=2)
        np.testing.assert_array_equal(found[0], sums(3, inputs, state)[0])
    threads = [name for stage in stages for name in stage.threads]
    helped = [name for name in threads if name.startswith("layers-")]
    # Of each of three runs, at most one part of each of two.
    assert len(helped) <= 6
    assert len(threads) == 180


def test_no_thread_is_there_before_it_is_asked_for() -> None:
    before = threading.active_count()
    inputs, state = numbers(1, 8, 2)
    made = pipeline(stack(2))
    made.run(inputs, state, ends(8, 4), helpers=0)
    assert threading.active_count() == before
    made.run(inputs, state, ends(8, 4), helpers=5)
    # More than one beside the caller would have nothing to do.
    assert threading.active_count() == before + 1


class Failing(RunningSum):
    """Fails at its third part."""

    def __call__(
        self, sequences: np.ndarray, below: np.ndarray, states: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        if len(self.steps) == 2:
            raise MemoryError("no room")
        return super().__call__(sequences, below, states)


@pytest.mark.parametrize("helpers", [0, 2])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_what_a_layer_raises_its_caller_is_told_and_the_next_chunk_is_whole(
    layer: int, helpers: int
) -> None:
    stages = stack(3)
    stages[layer] = Failing(layer == 0, layer == 2)
    inputs, state = numbers(1, 30, 3)
    made = pipeline(stages)
    with pytest.raises(MemoryError, match="no room"):
        made.run(inputs, state, ends(30, 10), helpers)
    # A helper may be about to end its part.
    while any(stage.together for stage in stages):
        time.sleep(0.001)
    stages[layer].steps.clear()
    found = made.run(inputs, state, ends(30, 2), helpers)
    np.testing.assert_array_equal(found[0], sums(3, inputs, state)[0])


def test_a_helper_that_cannot_tell_whether_it_may_help_ends_the_chunk_and_goes_on() -> None:
    stages = stack(2)
    stages[0].pause_s = 0.001
    inputs, state = numbers(1, 40, 2)
    told: list[bool] = []

    def may_help() -> bool:
        told.append(True)
        if len(told) == 1:
            raise OSError("no board")
        return True

    made = LayerPipeline(stages, [[1]] * 2, may_help)
    with pytest.raises(OSError, match="no board"):
        made.run(inputs, state, ends(40, 20), helpers=1)
    while any(stage.together for stage in stages):
        time.sleep(0.001)
    found = made.run(inputs, state, ends(40, 20), helpers=1)
    np.testing.assert_array_equal(found[0], sums(2, inputs, state)[0])
    assert len(told) > 1, "the same helper helps again"


class Read(list[np.ndarray]):
    """What the lowest layer gave. The layer above reads how many, then the layer itself: just after
    that `goes_on` is called."""

    def __init__(self, goes_on: Callable[[], None]) -> None:
        self.reads = 0
        self.goes_on = goes_on

    def __len__(self) -> int:
        found = super().__len__()
        self.reads += 1
        if self.reads == 2:
            self.goes_on()
        return found


def test_a_part_that_ends_while_another_is_looked_for_is_not_taken_twice() -> None:
    stages = stack(2)
    inputs, state = numbers(1, 4, 2)
    states = [[state[np.newaxis, :, :1]], [state[np.newaxis, :, 1:]]]
    grid = Grid(stages, [inputs], states)
    begun, go = threading.Event(), threading.Event()

    def wait(*given: Any) -> Any:
        begun.set()
        go.wait(LIMIT_S)
        return RunningSum.__call__(stages[0], *given)

    grid._layers = [wait, stages[1]]
    other = threading.Thread(target=grid.work, args=(lambda: False,))

    def ends() -> None:
        go.set()
        other.join(0.2)

    other.start()
    begun.wait(LIMIT_S)
    grid._above[0] = Read(ends)
    grid.work(lambda: True)
    other.join(LIMIT_S)
    assert grid.error is None
    np.testing.assert_array_equal(grid.outputs[0], sums(2, inputs, state)[0])


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A pipeline that waits for a part that never comes would hang for ever."""
    timer = threading.Timer(LIMIT_S, lambda: pytest.exit("a pipeline hangs"))
    timer.start()
    yield
    timer.cancel()
