"""An engine over `FakeRunner` and sequences for it.

Inputs are whole numbers, so that sums are exact in float32 in whatever order they are made.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from app.engine.cost_model import Cost
from app.engine.engine import Engine
from app.engine.scheduler import Sizes
from app.engine.sequence import Sequence
from tests.app.fakes import WIDE, FakeRunner


@asynccontextmanager
async def engine_of(
    runner: FakeRunner,
    cost: Cost = WIDE,
    clock: Callable[[], float] = time.monotonic,
    threads: bool = True,
    **changes: int,
) -> AsyncIterator[Engine]:
    """Its slots are enough for full chunks in all lanes, unless `changes` say otherwise.

    Without threads the event loop is the only lane.
    """
    if not threads:
        changes["lanes"] = 1
    sizes = {
        "lanes": 2,
        "chunk_rows": 3,
        "waiting": 10_000,
        "waiting_steps": 10**9,
        "chunk_steps": 16,
        **changes,
    }
    sizes.setdefault("slots", sizes["lanes"] * sizes["chunk_rows"])
    engine = Engine(runner, cost, Sizes(**sizes), clock, threads)
    engine.start(asyncio.get_running_loop())
    try:
        yield engine
    finally:
        runner.gate.set()
        await engine.drain(10.0)
        assert not engine.alive


def numbers(length: int, seed: int = 0) -> np.ndarray:
    """Whole numbers, none of them special: below 1000 * 500, far from 2**24."""
    return np.random.default_rng(seed).integers(-100, 100, (length, 1)).astype(np.float32)


def sequence(length: int, seed: int = 0, **changes: Any) -> Sequence:
    return Sequence(numbers(length, seed), **changes)


def assert_summed(sequence: Sequence, start: float = 0.0) -> None:
    expected = start + np.cumsum(sequence.inputs, axis=0)
    assert sequence.error is None
    np.testing.assert_array_equal(sequence.outputs, expected)
    assert sequence.state is not None
    assert sequence.state.tolist() == expected[-1].tolist()


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Waits for what another thread does. The limit is there to fail, not to measure."""
    give_up = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up, "it never happened"
        await asyncio.sleep(0.001)


def is_idle(engine: Engine) -> bool:
    load = engine.counters
    return load.waiting == load.running == 0
