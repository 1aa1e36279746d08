"""The direct way of a route against FastAPI's, on a real port: nobody can tell them apart."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from app.api.problems import MEDIA_TYPE
from app.api.protocols.native import predict
from app.application import create_app
from app.service.inference import InferenceService
from app.settings import Settings
from tests.app.engine.running import is_idle, until
from tests.app.live import Answer, Connection, Live, chunked, head_of, request
from tests.app.running_service import Loader

POISON, OVERFLOW = 666.0, 777.0
ROW = [1.0, None, None, 0.0]
LIMIT = 5000


def body_of(value: float = 1.0, **options: Any) -> bytes:
    return json.dumps({"sequences": [[[value, *ROW[1:]]] * 3, [ROW]], **options}).encode()


def live_of(models_dir: Path, loader: Loader, **changes: Any) -> Live:
    sizes = {"model": "tiny", "lanes": 1, "slots_per_lane": 4, "max_chunk_steps": 16}
    settings = Settings(models_dir=models_dir, **{**sizes, **changes})
    return Live(create_app(settings, loader))


@pytest.fixture(scope="module", params=[0, 1], ids=["loop", "thread"])
def live(request: pytest.FixtureRequest, tiny_dir: Path) -> Iterator[Live]:
    loader = Loader(POISON, OVERFLOW)
    with live_of(tiny_dir, loader, max_body_bytes=LIMIT, lanes=request.param) as live:
        live.run(live.ready())
        yield live


def both(
    live: Live, body: bytes, *lines: str, path: str = "/predict", version: str = "1.1"
) -> tuple[Answer, Answer]:
    """The answers of the direct way and of FastAPI's, each on a connection of its own."""
    head, body = request(path, body, *lines, version=version)
    first = live.talk(lambda connection: connection.ask(head + body))
    before = len(live.direct)
    # Without a body there is nothing to send later but the end of the head's last line.
    second = live.talk(lambda connection: connection.ask(head, body))
    assert len(live.direct) == before, "it arrived in one piece"
    return first, second


@pytest.mark.parametrize(
    ("body", "lines", "status"),
    [
        (body_of(), (), 200),
        (body_of(outputs="last", states="concatenated"), (), 200),
        (body_of(outputs="none", states="none"), (), 200),
        (body_of(), ("Content-Type: text/plain",), 200),
        (body_of(), ("Content-Type: application/json; charset=utf-8",), 200),
        (body_of(), ("Accept: application/json, text/plain, */*",), 200),
        (body_of(), ("Accept: text/html",), 200),
        (body_of(), ("Connection: close",), 200),
        (body_of(initial_states=[[{"h": [5]}], None]), (), 200),
        (body_of(colour="red"), (), 422),
        (body_of(initial_states=[]), (), 422),
        (body_of(value=1e39), (), 422),
        (b"[]", (), 422),
        (b"{", (), 400),
        (body_of(model={"name": "other"}), (), 404),
        (body_of(), ("Content-Encoding: gzip",), 415),
        (body_of(), ("Content-Encoding: identity",), 200),
        (body_of().ljust(LIMIT), (), 200),
        (body_of().ljust(LIMIT + 1), (), 413),
        (body_of(OVERFLOW), (), 422),
        (body_of(POISON), (), 500),
    ],
)
def test_both_ways_give_the_same_bytes(
    live: Live, body: bytes, lines: tuple[str, ...], status: int
) -> None:
    direct, pieces = both(live, body, *lines)
    assert direct.status == status, direct.body
    assert direct.status == pieces.status
    assert direct.body == pieces.body
    assert direct.headers == pieces.headers
    assert direct.raw == pieces.raw


@pytest.mark.parametrize("path", ["/predict?colour=red", "/%70redict"])
def test_both_ways_have_the_same_paths(live: Live, path: str) -> None:
    before = len(live.direct)
    direct, pieces = both(live, body_of(), path=path)
    assert len(live.direct) == before + 1
    assert direct.status == pieces.status == 200
    assert direct.body == pieces.body


def test_both_ways_answer_http_1_0(live: Live) -> None:
    direct, pieces = both(live, body_of(), version="1.0")
    assert direct == pieces
    assert direct.headers["connection"] == "close"


def test_a_body_without_a_length_is_the_same(live: Live) -> None:
    head, body = chunked("/predict", body_of()[:7], body_of()[7:])
    direct = live.talk(lambda connection: connection.ask(head + body))
    pieces = live.talk(lambda connection: connection.ask(head, body[:9], body[9:]))
    assert direct.status == 200
    assert direct.body == pieces.body


