"""The engine over `FakeRunner`: the laws of continuous batching, exactly; who fails with whom."""

import asyncio
import socket
import threading
from functools import partial

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine import batch as batch_module
from app.engine.cost_model import Cost
from app.engine.engine import TELL_S
from app.engine.sequence import Sequence
from app.errors import Expired, NotFinite, Overloaded, RunFailed
from tests.app.engine.running import assert_summed, engine_of, is_idle, numbers, sequence, until
from tests.app.engine.scheduling import costs, quick_costs
from tests.app.fakes import FakeRunner

POISON = 666.0
OVERFLOW = 777.0


@pytest.mark.long
@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=12),
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(1, 70),
    costs,
)
def test_batched_is_alone_and_chunked_is_whole(
    lengths: list[int], lanes: int, rows: int, slots: int, chunk_steps: int, cost: Cost
) -> None:
    """One request or many, whatever the chunks: the running sum, which has no chunks."""

    async def run() -> None:
        sizes = {"lanes": lanes, "chunk_rows": rows, "slots": slots, "chunk_steps": chunk_steps}
        async with engine_of(FakeRunner(), cost, threads=lanes > 0, **sizes) as engine:
            together = [sequence(length, seed) for seed, length in enumerate(lengths)]
            apart = [sequence(length, seed) for seed, length in enumerate(lengths)]
            await asyncio.gather(
                engine.submit(together), *(engine.submit([single]) for single in apart)
            )
            for done in [*together, *apart]:
                assert_summed(done)
            assert engine.counters.time_steps == 2 * sum(lengths)
            assert engine.counters.completed == 2 * len(lengths)
            assert engine.counters.failed == 0
            assert is_idle(engine)

    asyncio.run(run())


@settings(max_examples=25)
@given(st.integers(2, 500), st.data(), st.integers(1, 70), costs)
def test_continued_is_uninterrupted(
    length: int, data: st.DataObject, chunk_steps: int, cost: Cost
) -> None:
    cut = data.draw(st.integers(1, length - 1), label="cut")

    async def run() -> None:
        async with engine_of(FakeRunner(), cost, chunk_steps=chunk_steps) as engine:
            whole = sequence(length)
            first = Sequence(whole.inputs[:cut])
            await engine.submit([whole, first])
            given_state = first.state
            assert given_state is not None
            before = given_state.copy()
            rest = Sequence(whole.inputs[cut:], state=given_state)
            await engine.submit([rest])
            joined = np.concatenate([first.outputs, rest.outputs])
            np.testing.assert_array_equal(joined, whole.outputs)
            np.testing.assert_array_equal(rest.state, whole.state)
            assert given_state.tolist() == whole.outputs[cut - 1].tolist()
            # The caller may continue from it again.
            np.testing.assert_array_equal(given_state, before)

    asyncio.run(run())


def test_a_slot_starts_clean_whoever_had_it_before() -> None:
    async def run() -> None:
        runner = FakeRunner(POISON, OVERFLOW)
        async with engine_of(runner, lanes=1, chunk_rows=1) as engine:
            for seed in range(3):
                for special in (POISON, OVERFLOW, 1000.0):
                    before = Sequence(np.full((40, 1), special, np.float32))
                    await asyncio.gather(engine.submit([before]), return_exceptions=True)
                    after = sequence(20, seed)
                    await engine.submit([after])
                    assert_summed(after)
            given_state = Sequence(numbers(20), state=np.array([7.0], np.float32))
            await engine.submit([given_state])
            assert_summed(given_state, start=7.0)

    asyncio.run(run())


def test_a_final_state_is_not_changed_by_the_next_in_the_slot() -> None:
    async def run() -> None:
        async with engine_of(FakeRunner(), lanes=1, chunk_rows=1) as engine:
            first, second = sequence(5, 1), sequence(5, 2)
            await engine.submit([first])
            await engine.submit([second])
            assert_summed(first)

    asyncio.run(run())


def test_a_cancelled_caller_frees_its_slots_and_the_others_finish() -> None:
    async def run() -> None:
        runner = FakeRunner()
        async with engine_of(runner, lanes=1, chunk_rows=2) as engine:
            runner.gate.clear()
            gone = [sequence(100, seed) for seed in range(3)]
            stays = [sequence(50, seed) for seed in range(3, 6)]
            leaving = asyncio.create_task(engine.submit(gone))
            await until(runner.entered.is_set)
            staying = asyncio.create_task(engine.submit(stays))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            # The one that waited has left at once, the two in flight leave with their chunk.
            assert engine.counters.running == 2
            assert engine.counters.waiting == 3
            runner.gate.set()
            await staying
            for done in stays:
                assert_summed(done)
            await until(lambda: is_idle(engine))
            assert (engine.counters.completed, engine.counters.failed) == (3, 3)
            # Not a time step more than the chunk that was in flight.
            assert engine.counters.time_steps == 2 * 16 + 3 * 50

    asyncio.run(run())


