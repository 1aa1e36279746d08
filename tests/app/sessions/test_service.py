"""Sessions over a fake kernel that adds up: each number must be added once, in its turn."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.codec.state_token import StateTokens
from app.engine.engine import Engine
from app.engine.sequence import Sequence
from app.errors import NotFinite, Overloaded, SessionConflict, SessionsUnavailable, UnknownSession
from app.sessions import service as module
from app.sessions.continuation import Piece, SessionRef, Start
from app.sessions.record import Record
from app.sessions.service import SessionService
from app.sessions.sqlite import SqliteStore
from app.sessions.store import SessionStore
from tests.app.engine.running import engine_of, is_idle, until
from tests.app.fakes import FakeRunner

TOKENS = StateTokens("tiny", 1, [("rnn", 1, ("h",))])
OVERFLOW = 777.0


def sessions_of(path: Path | None = None) -> SessionService:
    return SessionService(SqliteStore(path, 10, 60.0))


async def send(
    sessions: SessionService, engine: Engine, *values: float, name: str = "a", **ref: object
) -> tuple[list[float], int]:
    """Outputs of a piece, which may begin its session, and the session's time steps after it."""
    inputs = np.array(values, np.float32).reshape(-1, 1)

    async def compute(start: Start) -> Sequence:
        sequence = Sequence(inputs, state=start.state)
        await engine.submit([sequence], admission)
        return sequence

    ref = {"must_exist": False, **ref}
    piece = Piece(SessionRef(name, **ref), inputs)  # type: ignore[arg-type]
    admission = engine.admit(len(inputs))
    try:
        sequence, time_step = await sessions.run(piece, compute, TOKENS)
    finally:
        engine.leave(admission)
    return sequence.outputs[:, 0].tolist(), time_step


def test_pieces_go_on_from_each_other_and_sessions_do_not_mix() -> None:
    async def work() -> None:
        sessions = sessions_of()
        async with engine_of(FakeRunner()) as engine:
            assert await send(sessions, engine, 1, 2) == ([1, 3], 2)
            assert await send(sessions, engine, 10, name="b") == ([10], 1)
            assert await send(sessions, engine, 3) == ([6], 3)
            assert await send(sessions, engine, 5, name="b") == ([15], 2)
            await sessions.delete("a")
            assert await send(sessions, engine, 3) == ([3], 1)

    asyncio.run(work())


def test_the_same_piece_twice_is_answered_twice_and_counts_once() -> None:
    async def work() -> None:
        sessions = sessions_of()
        async with engine_of(FakeRunner()) as engine:
            for time_step, value, answer in ((0, 1, [1]), (1, 2, [3]), (2, 4, [7])):
                for _ in range(3):
                    sent = await send(sessions, engine, value, time_step=time_step)
                    assert sent == (answer, time_step + 1)
            for key, value, answer in (("k", 1, [8]), ("l", 2, [10])):
                for _ in range(3):
                    assert (await send(sessions, engine, value, key=key))[0] == answer

    asyncio.run(work())


def test_pieces_of_one_session_are_computed_in_the_order_in_which_they_came() -> None:
    async def work() -> None:
        sessions = sessions_of()
        async with engine_of(FakeRunner()) as engine:
            values = np.arange(1.0, 41.0)
            answers = await asyncio.gather(*(send(sessions, engine, v) for v in values))
            assert [a[0] for a, _ in answers] == np.cumsum(values).tolist()
            assert [n for _, n in answers] == list(range(1, 41))

    asyncio.run(work())


def test_replicas_that_race_on_a_session_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    """Each answer is the sum of some order in which every piece was added once."""

    async def work() -> None:
        replicas = [sessions_of(tmp_path / "sessions") for _ in range(3)]
        async with engine_of(FakeRunner()) as engine:
            values = [float(2**n) for n in range(21)]
            tries = (send(replicas[n % 3], engine, v) for n, v in enumerate(values))
            answers = await asyncio.gather(*tries)
        in_order = sorted((time_step, sums[0]) for sums, time_step in answers)
        assert [time_step for time_step, _ in in_order] == list(range(1, 22))
        added = np.diff([0.0, *(total for _, total in in_order)])
        assert sorted(added) == values

    asyncio.run(work())


class Losing(SqliteStore):
    """A store whose next write is done, but not acknowledged."""

    loses = 0

    async def write(self, name: str, record: Record, over: Record | None) -> bool:
        done = await super().write(name, record, over)
        if self.loses:
            self.loses -= 1
            raise SessionsUnavailable("the connection broke")
        return done


def test_after_a_lost_acknowledgement_the_same_piece_is_safe() -> None:
    async def work() -> None:
        store = Losing(None, 10, 60.0)
        sessions = SessionService(store)
        async with engine_of(FakeRunner()) as engine:
            await send(sessions, engine, 1, time_step=0)
            store.loses = 1
            with pytest.raises(SessionsUnavailable):
                await send(sessions, engine, 2, time_step=1)
            assert await send(sessions, engine, 2, time_step=1) == ([3], 2)
            assert await send(sessions, engine, 4, time_step=2) == ([7], 3)

    asyncio.run(work())


