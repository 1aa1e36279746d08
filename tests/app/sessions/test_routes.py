"""Sessions over HTTP, on a real port: `POST /predict` both ways, `GET` and `DELETE /sessions`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.sessions.sqlite import SqliteStore
from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import is_idle, until
from tests.app.live import Answer, Live, head_of, request
from tests.app.running_service import Loader, Service, make_service

ROW = [1.0, None, None, 0.0]


@pytest.fixture
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, max_sessions=3) as service:
        yield service.wait_until_ready()


def rows(*values: float) -> list[list[float | None]]:
    return [[value, *ROW[1:]] for value in values]


def new(name: str) -> dict[str, Any]:
    """A session that begins with this piece, if it is not there."""
    return {"id": name, "must_exist": False}


def predict(service: Service, *values: float, status: int = 200, **options: Any) -> dict[str, Any]:
    answer = service.post("/predict", json={"sequences": [rows(*values)], **options})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def sums(answer: dict[str, Any]) -> list[float]:
    return [row[0] for row in answer["outputs"][0]]


def test_a_session_goes_on_and_tells_where_it_is(service: Service) -> None:
    first = predict(service, 1, 2, session=new("a"))
    assert sums(first) == [1, 3]
    assert first["session"] == {"id": "a", "time_step": 2}
    assert "states" not in first, "the service keeps the state"
    second = predict(service, 3, session=first["session"])
    assert sums(second) == [6]
    assert predict(service, 3, session=first["session"]) == second
    assert sums(predict(service, 4, session={"id": "a", "key": "k"})) == [10]


def test_states_are_answered_where_they_are_asked_for(service: Service) -> None:
    answer = predict(service, 1, session=new("a"), states="concatenated")
    assert answer["states"] == [[1.0]]


def test_a_session_can_be_looked_at_saved_and_begun_again_from_there(service: Service) -> None:
    predict(service, 1, 2, session=new("a/b c"))
    found = service.get("/sessions/a/b%20c").json()
    assert (found["id"], found["time_step"]) == ("a/b c", 2)
    assert 0 < found["expires_in_s"] <= 3600
    assert service.request("DELETE", "/sessions/a/b%20c").status_code == 204
    for method in ("GET", "DELETE"):
        gone = service.request(method, "/sessions/a/b%20c")
        assert gone.status_code == 404
        assert "'a/b c'" in gone.json()["detail"]
    session = {"id": "new", "time_step": found["time_step"]}
    again = predict(service, 4, session=session, initial_states=[found["state"]])
    assert sums(again) == [7]
    assert again["session"]["time_step"] == 3


@pytest.mark.parametrize(
    ("session", "pointer", "status"),
    [
        ("", "/session/id", 422),
        ("x" * 257, "/session/id", 422),
        ("a\nb", "/session/id", 422),
        (7, "/session", 422),
        ({}, "/session/id", 422),
        ({"id": "a", "time_step": -1}, "/session/time_step", 422),
        ({"id": "a", "time_step": "0"}, "/session/time_step", 422),
        ({"id": "a", "time_step": 2**53 + 1}, "/session/time_step", 422),
        ({"id": "a", "time_step": 2**64 - 1}, "/session/time_step", 422),
        ({"id": "a", "key": ""}, "/session/key", 422),
        ({"id": "a", "colour": 1}, "/session/colour", 422),
        ({"id": "a", "must_exist": 1}, "/session/must_exist", 422),
        ({"id": "a", "time_step": 7}, "/session", 404),
        ({"id": "a", "time_step": 0, "must_exist": True}, "/session", 404),
        ({"id": "a", "key": "k"}, "/session", 404),
        ("a", "/session", 404),
    ],
)
def test_what_is_no_session_is_told(
    service: Service, session: Any, pointer: str, status: int
) -> None:
    problem = predict(service, 1, session=session, status=status)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


def test_another_method_is_told_all_that_are_right(service: Service) -> None:
    wrong = service.request("PUT", "/sessions/a")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "DELETE, GET"
    assert wrong.json()["detail"] == "PUT is not allowed at '/sessions/a'; DELETE or GET is"


def test_a_session_is_one_sequence(service: Service) -> None:
    body = {"sequences": [rows(1), rows(2)], "session": "a"}
    answer = service.post("/predict", json=body)
    assert answer.status_code == 422
    assert "the request has 2" in answer.json()["detail"]


def test_a_conflict_tells_where_the_session_is(service: Service) -> None:
    predict(service, 1, 2, session=new("a"))
    problem = predict(service, 1, session={"id": "a", "time_step": 7}, status=409)
    assert "at time step 2" in problem["detail"]
    problem = predict(service, 1, session="a", status=409, initial_states=[[1.0]])
    assert "only a new session can begin from one" in problem["detail"]
    assert sums(predict(service, 4, session="a")) == [7], "nothing of it counted"


def test_a_piece_sent_again_from_another_state_is_refused(service: Service) -> None:
    session = {"id": "a", "time_step": 0}
    first = predict(service, 1, session=session, initial_states=[[2.0]])
    assert sums(first) == [3]
    problem = predict(service, 1, session=session, initial_states=[[5.0]], status=409)
    assert "another initial state" in problem["detail"]
    assert predict(service, 1, session=session, initial_states=[[2.0]]) == first


def test_a_session_that_has_gone_is_resumed_at_its_place(service: Service) -> None:
    token = predict(service, 1, 2, session=new("a"), states="token")["states"][0]
    service.request("DELETE", "/sessions/a")
    place = {"id": "a", "time_step": 2}
    predict(service, 4, session=place, status=404)
    again = predict(service, 4, session=place, initial_states=[token])
    assert (sums(again), again["session"]["time_step"]) == ([7], 3)


def test_what_has_gone_never_begins_anew_unless_the_caller_says_so(service: Service) -> None:
    begun: dict[str, Any] = {"id": "a", "time_step": 0, "key": "1"}
    predict(service, 1, session=begun)
    predict(service, 2, session={"id": "a", "key": "2"})
    service.request("DELETE", "/sessions/a")
    for later in (
        "a",
        {"id": "a", "key": "2"},
        {"id": "a", "key": "3"},
        {"id": "a", "time_step": 2},
    ):
        problem = predict(service, 4, session=later, status=404)
        assert problem["title"] == "There is no such session"
        assert "idle for too long" in problem["detail"]
    assert sums(predict(service, 1, session=begun)) == [1]


def test_one_session_too_many_is_refused_until_there_is_room(service: Service) -> None:
    for name in "abc":
        predict(service, 1, session=new(name))
    refused = predict(service, 1, session=new("d"), status=503)
    assert "3 sessions are kept, which is the limit" in refused["detail"]
    assert sums(predict(service, 2, session="a")) == [3]
    service.request("DELETE", "/sessions/b")
    predict(service, 1, session=new("d"))


def post(session: Any, *values: float) -> bytes:
    body = {"sequences": [rows(*values)], "session": session}
    return json.dumps(body).encode()


def test_pieces_are_answered_in_their_order_both_ways(tiny_dir: Path) -> None:
    """Four callers at once: two in one piece, past ASGI, two in two."""

    async def work(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        callers = [await live.connect() for _ in range(4)]
        for number, caller in enumerate(callers):
            head, body = request("/predict", post(new("a"), 2.0**number))
            await caller.send(*((head, body) if number % 2 else (head + body,)), b"")
        loader.runner.gate.set()
        answers = [await caller.answer() for caller in callers]
        assert [json.loads(a.body)["outputs"][0][0][0] for a in answers] == [1, 3, 7, 15]

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        live.run(work(live))


@pytest.mark.parametrize("both_go", [False, True])
def test_a_caller_who_hangs_up_leaves_its_session_as_it_was(tiny_dir: Path, both_go: bool) -> None:
    async def work(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        going = [await live.connect() for _ in range(1 + both_go)]
        staying = await live.connect()
        message = b"".join(request("/predict", post(new("a"), 1)))
        for caller in going:
            await caller.send(message)
        await until(loader.runner.entered.is_set)
        for caller in going:
            await live.leave(caller)
        await until(lambda: len(live.server.server_state.connections) == 1)
        loader.runner.gate.set()
        answer = await staying.ask(b"".join(request("/predict", post(new("a"), 4))))
        assert json.loads(answer.body)["outputs"][0][0][0] == 4
        await until(lambda: is_idle(live.app.state.context.registry.engine))

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        live.run(work(live))


def test_a_session_ends_after_the_pieces_that_came_before(tiny_dir: Path) -> None:
    async def work(live: Live) -> list[Answer]:
        await live.ready()
        loader.runner.gate.clear()
        first, second = await live.connect(), await live.connect()
        await first.send(b"".join(request("/predict", post(new("a"), 1))))
        await until(loader.runner.entered.is_set)
        await second.send(head_of("/sessions/a", method="DELETE"))
        loader.runner.gate.set()
        return [await first.answer(), await second.answer()]

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        assert [answer.status for answer in live.run(work(live))] == [200, 204]


def test_who_waits_for_a_session_for_too_long_is_told(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SqliteStore, "read", never)
    monkeypatch.setattr(SqliteStore, "delete", never)
    with make_service(tiny_dir, request_timeout_s=0.05) as service:
        for method in ("GET", "DELETE"):
            answer = service.wait_until_ready().request(method, "/sessions/a")
            assert answer.status_code == 503
            assert "for all of its time" in answer.json()["detail"]


def test_pieces_that_wait_for_their_session_have_a_limit(tiny_dir: Path) -> None:
    """Three of one session: the first is computed, the others wait for it. A fourth is too many."""

    async def work(live: Live) -> list[Answer]:
        await live.ready()
        engine = live.app.state.context.registry.engine
        loader.runner.gate.clear()
        callers = [await live.connect() for _ in range(5)]
        for caller in callers[:3]:
            await caller.send(b"".join(request("/predict", post(new("a"), 1))))
        await until(lambda: engine.counters.waiting + engine.counters.running == 3)
        refused = [
            await caller.ask(*request("/predict", body))
            for caller, body in zip(
                callers[3:], (post(new("a"), 1), post(new("b"), 1)), strict=True
            )
        ]
        loader.runner.gate.set()
        answers = [await caller.answer() for caller in callers[:3]]
        await until(lambda: is_idle(engine))
        return refused + answers

    loader = Loader()
    with live_of(tiny_dir, loader, max_sequences=1, max_waiting_sequences=3) as live:
        answers = live.run(work(live))
    assert [answer.status for answer in answers] == [503, 503, 200, 200, 200]
    assert b"3 sequences are waiting or running, the limit is 3" in answers[0].body
