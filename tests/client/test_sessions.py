"""A session says where each piece begins, so that a piece counts once however often it is sent."""

import asyncio
import inspect
import json
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.callers import Caller, Script, good, problem
from unroll_client import Conflict, InvalidInput, NoAnswer, NotFound, Retry

LOST = httpx.ReadError("lost")


def at(time_step: int, *outputs: float) -> httpx.Response:
    """An answer to a piece."""
    return good(outputs=[[[x] for x in outputs]], session={"id": "meter", "time_step": time_step})


def found(time_step: int) -> httpx.Response:
    kept = {"id": "meter", "time_step": time_step, "state": "u1.s", "expires_in_s": 9.5}
    return httpx.Response(200, json=kept)


def sent(script: Script, field: str) -> list[Any]:
    """A field of each body."""
    return [json.loads(r.content).get(field) for r in script.requests if r.method == "POST"]


class Steps:
    """Calls one thing after the other on a session, sync or async."""

    def __init__(self, caller: Caller, script: Script, **options: Any) -> None:
        self.caller, self.script, self.options = caller, script, options

    def __call__(self, *calls: Any, id: str = "meter", retry: Retry | None = None) -> list[Any]:
        """What each call (a function of the session) returns, or the error it raises."""

        async def all_calls(client: Any) -> list[Any]:
            session, made = client.session(id, **self.options), []
            for call in calls:
                try:
                    result = call(session)
                    made.append(await result if inspect.isawaitable(result) else result)
                except (Conflict, NoAnswer, NotFound) as error:
                    made.append(error)
            return made

        # What the sync client does within a loop blocks it, which hurts nobody here.
        work = (lambda client: asyncio.run(all_calls(client))) if self.caller.sync else all_calls
        return self.caller(work, self.script, **({"retry": retry} if retry else {}))


def test_a_new_session_begins_at_zero_and_each_piece_where_the_last_ended(caller: Caller) -> None:
    script = Script(problem(404), at(2, 1.0, 2.0), at(3, 4.0))
    two, one = Steps(caller, script)(lambda s: s.send([[1.0], [1.0]]), lambda s: s.send([2.0]))
    assert two.tolist() == [[1.0], [2.0]]
    assert one.tolist() == [4.0], "one row in, one row out"
    assert sent(script, "session") == [
        {"id": "meter", "time_step": 0}, {"id": "meter", "time_step": 2},
    ]  # fmt: skip
    assert sent(script, "states") == [None, None]
    assert script.asked()[0] == "GET /some/path/sessions/meter"


def test_a_known_session_goes_on_from_where_the_service_has_it(caller: Caller) -> None:
    script = Script(found(40), at(41, 1.0))
    Steps(caller, script, initial_state="u1.old")(lambda s: s.send([1.0]))
    assert sent(script, "session") == [{"id": "meter", "time_step": 40}]
    assert sent(script, "initial_states") == [None], "those are for new sessions"


def test_only_the_first_piece_of_a_new_session_carries_its_initial_state(caller: Caller) -> None:
    script = Script(problem(404), LOST, at(1, 1.0), at(2, 1.0))
    state = np.array([0.5], np.float32)
    send = lambda s: s.send([1.0])  # noqa: E731
    Steps(caller, script, initial_state=state)(send, send)
    assert sent(script, "initial_states") == [[[0.5]], [[0.5]], None]


def test_a_lost_answer_is_asked_for_with_the_same_time_step(caller: Caller) -> None:
    script = Script(found(7), LOST, problem(503), at(8, 3.0))
    (made,) = Steps(caller, script)(lambda s: s.send([1.0]))
    assert made.tolist() == [3.0]
    assert [s["time_step"] for s in sent(script, "session")] == [7, 7, 7]


def test_after_all_is_tried_the_same_piece_may_be_sent_again(caller: Caller) -> None:
    script = Script(found(7), LOST, at(8, 3.0))
    send = lambda s: s.send([1.0])  # noqa: E731
    error, made = Steps(caller, script)(send, send, retry=Retry(1))
    assert isinstance(error, NoAnswer)
    assert made.tolist() == [3.0]
    assert [s["time_step"] for s in sent(script, "session")] == [7, 7]


