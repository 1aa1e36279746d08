"""Streams, against a small service on a real port that answers running sums."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from websockets.sync.server import Server, ServerConnection, serve

from tests.client.callers import Caller
from unroll_client import (
    InvalidInput,
    InvalidRequest,
    NoAnswer,
    NotFound,
    NotUnderstood,
    Unavailable,
)

REFUSED = {"title": "The request is invalid", "status": 422, "detail": "/sequence: no"}


class Sums:
    """A service whose outputs and state are the sum of feature 0 so far.

    Attributes:
        heard: every message.
        headers: of the last caller.
    """

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.headers: Any = None

    def before(self, rows: Any) -> None:
        """Is called with each message before it is answered."""

    def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers = connection.request.headers
        total, time_step = 0.0, 0
        for text in connection:
            message = json.loads(text)
            self.heard.append(message)
            rows = message["sequence"]
            self.before(rows)
            if rows == [[-1.0]]:
                connection.send(json.dumps({"error": REFUSED}))
                continue
            if rows == [[-2.0]]:
                return
            if rows == [[-3.0]]:
                connection.send("[]")
                continue
            if "initial_state" in message:
                total = float((message["initial_state"] or "0").removeprefix("u1."))
            sums = []
            for row in rows:
                total += row[0]
                sums.append([total])
            wanted = {"all": sums, "last": sums[-1:], "none": []}[message["outputs"]]
            answer = {"time_step": time_step, "outputs": wanted}
            if message["states"] == "token":
                answer["state"] = f"u1.{total}"
            time_step += len(rows)
            connection.send(json.dumps(answer))


def port(server: Server) -> int:
    return int(server.socket.getsockname()[1])


@contextmanager
def running(handler: Any, **options: Any) -> Iterator[str]:
    """The URL of a server in a thread of its own."""
    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port(server)}/some/path"
        finally:
            server.shutdown()
            thread.join(30)


@pytest.fixture
def sums() -> Sums:
    return Sums()


@pytest.fixture
def url(sums: Sums) -> Iterator[str]:
    with running(sums) as made:
        yield made


def converse(caller: Caller, url: str, *calls: Any, state: Any = None, **options: Any) -> list[Any]:
    """What each call (a function of the stream) returns, or the error it raises."""
    caught = (InvalidInput, InvalidRequest, NoAnswer, NotUnderstood)

    def sync(client: Any) -> list[Any]:
        made: list[Any] = []
        with client.stream(initial_state=state) as stream:
            for call in calls:
                try:
                    made.append(call(stream))
                except caught as error:
                    made.append(error)
        return made

    async def asynchronous(client: Any) -> list[Any]:
        made: list[Any] = []
        async with client.stream(initial_state=state) as stream:
            for call in calls:
                try:
                    result = call(stream)
                    made.append(await result if hasattr(result, "__await__") else result)
                except caught as error:
                    made.append(error)
        return made

    whole: list[Any] = caller(sync if caller.sync else asynchronous, url=url, **options)
    return whole


def send(rows: Any, **options: Any) -> Any:
    return lambda stream: stream.send(rows, **options)


def test_each_message_goes_on_where_the_one_before_ended(caller: Caller, url: str) -> None:
    made = converse(caller, url, send([1.0, 9.0]), send([[2.0, 9.0], [3.0, 9.0]]))
    assert [y.tolist() for y in made] == [[1.0], [[3.0], [6.0]]]
    assert all(y.dtype == np.float32 for y in made)


@pytest.mark.parametrize(
    ("outputs", "expected"), [("all", [[1.0], [3.0]]), ("last", [3.0]), ("none", [])]
)
def test_outputs_of_all_time_steps_the_last_or_none(
    caller: Caller, url: str, outputs: str, expected: Any
) -> None:
    (made,) = converse(caller, url, send([[1.0], [2.0]], outputs=outputs))
    assert made.tolist() == expected


def test_another_stream_goes_on_from_what_was_saved(caller: Caller, url: str, sums: Sums) -> None:
    saved = lambda stream: stream.saved  # noqa: E731
    made = converse(caller, url, saved, send([1.0], save=True), send([2.0]), saved)
    assert made[0] is None
    assert made[3] == "u1.1.0", "the second was not to be saved"
    again = converse(caller, url, saved, send([5.0]), send([1.0]), state=made[3])
    assert again[0] == "u1.1.0"
    assert [y.tolist() for y in again[1:]] == [[6.0], [7.0]]
    assert [m.get("initial_state") for m in sums.heard] == [None, None, "u1.1.0", None]
    assert "initial_state" not in sums.heard[0]


def test_a_stream_may_begin_anew(caller: Caller, url: str) -> None:
    anew = lambda stream: stream.restart()  # noqa: E731
    made = converse(caller, url, send([1.0]), anew, send([5.0]), send([1.0]))
    assert [y.tolist() for y in (made[0], *made[2:])] == [[1.0], [5.0], [6.0]]


class Held(Sums):
    """As `Sums`, but the answer to 1.0 comes only when it is let go.

    Attributes:
        asked: that message is here.
        go: lets its answer go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def before(self, rows: Any) -> None:
        if rows == [[1.0]]:
            self.asked.set()
            assert self.go.wait(30)