@pytest.mark.parametrize("threads", [True, False])
@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=9), st.data())
def test_a_poisoned_sequence_fails_alone(
    threads: bool, lengths: list[int], data: st.DataObject
) -> None:
    victim = data.draw(st.integers(0, len(lengths) - 1), label="victim")
    place = data.draw(st.integers(0, lengths[victim] - 1), label="place")

    async def run() -> None:
        async with engine_of(FakeRunner(POISON), threads=threads, lanes=1, chunk_rows=9) as engine:
            made = [sequence(length, seed) for seed, length in enumerate(lengths)]
            made[victim].inputs[place] = POISON
            found = await asyncio.gather(
                *(engine.submit([single]) for single in made), return_exceptions=True
            )
            error = found.pop(victim)
            assert isinstance(error, RunFailed)
            assert str(error) == "the kernel failed: RuntimeError"
            assert set(found) == {None}
            for single in made[:victim] + made[victim + 1 :]:
                assert_summed(single)
            assert engine.counters.failed == 1
            assert engine.counters.completed == len(lengths) - 1

    asyncio.run(run())


@pytest.mark.parametrize("threads", [True, False])
def test_a_sequence_that_overflows_fails_alone_and_is_named(threads: bool) -> None:
    async def run() -> None:
        runner = FakeRunner(overflow=OVERFLOW)
        async with engine_of(
            runner, threads=threads, lanes=1, chunk_rows=4, chunk_steps=8
        ) as engine:
            made = [sequence(30, seed, pointer=f"/sequences/{seed}") for seed in range(4)]
            made[2].inputs[13] = OVERFLOW
            found = await asyncio.gather(
                *(engine.submit([single]) for single in made), return_exceptions=True
            )
            error = found.pop(2)
            assert isinstance(error, NotFinite)
            (fault,) = error.faults
            assert fault.pointer == "/sequences/2"
            assert "between time steps 8 and 15" in fault.message
            assert set(found) == {None}
            for index in (0, 1, 3):
                assert_summed(made[index])

    asyncio.run(run())