def test_a_conflict_is_raised_and_the_session_stays_where_it_believes_to_be(caller: Caller) -> None:
    script = Script(found(7), problem(409))
    error, time_step = Steps(caller, script)(lambda s: s.send([1.0]), lambda s: s.time_step)
    assert isinstance(error, Conflict)
    assert time_step == 7


def test_an_end_whose_answer_was_lost_is_an_end(caller: Caller) -> None:
    script = Script(LOST, problem(404))
    assert Steps(caller, script)(lambda s: s.end()) == [None]
    assert script.asked() == ["DELETE /some/path/sessions/meter"] * 2


def test_a_session_that_never_was_cannot_be_ended(caller: Caller) -> None:
    (error,) = Steps(caller, Script(problem(404)))(lambda s: s.end())
    assert isinstance(error, NotFound)


@pytest.mark.parametrize("lost", [LOST, problem(504), problem(502), httpx.ReadTimeout("slow")])
def test_an_end_that_may_have_been_done_is_an_end_whatever_else_went_wrong(
    caller: Caller, lost: Any
) -> None:
    script = Script(problem(503), lost, httpx.ConnectError("refused"), problem(404))
    assert Steps(caller, script)(lambda s: s.end()) == [None]


@pytest.mark.parametrize("trouble", [problem(503), problem(429), httpx.ConnectError("refused")])
def test_an_end_that_was_refused_or_not_sent_did_nothing(caller: Caller, trouble: Any) -> None:
    """So a session that is not there then never was."""
    script = Script(trouble, problem(404))
    (error,) = Steps(caller, script)(lambda s: s.end())
    assert isinstance(error, NotFound)


def test_after_its_end_a_session_begins_anew(caller: Caller) -> None:
    script = Script(found(7), at(8, 1.0), httpx.Response(204), at(1, 1.0))
    Steps(caller, script)(lambda s: s.send([1.0]), lambda s: s.end(), lambda s: s.send([1.0]))
    assert [s["time_step"] for s in sent(script, "session")] == [7, 0]


def test_a_session_that_has_begun_never_begins_anew(caller: Caller) -> None:
    script = Script(problem(404), at(1, 1.0), problem(404), problem(404))
    send = lambda s: s.send([1.0])  # noqa: E731
    _, gone, still_gone = Steps(caller, script)(send, send, send)
    assert isinstance(gone, NotFound)
    assert isinstance(still_gone, NotFound)
    assert [s["time_step"] for s in sent(script, "session")] == [0, 1, 1]


def test_a_session_that_must_exist_is_not_begun(caller: Caller) -> None:
    script = Script(problem(404), found(7), at(8, 1.0))
    send = lambda s: s.send([1.0])  # noqa: E731
    gone, made = Steps(caller, script, must_exist=True)(send, send)
    assert isinstance(gone, NotFound)
    assert made.tolist() == [1.0]
    assert [s["time_step"] for s in sent(script, "session")] == [7]


def test_what_is_kept_can_be_looked_at(caller: Caller) -> None:
    (info,) = Steps(caller, Script(found(7)))(lambda s: s.info())
    assert (info.time_step, info.state, info.expires_in_s) == (7, "u1.s", 9.5)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_any_id_is_one_part_of_the_path(id: str) -> None:
    script = Script(found(7))
    Steps(Caller("sync"), script)(lambda s: s.info(), id=id)
    path = script.requests[0].url.raw_path.decode()
    assert unquote(path) == f"/some/path/sessions/{id}"
    assert path.count("/") == 4


@pytest.mark.parametrize("id", [".", "..", "a/../b", "a?b#c", "%2e"])
def test_an_id_is_never_a_folder_or_a_query(id: str) -> None:
    script = Script(found(7))
    Steps(Caller("sync"), script)(lambda s: s.info(), id=id)
    assert unquote(script.requests[0].url.raw_path.decode()) == f"/some/path/sessions/{id}"


@pytest.mark.parametrize("id", ["x" * 70_000, "\ud800"])
def test_an_id_that_no_request_can_have_is_told(caller: Caller, id: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be sent: (URL too long|.*surrogates)"):
        caller(lambda client: client.session(id).info(), Script())


def test_a_session_needs_an_id(caller: Caller) -> None:
    with pytest.raises(InvalidInput, match="needs an id"):
        caller(lambda client: client.session(""), Script())