def test_a_restart_while_an_answer_is_under_way_is_not_lost(caller: Caller) -> None:
    """Threads and tasks may share a stream: what is under way came before the restart."""
    held = Held()

    def sync(client: Any) -> list[Any]:
        with client.stream() as stream, ThreadPoolExecutor() as pool:
            first = pool.submit(stream.send, [1.0], save=True)
            assert held.asked.wait(30)
            stream.restart("u1.100")
            held.go.set()
            return [first.result(30), stream.saved, stream.send([2.0]), stream.send([4.0])]

    async def asynchronous(client: Any) -> list[Any]:
        async with client.stream() as stream:
            first = asyncio.create_task(stream.send([1.0], save=True))
            assert await asyncio.to_thread(held.asked.wait, 30)
            stream.restart("u1.100")
            held.go.set()
            return [await first, stream.saved, await stream.send([2.0]), await stream.send([4.0])]

    with running(held) as url:
        made = caller(sync if caller.sync else asynchronous, url=url)
    assert [y.tolist() for y in (made[0], *made[2:])] == [[1.0], [102.0], [106.0]]
    assert made[1] == "u1.100", "not the state from before the restart"
    assert [m.get("initial_state") for m in held.heard] == [None, "u1.100", None]


def test_what_is_refused_leaves_the_stream_as_it_was(caller: Caller, url: str) -> None:
    made = converse(
        caller, url, send([-1.0]), send([1.0]), send([np.inf]), send([1.0]), state="u1.7"
    )
    assert isinstance(made[0], InvalidRequest)
    assert made[1].tolist() == [8.0], "the initial state was sent once more"
    assert isinstance(made[2], InvalidInput)
    assert made[3].tolist() == [9.0]


def test_after_a_lost_connection_there_are_no_answers(caller: Caller, url: str) -> None:
    made = converse(caller, url, send([1.0]), send([-2.0]), send([1.0]))
    assert isinstance(made[1], NoAnswer)
    assert isinstance(made[2], NoAnswer)


def test_another_service_is_not_understood(caller: Caller, url: str) -> None:
    (error,) = converse(caller, url, send([-3.0]))
    assert isinstance(error, NotUnderstood)


def test_an_answer_that_does_not_come_ends_the_stream(caller: Caller) -> None:
    """What comes late must not be taken for the answer to the next message."""
    done = threading.Event()

    def silent(connection: ServerConnection) -> None:
        for _ in connection:
            pass
        done.set()

    with running(silent) as url:
        made = converse(caller, url, send([1.0]), send([2.0]), timeout_s=0.5)
    assert "TimeoutError" in str(made[0])
    assert "open another stream" in str(made[1])
    assert done.wait(30)


def test_a_message_that_is_too_large_is_the_callers_mistake(caller: Caller) -> None:
    """It did not count: the service closes before it reads one."""
    with running(Sums(), max_size=1000) as url:
        made = converse(caller, url, send([1.0]), send([[0.5]] * 1000), send([1.0]))
    assert isinstance(made[1], InvalidRequest)
    assert made[1].status == 413
    assert "UNROLL_MAX_BODY_BYTES" in str(made[1])
    assert isinstance(made[2], NoAnswer), "the stream has ended"


def test_a_stream_is_entered_once(caller: Caller, url: str) -> None:
    """Where it went on is not known to a new connection, which would begin from zeros."""

    def sync(client: Any) -> None:
        stream = client.stream()
        for _ in range(2):
            with stream:
                stream.send([1.0])

    async def asynchronous(client: Any) -> None:
        stream = client.stream()
        for _ in range(2):
            async with stream:
                await stream.send([1.0])

    with pytest.raises(InvalidInput, match="open another one from `saved`"):
        caller(sync if caller.sync else asynchronous, url=url)


def test_a_stream_that_could_not_be_opened_may_be_entered_again(caller: Caller) -> None:
    refusals = [503, None]

    def refuse_once(connection: ServerConnection, _: Any) -> Any:
        status = refusals.pop(0)
        return connection.respond(status, "later") if status else None

    def sync(client: Any) -> Any:
        stream = client.stream()
        with pytest.raises(Unavailable), stream:
            pass
        with stream:
            return stream.send([1.0])

    async def asynchronous(client: Any) -> Any:
        stream = client.stream()
        with pytest.raises(Unavailable):
            await stream.__aenter__()
        async with stream:
            return await stream.send([1.0])

    with running(Sums(), process_request=refuse_once) as url:
        made = caller(sync if caller.sync else asynchronous, url=url)
    assert made.tolist() == [1.0]


def test_path_and_headers_are_those_of_the_client(caller: Caller, url: str, sums: Sums) -> None:
    converse(caller, url, send([1.0]), headers={"Authorization": "Bearer x"})
    assert sums.headers["Authorization"] == "Bearer x"


def test_a_refused_stream_is_the_problem_that_it_is_answered_with(caller: Caller) -> None:
    def refuse(connection: ServerConnection, request: Any) -> Any:
        assert request.path == "/some/path/stream"
        return connection.respond(404, json.dumps({"title": "Not Found", "detail": "no stream"}))

    with running(Sums(), process_request=refuse) as url, pytest.raises(NotFound, match="no stream"):
        converse(caller, url)


def test_a_service_that_is_not_there_gives_no_answer(caller: Caller) -> None:
    with running(Sums()) as url:
        pass
    with pytest.raises(NoAnswer):
        converse(caller, url)


def test_a_stream_is_opened_first(caller: Caller) -> None:
    with pytest.raises(InvalidInput, match="opened by `with`"):
        caller(lambda client: client.stream().send([1.0]))