def test_a_state_that_overflows_fails_though_the_outputs_do_not() -> None:
    class LosesItsState(FakeRunner):
        def run(
            self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            outputs, sums = super().run(inputs, lengths, state)
            return outputs, np.where(lengths[:, None] == 3, np.nan, sums)

    async def run() -> None:
        async with engine_of(LosesItsState()) as engine:
            made = [sequence(3), sequence(4)]
            found = await asyncio.gather(
                *(engine.submit([single]) for single in made), return_exceptions=True
            )
            assert [type(result) for result in found] == [NotFinite, type(None)]
            assert_summed(made[1])

    asyncio.run(run())


@pytest.mark.parametrize("threads", [True, False])
def test_a_request_with_a_bad_sequence_fails_and_its_others_leave(threads: bool) -> None:
    class StopsAfterACall(FakeRunner):
        def run(
            self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            made = super().run(inputs, lengths, state)
            # On the event loop nobody could open the gate again while a call waits for it.
            if threads:
                self.gate.clear()
            return made

    async def run() -> None:
        runner = StopsAfterACall(overflow=OVERFLOW)
        async with engine_of(runner, threads=threads, lanes=1, chunk_rows=2) as engine:
            bad = Sequence(np.full((1, 1), OVERFLOW, np.float32))
            with pytest.raises(NotFinite):
                await engine.submit([sequence(500, 1), bad, sequence(500, 2)])
            runner.gate.set()
            await until(lambda: is_idle(engine))
            assert engine.counters.failed == 3
            # The chunk with the bad one, and at most the one that was in flight behind it.
            assert engine.counters.chunks <= 2

    asyncio.run(run())


@pytest.mark.parametrize("threads", [True, False])
def test_a_row_is_not_computed_twice_when_its_chunk_fails_after_the_call(
    threads: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No memory for another row's outputs: the halves begin where the whole began."""

    async def run() -> None:
        runner = FakeRunner()
        async with engine_of(runner, threads=threads, lanes=1, chunk_rows=4) as engine:
            made = [sequence(30, 1), sequence(31, 2), sequence(40, 3)]
            empty = np.empty

            def fails(shape: object, *arguments: object) -> np.ndarray:
                if shape == (31, 1):
                    raise MemoryError
                return empty(shape, *arguments)  # type: ignore[call-overload]

            with monkeypatch.context() as patched:
                patched.setattr(batch_module.np, "empty", fails)
                found = await asyncio.gather(
                    *(engine.submit([single]) for single in made), return_exceptions=True
                )
            assert [type(result) for result in found] == [type(None), RunFailed, type(None)]
            assert_summed(made[0])
            assert_summed(made[2])

    asyncio.run(run())


def test_a_lone_caller_beside_a_kernel_that_computes_one_is_computed_too() -> None:
    """Nobody waits for rows that will not come."""

    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, lanes=2) as engine:
            tasks = [asyncio.create_task(engine.submit([sequence(5, 1)]))]
            await until(runner.entered.is_set)
            runner.entered.clear()
            tasks.append(asyncio.create_task(engine.submit([sequence(5, 2)])))
            await until(runner.entered.is_set)
            runner.gate.set()
            await asyncio.gather(*tasks)
            assert runner.calls == [1, 1]

    asyncio.run(run())


def test_who_waits_beside_a_larger_chunk_is_computed_when_that_is_back() -> None:
    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, lanes=2, chunk_rows=3) as engine:
            first = asyncio.create_task(engine.submit([sequence(5, seed) for seed in range(6)]))
            await until(lambda: len(engine._scheduler.in_flight) == 2)
            late = sequence(5, 7)
            second = asyncio.create_task(engine.submit([late]))
            await asyncio.sleep(0.01)
            assert engine.counters.waiting == 1
            runner.gate.set()
            await asyncio.gather(first, second)
            assert_summed(late)
            assert sorted(runner.calls) == [1, 3, 3]

    asyncio.run(run())


def test_who_waits_beside_a_lane_that_hangs_is_computed_by_another() -> None:
    """Nobody else comes or goes who would wake it."""

    class HangsOnPoison(FakeRunner):
        def run(
            self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            if (inputs == POISON).any():
                self.entered.set()
                self.gate.wait(30)
            else:
                self.calls.append(len(inputs))
            return np.zeros((*inputs.shape[:2], 1), np.float32), state

    async def run() -> None:
        runner = HangsOnPoison()
        runner.gate.clear()
        # An expected 10 ms a chunk: it is not overdue when the late one comes.
        cost = Cost(10e-3, 0.0, 0.0)
        async with engine_of(runner, cost, lanes=2, chunk_rows=2) as engine:
            stuck = [Sequence(np.full((3, 1), POISON, np.float32)) for _ in range(2)]
            quick = [sequence(3, seed) for seed in range(2)]
            tasks = [asyncio.create_task(engine.submit([*stuck, *quick]))]
            await until(lambda: len(runner.calls) == 1 and runner.entered.is_set())
            late = sequence(3, 7)
            tasks.append(asyncio.create_task(engine.submit([late])))
            try:
                await until(lambda: len(runner.calls) == 2 and late.status == "ended", 5.0)
            finally:
                runner.gate.set()
                await asyncio.gather(*tasks)
            assert runner.calls == [2, 1]

    asyncio.run(run())


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=5, max_size=60),
    st.integers(1, 4),
    st.integers(1, 8),
    quick_costs,
)
def test_no_wake_up_is_lost(
    callers: list[tuple[int, bool]], lanes: int, rows: int, cost: Cost
) -> None:
    """Callers who come and go one by one, each while lanes fall asleep: all are answered."""

    async def run() -> None:
        async with (
            engine_of(FakeRunner(), cost, lanes=lanes, chunk_rows=rows) as engine,
            asyncio.timeout(20),
        ):
            made, tasks = [], []
            for seed, (length, leaves) in enumerate(callers):
                made.append(sequence(length, seed))
                tasks.append(asyncio.create_task(engine.submit([made[-1]])))
                await asyncio.sleep(0)
                if leaves:
                    tasks[-1].cancel()
                elif seed % 7 == 0:
                    await tasks[-1]
            await asyncio.gather(*tasks, return_exceptions=True)
            for single, (_, leaves) in zip(made, callers, strict=True):
                if not leaves:
                    assert_summed(single)
            await until(lambda: is_idle(engine))

    asyncio.run(run())


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), costs)
def test_padding_is_counted(lengths: list[int], cost: Cost) -> None:
    """Rows times time steps of all calls: what is useful, and what is not."""
    computed = 0

    class Counts(FakeRunner):
        def run(
            self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            nonlocal computed
            computed += inputs.shape[0] * inputs.shape[1]
            return super().run(inputs, lengths, state)

    async def run() -> None:
        async with engine_of(Counts(), cost, lanes=1, chunk_rows=5) as engine:
            await engine.submit([sequence(length, seed) for seed, length in enumerate(lengths)])
            counters = engine.counters
            assert counters.time_steps == sum(lengths)
            assert counters.time_steps + counters.padding == computed

    asyncio.run(run())


def test_too_many_sequences_are_refused_and_nothing_is_queued() -> None:
    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, waiting=5) as engine:
            first = asyncio.create_task(engine.submit([sequence(5, seed) for seed in range(4)]))
            await until(runner.entered.is_set)
            with pytest.raises(Overloaded):
                await engine.submit([sequence(5), sequence(5)])
            load = engine.counters
            assert load.waiting + load.running == 4
            last = asyncio.create_task(engine.submit([sequence(5)]))
            runner.gate.set()
            await asyncio.gather(first, last)
            assert engine.counters.completed == 5
            assert engine.counters.failed == 0

    asyncio.run(run())


