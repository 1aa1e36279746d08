"""What is sent again, when, and what never is."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.callers import Caller, Script, good, problem
from unroll_client import (
    Conflict,
    Failed,
    InvalidRequest,
    NoAnswer,
    NotFound,
    NotUnderstood,
    Problem,
    Retry,
    Unavailable,
)
from unroll_client.plans import Answered, Call, Pause

ROWS = [[[1.0]]]
LOST = httpx.ReadError("the connection is lost")


@pytest.mark.parametrize(
    "trouble",
    [
        LOST,
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("broke off"),
        problem(429),
        problem(502),
        problem(503, retry_after="0"),
        problem(504),
    ],
)
def test_a_prediction_is_sent_again(caller: Caller, trouble: httpx.Response | Exception) -> None:
    script = Script(trouble, trouble, good())
    made = caller(lambda client: client.predict(ROWS), script)
    assert made.outputs[0].tolist() == [[1.5]]
    assert script.asked() == ["POST /some/path/predict"] * 3
    assert len({request.content for request in script.requests}) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (404, NotFound),
        (409, Conflict),
        (413, InvalidRequest),
        (415, InvalidRequest),
        (422, InvalidRequest),
        (500, Failed),
        (301, Failed),
    ],
)
def test_a_refusal_is_final(caller: Caller, status: int, kind: type[Problem]) -> None:
    faults = [{"pointer": "/sequences/0", "message": "must hold 9 features, got 1"}]
    script = Script(problem(status, "The request is wrong", errors=faults))
    with pytest.raises(kind, match=rf"The request is wrong \({status}\): because") as raised:
        caller(lambda client: client.predict(ROWS), script)
    error = raised.value
    assert type(error) is kind
    assert (error.status, error.title, error.detail) == (status, "The request is wrong", "because")
    assert [(f.pointer, f.message) for f in error.faults] == [tuple(faults[0].values())]


def test_what_stays_unavailable_is_given_up(caller: Caller) -> None:
    script = Script(*[problem(503, "The service is overloaded", retry_after="0")] * 3)
    with pytest.raises(Unavailable, match="overloaded"):
        caller(lambda client: client.predict(ROWS), script, retry=Retry(3, first_wait_s=0.0))
    assert len(script.requests) == 3


def test_what_stays_silent_is_given_up_with_its_cause(caller: Caller) -> None:
    script = Script(LOST, LOST)
    with pytest.raises(NoAnswer, match="ReadError: the connection is lost") as raised:
        caller(lambda client: client.predict(ROWS), script, retry=Retry(2, first_wait_s=0.0))
    assert raised.value.__cause__ is LOST


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"model": {"name": "x"}}),
        httpx.Response(200, json={"model": {"name": "x", "version": 1}, "outputs": [["x"]]}),
    ],
)
def test_another_service_is_not_understood(caller: Caller, answer: httpx.Response) -> None:
    with pytest.raises(NotUnderstood, match="no answer of Unroll"):
        caller(lambda client: client.predict(ROWS), Script(answer))


def test_a_page_of_a_proxy_is_a_problem_with_its_beginning(caller: Caller) -> None:
    page = httpx.Response(502, text="<html>Bad gateway" + "." * 1000)
    with pytest.raises(Unavailable, match="<html>Bad gateway") as raised:
        caller(lambda client: client.predict(ROWS), Script(page), retry=Retry(1))
    assert len(str(raised.value)) < 300


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that ends with an error."""

    data = b'{"model":{"name":"x","version":1}}\n{"sequence":0,"time_step":0,"outputs":[[1]]}\n'

    def __iter__(self):
        yield self.data
        raise LOST

    async def __aiter__(self):
        yield self.data
        raise LOST


def test_chunks_are_sent_again_before_the_first_and_never_after(caller: Caller) -> None:
    seen = []

    def read(client):
        chunks = client.predict_in_chunks(ROWS)
        return keep(chunks) if caller.sync else keep_async(chunks)

    def keep(chunks):
        for chunk in chunks:
            seen.append(chunk.time_step)

    async def keep_async(chunks):
        async for chunk in chunks:
            seen.append(chunk.time_step)

    script = Script(problem(503), LOST, httpx.Response(200, stream=Broken()))
    with pytest.raises(NoAnswer, match="lost"):
        caller(read, script)
    assert seen == [0]
    assert len(script.requests) == 3
    assert script.requests[0].headers["accept"] == "application/x-ndjson"


def test_an_error_before_the_first_chunk_is_the_problem_itself(caller: Caller) -> None:
    with pytest.raises(InvalidRequest, match="because"):
        caller(lambda client: client.predict_in_chunks(ROWS), Script(problem(422)))


def waits(retry: Retry, replies: list[httpx.Response | httpx.RequestError], lasts_s: float = 0.0):
    """The pauses that a plan makes, by a clock that only the plan moves."""
    now, replies = 0.0, list(replies)
    plan = Answered(retry, clock=lambda: now, chance=lambda: 1.0)(Call("GET", "/"))
    pauses, step = [], next(plan)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.wait_s)
                now += step.wait_s
                step = plan.send(None)
            else:
                now += lasts_s
                step = plan.send(replies.pop(0))
    except (StopIteration, Problem, NoAnswer):
        return pauses


def test_waits_double_up_to_their_limit() -> None:
    retry = Retry(attempts=7, total_s=1e9, first_wait_s=0.5, max_wait_s=5.0)
    assert waits(retry, [LOST] * 7) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_service_says_how_long_at_least() -> None:
    retry = Retry(first_wait_s=0.5)
    replies = [problem(503, retry_after="7"), problem(503, retry_after="soon"), good()]
    assert waits(retry, replies) == [7.5, 1.0]


def test_nothing_is_sent_after_the_total() -> None:
    retry = Retry(attempts=99, total_s=30.0, first_wait_s=5.0, max_wait_s=5.0)
    assert waits(retry, [LOST] * 99, lasts_s=5.0) == [5.0, 5.0, 5.0]
    assert waits(retry, [problem(503, retry_after="31")]) == []


@given(st.integers(1, 2000), st.floats(0, 100), st.floats(0, 1), st.none() | st.floats(0, 100))
def test_a_wait_is_never_shorter_than_asked_nor_past_the_total(
    sent: int, elapsed_s: float, chance: float, asked_s: float | None
) -> None:
    retry = Retry(attempts=1500)
    wait_s = retry.wait_s(sent, elapsed_s, chance, asked_s)
    if wait_s is not None:
        assert sent < retry.attempts
        assert elapsed_s + wait_s <= retry.total_s
        assert (asked_s or 0.0) <= wait_s <= (asked_s or 0.0) + retry.max_wait_s