def test_a_piece_that_fails_leaves_its_session_as_it_was() -> None:
    async def work() -> None:
        sessions = sessions_of()
        async with engine_of(FakeRunner(overflow=OVERFLOW)) as engine:
            await send(sessions, engine, 1)
            with pytest.raises(NotFinite):
                await send(sessions, engine, 2, OVERFLOW)
            assert await send(sessions, engine, 2) == ([3], 2)

    asyncio.run(work())


def test_who_gives_up_leaves_the_session_and_its_queue() -> None:
    async def work() -> None:
        sessions, runner = sessions_of(), FakeRunner()
        async with engine_of(runner) as engine:
            runner.gate.clear()
            computing, waiting, last = (
                asyncio.create_task(send(sessions, engine, value)) for value in (1, 2, 4)
            )
            await until(runner.entered.is_set)
            computing.cancel()
            waiting.cancel()
            runner.gate.set()
            assert await last == ([4], 1)
            await until(lambda: is_idle(engine))
            assert not sessions._queues, "nothing is left in a queue"

    asyncio.run(work())


def test_an_end_ends_after_its_piece_and_only_once() -> None:
    async def work() -> None:
        sessions = sessions_of()
        async with engine_of(FakeRunner()) as engine:
            await send(sessions, engine, 1)
            assert await send(sessions, engine, 2, end=True) == ([3], 2)
            with pytest.raises(UnknownSession):
                await sessions.read("a")
            with pytest.raises(UnknownSession):
                await send(sessions, engine, 2, end=True, must_exist=True)
            with pytest.raises(UnknownSession):
                await sessions.delete("a")

    asyncio.run(work())


@pytest.mark.parametrize("ref", [{}, {"key": "k"}, {"end": True}])
@pytest.mark.parametrize("how", ["ended", "expired"])
def test_a_session_that_goes_while_its_piece_is_computed_does_not_come_back(
    tmp_path: Path, ref: dict[str, Any], how: str
) -> None:
    now = 0.0

    async def work() -> None:
        nonlocal now
        one, other = (
            SessionService(SqliteStore(tmp_path / "sessions", 10, 60.0, lambda: now))
            for _ in range(2)
        )
        runner = FakeRunner()
        async with engine_of(runner) as engine:
            await send(one, engine, 1)
            runner.gate.clear()
            runner.entered.clear()
            computing = asyncio.create_task(send(one, engine, 2, **ref))
            await until(runner.entered.is_set)
            if how == "ended":
                await other.delete("a")
            else:
                now = 61.0
            runner.gate.set()
            with pytest.raises(UnknownSession, match="'a'"):
                await computing
            with pytest.raises(UnknownSession):
                await other.read("a")

    asyncio.run(work())


def test_a_start_begins_anew_though_the_session_goes_meanwhile(tmp_path: Path) -> None:
    async def work() -> None:
        one, other = sessions_of(tmp_path / "sessions"), sessions_of(tmp_path / "sessions")
        runner = FakeRunner()
        async with engine_of(runner) as engine:
            await send(one, engine, 1)
            runner.gate.clear()
            runner.entered.clear()
            computing = asyncio.create_task(send(one, engine, 2, start=True))
            await until(runner.entered.is_set)
            await other.delete("a")
            runner.gate.set()
            assert await computing == ([2], 1)
            assert await send(other, engine, 4) == ([6], 2)

    asyncio.run(work())


class Contested(SqliteStore):
    """A store where somebody else is always quicker."""

    async def write(self, name: str, record: Record, over: Record | None) -> bool:
        return False


class CrowdedOnce(SqliteStore):
    """A store where somebody else is quicker once, while others want the engine's room."""

    crowd: Callable[[], None] | None = None

    async def write(self, name: str, record: Record, over: Record | None) -> bool:
        crowd, self.crowd = self.crowd, None
        if crowd is None:
            return await super().write(name, record, over)
        crowd()
        return False


def test_a_piece_that_is_computed_again_is_not_refused_though_the_engine_is_full() -> None:
    async def work() -> None:
        store = CrowdedOnce(None, 10, 60.0)
        refused = 0
        async with engine_of(FakeRunner(), waiting=2) as engine:

            def crowd() -> None:
                nonlocal refused
                for _ in range(2):
                    try:
                        engine.begin([Sequence(np.ones((1, 1), np.float32))], lambda _: None)
                    except Overloaded:
                        refused += 1

            store.crowd = crowd
            assert await send(SessionService(store), engine, 1) == ([1], 1)
            assert refused == 1
            await until(lambda: is_idle(engine))

    asyncio.run(work())


def test_who_is_always_too_late_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 3)

    async def work() -> None:
        store: SessionStore = Contested(None, 10, 60.0)
        runner = FakeRunner()
        async with engine_of(runner) as engine:
            with pytest.raises(SessionConflict, match="3 times"):
                await send(SessionService(store), engine, 1)
        assert len(runner.calls) == 3

    asyncio.run(work())
