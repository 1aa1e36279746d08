"""What takes some time is done some at a time, in order; the event loop reads in between."""

import asyncio
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from app.service.loop_turns import TURN_S, LoopTurns


@given(st.lists(st.floats(0.0, 3 * TURN_S), max_size=30))
def test_all_are_called_once_in_order_and_no_turn_takes_long(seconds: list[float]) -> None:
    now = 0.0
    called: list[int] = []
    of_turn: list[float] = [0.0]

    def work(number: int) -> None:
        nonlocal now
        now += seconds[number]
        of_turn[-1] += seconds[number]
        called.append(number)

    async def run() -> None:
        turns = LoopTurns(lambda: now)
        for number in range(len(seconds)):
            turns.call(partial(work, number))
        while len(called) < len(seconds):
            of_turn.append(0.0)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert called == list(range(len(seconds)))
    # The last one of a turn began within its time.
    assert max(of_turn) <= TURN_S + max(seconds, default=0.0)
    full = [spent for spent in of_turn[:-1] if spent]
    assert all(spent >= TURN_S * (1 - 1e-9) for spent in full[:-1]), "a turn with time to spare"


def test_a_turn_of_its_own_has_all_of_its_time() -> None:
    now = 0.0
    called: list[int] = []

    def work(number: int) -> None:
        nonlocal now
        now += TURN_S
        called.append(number)

    async def run() -> None:
        turns = LoopTurns(lambda: now)
        for number in range(5):
            turns.call(partial(work, number))
            assert called[-1] == number, "it waits for nobody"
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(run())