def test_an_empty_body_is_no_json(live: Live) -> None:
    answer = live.talk(lambda connection: connection.ask(b"".join(request("/predict", b""))))
    assert (answer.status, answer.headers["content-type"]) == (400, MEDIA_TYPE)


def test_other_paths_and_methods_are_not_taken_for_it(live: Live) -> None:
    async def body(connection: Connection) -> None:
        before = len(live.direct)
        for path in ("/predict/", "/Predict", "/under/predict"):
            answer = await connection.ask(b"".join(request(path, body_of())))
            assert answer.status == 404
        for method in ("GET", "PUT"):
            answer = await connection.ask(head_of("/predict", method=method))
            assert (answer.status, answer.headers["allow"]) == (405, "post")
        assert len(live.direct) == before

    live.talk(body)


@pytest.mark.parametrize("body", [body_of(), b"{", b"{}"], ids=["good", "no JSON", "invalid"])
def test_both_ways_say_first_that_the_service_cannot_answer(tiny_dir: Path, body: bytes) -> None:
    """What is wrong with a body is of no use to who must come again anyway."""
    loader = Loader()
    loader.gate.clear()
    with live_of(tiny_dir, loader) as live:
        try:
            direct, pieces = both(live, body)
        finally:
            loader.gate.set()
    assert direct.status == pieces.status == 503, direct.body
    assert direct.body == pieces.body
    assert direct.headers == pieces.headers