def test_a_deadline_ends_the_waiting_and_the_running() -> None:
    async def run() -> None:
        now = 0.0
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, clock=lambda: now, lanes=1, chunk_rows=1) as engine:
            made = [sequence(100, 1, deadline=5.0), sequence(10, 2, deadline=5.0)]
            patient = sequence(10, 3, deadline=50.0)
            tasks = [asyncio.create_task(engine.submit([s])) for s in (*made, patient)]
            await until(runner.entered.is_set)
            await until(lambda: engine.counters.waiting == 2)
            now = 5.0
            runner.gate.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in found] == [Expired, Expired, type(None)]
            assert_summed(patient)
            assert engine.counters.time_steps == 16 + 10

    asyncio.run(run())


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=4), min_size=8, max_size=40))
def test_many_callers_at_once_are_all_answered_and_batched(requests: list[list[int]]) -> None:
    async def run() -> None:
        runner = FakeRunner()
        runner.gate.clear()
        async with engine_of(runner, lanes=2, chunk_rows=8) as engine:
            made = [
                [sequence(length, 100 * i + j) for j, length in enumerate(request)]
                for i, request in enumerate(requests)
            ]
            tasks = [asyncio.create_task(engine.submit(request)) for request in made]
            await until(runner.entered.is_set)
            runner.gate.set()
            await asyncio.gather(*tasks)
            for request in made:
                for single in request:
                    assert_summed(single)
            counters = engine.counters
            assert counters.time_steps == sum(map(sum, requests))
            assert counters.completed == sum(map(len, requests))
            assert counters.chunks == len(runner.calls)
            assert counters.rows == sum(runner.calls)
            assert counters.rows > counters.chunks, "no chunk had more than one row"
            assert max(runner.calls) <= 8

    asyncio.run(run())


def test_threads_of_the_lanes_are_named_and_alive() -> None:
    async def run() -> None:
        async with engine_of(FakeRunner(), lanes=2) as engine:
            assert engine.alive
            names = {thread.name for thread in threading.enumerate()}
            assert {"lane-0", "lane-1"} <= names

    asyncio.run(run())


@pytest.mark.parametrize(("others", "rows"), [("", [2, 1, 2]), ("other", [2, 2, 1])])
def test_who_comes_while_a_chunk_is_computed_is_in_the_next_one_of_several_callers(
    others: str, rows: list[int]
) -> None:
    """On the loop that the service uses, which reads before it goes on with what is due."""
    ours, theirs = socket.socketpair()
    newcomer = sequence(2, 1, caller=others)

    class Asked(FakeRunner):
        def run(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if not self.calls:
                theirs.send(b"x")
            return super().run(*arguments)

    async def run() -> None:
        runner = Asked()
        async with engine_of(runner, threads=False, chunk_rows=2, chunk_steps=4) as engine:
            loop = asyncio.get_running_loop()

            def come() -> None:
                loop.remove_reader(ours)
                engine.begin([newcomer], lambda error: None)

            loop.add_reader(ours, come)
            engine.begin([sequence(4, 2, caller=others)], lambda error: None)
            await engine.submit([sequence(12)])
            assert runner.calls[:3] == rows
            assert_summed(newcomer)

    with ours, theirs:
        uvloop.run(run())


@pytest.mark.parametrize("callers", [1, 2])
def test_many_are_told_some_at_a_time_and_others_are_read_meanwhile(callers: int) -> None:
    """To print an answer takes its time; none is told twice, in whatever turn of the loop."""
    now, order, count = 0.0, [], 8

    def told(number: int, error: Exception | None) -> None:
        nonlocal now
        assert error is None
        now += TELL_S
        order.append(number)

    async def run() -> None:
        runner = FakeRunner()
        async with engine_of(
            runner, threads=False, chunk_rows=count, slots=4 * count, clock=lambda: now
        ) as engine:
            turns = 0

            def turn() -> None:
                nonlocal turns
                turns += len(order) < count
                asyncio.get_running_loop().call_soon(turn)

            for number in range(count):
                caller = str(number % callers)
                engine.begin([sequence(1, caller=caller)], partial(told, number))
            turn()
            await until(lambda: len(order) == count)
            assert order == list(range(count))
            assert turns >= count
            assert engine.counters.completed == count

    uvloop.run(run())
