"""What is sent again, when, and what never is."""

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.callers import Caller, Script, good, problem
from unroll_client import (
    AsyncClient,
    Client,
    Conflict,
    Failed,
    InvalidInput,
    InvalidRequest,
    NoAnswer,
    NotFound,
    NotUnderstood,
    Problem,
    Retry,
    Unavailable,
    UnrollError,
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


def models(state: str) -> httpx.Response:
    """An answer of `/models` with one model."""
    model = {
        "name": "tiny",
        "version": 1,
        "state": state,
        "features": [],
        "outputs": [],
        "layers": [],
    }
    return httpx.Response(200, json={"models": [model]})


def test_a_model_that_is_loading_is_asked_for_again(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unroll_client.decode.LOADING_S", 0.0)
    script = Script(problem(503), models("found"), models("loading"), models("ready"))
    made = caller(lambda client: client.model(), script)
    assert made.ref.name == "tiny"


def test_a_model_that_is_never_ready_is_given_up_with_its_state(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unroll_client.decode.LOADING_S", 0.0)
    script = Script(*[models("refused")] * 3)
    with pytest.raises(Unavailable, match="tiny 1 is refused"):
        caller(lambda client: client.model(), script, retry=Retry(3, first_wait_s=0.0))


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (httpx.LocalProtocolError("Illegal header value"), InvalidInput),
        (httpx.UnsupportedProtocol("no protocol"), InvalidInput),
        (httpx.DecodingError("Error -3 while decompressing data"), NotUnderstood),
        (httpx.TooManyRedirects("20"), NotUnderstood),
    ],
)
def test_what_would_fail_again_is_not_sent_again(
    caller: Caller, trouble: httpx.RequestError, kind: type[UnrollError]
) -> None:
    with pytest.raises(kind, match=f"{type(trouble).__name__}: {trouble}") as raised:
        caller(lambda client: client.predict(ROWS), Script(trouble))
    assert raised.value.__cause__ is trouble


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "begin with http://"),
        ("http://localhost:80a0", "'http://localhost:80a0' is no URL: .*80a0"),
        ("http://local\nhost", "is no URL"),
        ("http://999.1.1.1", "is no URL"),
        ("http://a..b", "is no URL"),
        (f"http://{'x' * 64}.test", "is no URL"),
        ("http://", "begin with http://"),
        ("http://:8000", "must name a host"),
        ("http://localhost:0", "port must be 1 to 65535, got 0"),
        ("http://localhost:65536", "port must be 1 to 65535, got 65536"),
    ],
)
def test_a_url_that_is_none_is_told_at_once(caller: Caller, url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        caller(lambda client: client, url=url)


@pytest.mark.parametrize("url", ["http://[::1]:8000/", "https://faß.example", "http://localhost."])
def test_any_url_of_a_host_is_one(caller: Caller, url: str) -> None:
    script = Script(good())
    caller(lambda client: client.predict(ROWS), script, url=url)
    assert script.asked() == ["POST /predict"]


@pytest.mark.parametrize("headers", [{"X-Name": "ü"}, {"ü": "x"}, {"X-Number": 7}])
def test_a_header_that_is_none_is_told_at_once(caller: Caller, headers: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="cannot be sent"):
        caller(lambda client: client, headers=headers)


def test_a_client_that_is_closed_says_so() -> None:
    client = Client("http://unroll.test")
    client.close()
    for call in (lambda: client.predict(ROWS), client.model, client.session("a").info):
        with pytest.raises(InvalidInput, match="the client is closed"):
            call()
    with pytest.raises(InvalidInput, match="the client is closed"):
        next(client.predict_in_chunks(ROWS))


def test_an_asynchronous_client_that_is_closed_says_so() -> None:
    async def work() -> None:
        client = AsyncClient("http://unroll.test")
        await client.aclose()
        with pytest.raises(InvalidInput, match="the client is closed"):
            await client.predict(ROWS)

    asyncio.run(work())


def test_an_error_of_the_program_is_its_own(caller: Caller) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        caller(lambda client: client.predict(ROWS), Script(RuntimeError("mine")))


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


def waits(
    retry: Retry,
    replies: list[httpx.Response | httpx.RequestError],
    lasts_s: float = 0.0,
    chance: float = 1.0,
):
    """The pauses that a plan makes, by a clock that only the plan moves."""
    now, replies = 0.0, list(replies)
    answered = Answered(retry, clock=lambda: now, chance=lambda: chance)
    plan = answered(Call("GET", "/"), lambda response: response)
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


@pytest.mark.parametrize("chance", [0.4, 0.5, 1.0])
def test_a_service_that_restarts_is_waited_for(chance: float) -> None:
    """It takes 8 seconds; with waits of any usual length nearly all of the 30 are used."""
    assert 25.0 < sum(waits(Retry(), [LOST] * 100, chance=chance)) <= 30.0


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