def test_both_ways_say_that_the_line_is_full(tiny_dir: Path) -> None:
    loader = Loader()
    sizes = {"max_waiting_sequences": 2, "max_sequences": 2}

    async def run(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        first, second = await live.connect(), await live.connect()
        await first.send(b"".join(request("/predict", body_of())))
        await until(loader.runner.entered.is_set)
        head, body = request("/predict", body_of())
        direct = await second.ask(head + body)
        # FastAPI's way answers without the body, which is thrown away.
        pieces = await (await live.connect()).ask(head, body)
        assert direct.status == pieces.status == 503
        assert json.loads(direct.body)["title"] == json.loads(pieces.body)["title"]
        assert direct.headers["retry-after"] == pieces.headers["retry-after"] == "1"
        loader.runner.gate.set()
        assert (await first.answer()).status == 200

    with live_of(tiny_dir, loader, **sizes) as live:
        try:
            live.run(run(live))
        finally:
            loader.runner.gate.set()


def test_a_bug_is_a_500_that_tells_nothing_and_is_logged(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("the password is 1234")

    with monkeypatch.context() as patched:
        patched.setattr(predict, "parse_object", fail)
        answers = both(live, body_of())
    for answer in answers:
        assert answer.status == 500
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert json.loads(answer.body) == {
            "type": "urn:unroll:problem:the-service-failed",
            "title": "The service failed",
            "status": 500,
            "detail": "ValueError",
        }
    (record,) = [r for r in caplog.records if "this is a bug: /predict failed" in r.getMessage()]
    assert record.exc_info is not None
    assert "1234" in str(record.exc_info[1])
    # Nothing of it stays: the next is answered, and nobody runs.
    assert both(live, body_of())[0].status == 200
    assert is_idle(live.app.state.context.registry.engine)


def test_a_bug_in_printing_is_a_500_and_its_neighbours_are_answered(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[bytes] = []
    right = predict.answer

    def once(asked: Any) -> dict[str, Any]:
        if not printed:
            printed.append(b"")
            raise ValueError("no number")
        return right(asked)

    async def run() -> list[int]:
        connections = [await live.connect() for _ in range(3)]
        message = b"".join(request("/predict", body_of()))
        return sorted(
            answer.status for answer in await asyncio.gather(*(c.ask(message) for c in connections))
        )

    monkeypatch.setattr(predict, "answer", once)
    assert live.run(run()) == [200, 200, 500]


def test_requests_sent_ahead_are_computed_in_their_order(live: Live) -> None:
    async def body(connection: Connection) -> None:
        bodies = [body_of(float(i)) if i % 3 else b"{" for i in range(12)]
        await connection.send(b"".join(b"".join(request("/predict", b)) for b in bodies))
        for i in range(12):
            answer = await connection.answer()
            if i % 3:
                assert json.loads(answer.body)["outputs"][0][-1][0] == 3.0 * i
            else:
                assert answer.status == 400

    live.talk(body)


@pytest.mark.parametrize("count", [1, 2])
def test_a_kernel_that_hangs_does_not_hold_its_callers(tiny_dir: Path, count: int) -> None:
    loader = Loader()

    async def run(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        connections = [await live.connect() for _ in range(count)]
        message = b"".join(request("/predict", body_of()))
        for answer in await asyncio.gather(*(c.ask(message) for c in connections)):
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert json.loads(answer.body)["title"] == "The request took too long"
        assert len(live.direct) == count
        loader.runner.gate.set()
        await until(lambda: is_idle(live.app.state.context.registry.engine))
        assert (await connections[0].ask(message)).status == 200

    with live_of(tiny_dir, loader, request_timeout_s=0.3) as live:
        try:
            live.run(run(live))
        finally:
            loader.runner.gate.set()


def test_who_hangs_up_frees_what_waits_at_once(tiny_dir: Path) -> None:
    loader = Loader()

    async def run(live: Live) -> None:
        await live.ready()
        engine = live.app.state.context.registry.engine
        loader.runner.gate.clear()
        going, staying = await live.connect(), await live.connect()
        many = json.dumps({"sequences": [[ROW] * 100] * 6}).encode()
        await going.send(b"".join(request("/predict", many)))
        await until(loader.runner.entered.is_set)
        await staying.send(b"".join(request("/predict", body_of())))
        await until(lambda: engine.counters.waiting == 4)
        await going.close()
        # The kernel still stands.
        await until(lambda: (engine.counters.running, engine.counters.waiting) == (4, 2))
        loader.runner.gate.set()
        assert (await staying.answer()).status == 200
        await until(lambda: is_idle(engine))
        assert (engine.counters.completed, engine.counters.failed) == (2, 6)

    with live_of(tiny_dir, loader) as live:
        try:
            live.run(run(live))
        finally:
            loader.runner.gate.set()


@pytest.mark.long
@pytest.mark.parametrize("status", [200, 503])
def test_a_stop_answers_who_is_there(tiny_dir: Path, status: int) -> None:
    """With their numbers if there is time for it, else with the reason."""
    loader = Loader()

    async def run(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        connections = [await live.connect() for _ in range(3)]
        for connection in connections:
            await connection.send(b"".join(request("/predict", body_of())))
        await until(loader.runner.entered.is_set)
        stopping = asyncio.create_task(live.stop())
        await until(lambda: not live.app.state.context.registry.ready)
        if status == 200:
            loader.runner.gate.set()
        for connection in connections:
            answer = await connection.answer()
            assert answer.status == status
            assert await connection.end() == b""
        loader.runner.gate.set()
        await stopping

    drain_timeout_s = 20.0 if status == 200 else 0.2
    with live_of(tiny_dir, loader, drain_timeout_s=drain_timeout_s) as live:
        try:
            live.run(run(live))
        finally:
            loader.runner.gate.set()


@pytest.mark.long
@pytest.mark.parametrize("timeout_s", [0.2, 20.0])
def test_a_stop_tells_whose_body_has_not_arrived(tiny_dir: Path, timeout_s: float) -> None:
    """It could not be computed any more, so it is not waited for either."""

    async def run(live: Live) -> None:
        await live.ready()
        connection = await live.connect()
        head, body = request("/predict", body_of())
        await connection.send(head, body[:5])
        await until(lambda: connection.protocol.received == len(head) + 5)
        async with asyncio.timeout(3):
            stopping = asyncio.create_task(live.stop())
            answer = await connection.answer()
            assert await connection.end() == b""
            await stopping
        assert (answer.status, answer.headers["content-type"]) == (503, MEDIA_TYPE)
        assert b"5 bytes" in answer.body

    with live_of(tiny_dir, Loader(), drain_timeout_s=timeout_s) as live:
        live.run(run(live))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"accept", b"*/*", True),
        (b"accept", b"application/json, text/plain, */*", True),
        (b"accept", b"application/vnd.apache.arrow.stream", True),
        (b"accept", b"text/html", True),
        (b"accept", b"application/x-ndjson", False),
        (b"accept", b"Application/X-NDJSON; charset=utf-8", False),
        (b"accept", b"application/json;q=0, */*", False),
        (b"accept", b"application/json; q = 0.5, application/*", False),
        (b"content-type", b"application/x-ndjson", True),
        (b"expect", b"100-continue", False),
        (b"content-encoding", b"gzip", False),
    ],
)
def test_the_fast_path_is_for_who_may_not_want_lines(
    name: bytes, value: bytes, expected: bool
) -> None:
    """Lines need ASGI; what weighs formats, or names a kind of them, may get lines."""
    endpoint = predict.PredictEndpoint(cast(InferenceService, None))
    assert endpoint.takes(((b"host", b"test"), (name, value))) is expected
