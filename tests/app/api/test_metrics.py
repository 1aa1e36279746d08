"""`/metrics` counts every answer once, whichever way it went, refused ones too."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from app.api.protocols.native import predict
from tests.app.api.test_fast_path import LIMIT, OVERFLOW, POISON, ROW, body_of, both, live_of
from tests.app.engine.running import is_idle, until
from tests.app.live import Connection, Live, head_of, request
from tests.app.running_service import Loader
from tests.support.metrics_page import Scrape

INFER = "/v2/models/tiny/infer"
TENSOR = {"name": "sequences", "shape": [1, 1, 4], "datatype": "FP32", "data": [[[1.0, 0, 0, 0]]]}
OPERATING = Path("docs/operating.md").read_text(encoding="utf-8")
INSTANCES = json.dumps({"instances": [[ROW]]}).encode()


@pytest.fixture
def live(tiny_dir: Path) -> Iterator[Live]:
    with live_of(tiny_dir, Loader(POISON, OVERFLOW), max_body_bytes=LIMIT) as live:
        live.run(live.ready())
        yield live


async def scraped(connection: Connection) -> Scrape:
    await connection.send(head_of("/metrics", method="GET"))
    answer = await connection.answer()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.body.decode())


def scrape(live: Live) -> Scrape:
    return live.talk(scraped)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (body_of(), "200"),
        (b"{", "400"),
        (body_of(model={"name": "other"}), "404"),
        (body_of().ljust(LIMIT + 1), "413"),
        (b"{}", "422"),
        (body_of(OVERFLOW), "422"),
        (body_of(POISON), "500"),
    ],
)
def test_both_ways_count_each_answer_once(live: Live, body: bytes, status: str) -> None:
    both(live, body)
    found = scrape(live)
    assert found.requests() == {("predict", status): 2}
    assert found.timed("predict") == 2


def test_each_protocol_is_counted_for_itself(live: Live) -> None:
    both(live, json.dumps({"inputs": [TENSOR]}).encode(), path=INFER)
    both(live, json.dumps({"inputs": []}).encode(), path=INFER)
    for path in ("/v1/models/tiny:predict", "/v1/models/other:predict"):
        both(live, INSTANCES, path=path)

    async def others(connection: Connection) -> None:
        for path in ("/healthz", "/nothing", "/v2/models/tiny", "/predict", "/sessions/a"):
            await connection.send(head_of(path, method="GET"))
            await connection.answer()

    live.talk(others)
    found = scrape(live)
    assert found.requests() == {
        ("v2", "200"): 2,
        ("v2", "400"): 2,
        ("v1", "200"): 2,
        ("v1", "404"): 2,
        ("other", "200"): 2,
        ("other", "404"): 1,
        # 405
        ("other", "4xx"): 1,
        ("sessions", "404"): 1,
    }
    assert [found.timed(route) for route in ("predict", "v1", "v2", "stream")] == [0, 4, 4, 0]


def test_who_is_refused_since_the_line_is_full_is_counted(tiny_dir: Path) -> None:
    loader = Loader()

    async def run(live: Live) -> Scrape:
        await live.ready()
        loader.runner.gate.clear()
        first, second, third = [await live.connect() for _ in range(3)]
        await first.send(b"".join(request("/predict", body_of())))
        await until(loader.runner.entered.is_set)
        head, body = request("/predict", body_of())
        assert (await second.ask(head + body)).status == 503
        # FastAPI's way answers without the body, which is thrown away.
        assert (await third.ask(head, body)).status == 503
        answer = await second.ask(b"".join(request("/v1/models/tiny:predict", INSTANCES)))
        assert answer.status == 429
        # Nothing is counted before it is answered.
        assert (await scraped(second)).requests("predict") == {("predict", "503"): 2}
        loader.runner.gate.set()
        assert (await first.answer()).status == 200
        return await scraped(second)

    with live_of(tiny_dir, loader, max_waiting_sequences=2, max_sequences=2) as live:
        try:
            found = live.run(run(live))
        finally:
            loader.runner.gate.set()
    assert found.requests("predict", "v1") == {
        ("predict", "503"): 2,
        ("predict", "200"): 1,
        ("v1", "429"): 1,
    }
    assert (found.timed("predict"), found.timed("v1")) == (3, 1)


@pytest.mark.parametrize("whole", [True, False], ids=["direct", "in pieces"])
def test_who_hangs_up_is_counted_as_that(tiny_dir: Path, whole: bool) -> None:
    loader = Loader()

    async def run(live: Live) -> Scrape:
        await live.ready()
        # A thread computes, so that the event loop sees who goes.
        loader.runner.gate.clear()
        going, staying = await live.connect(), await live.connect()
        message = request("/predict", body_of())
        await going.send(*([b"".join(message)] if whole else message))
        await until(loader.runner.entered.is_set)
        await going.close()
        answers = live.app.state.context.stats.answers
        await until(lambda: any(n for _, status, n in answers.counts() if status == "499"))
        loader.runner.gate.set()
        await until(lambda: is_idle(live.app.state.context.registry.engine))
        return await scraped(staying)

    with live_of(tiny_dir, loader) as live:
        try:
            found = live.run(run(live))
        finally:
            loader.runner.gate.set()
    assert found.requests("predict") == {("predict", "499"): 1}
    assert found.timed("predict") == 1


def test_a_bug_is_counted_once_on_both_ways(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(predict, "parse_object", fail)
    both(live, body_of())
    assert scrape(live).requests() == {("predict", "500"): 2}


def test_an_answer_in_lines_is_one_answer(live: Live) -> None:
    async def ask(connection: Connection) -> None:
        message = request(
            "/predict", body_of(), "Accept: application/x-ndjson", "Connection: close"
        )
        await connection.send(b"".join(message))
        assert b"200 OK" in await connection.end()

    live.talk(ask)
    found = scrape(live)
    assert found.requests() == {("predict", "200"): 1}
    assert found.timed("predict") == 1


def test_messages_of_a_stream_are_counted(live: Live) -> None:
    async def run() -> None:
        port = live.server.servers[0].sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/stream") as stream:
            for sequence in ([ROW], [ROW, ROW], [], "x"):
                await stream.send(json.dumps({"sequence": sequence}))
                await stream.recv()

    live.run(run())
    found = scrape(live)
    assert found.requests() == {("stream", "200"): 2, ("stream", "422"): 2}
    assert found.timed("stream") == 4


def test_what_is_no_request_is_counted_too(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(b"GET / HTTP/x\r\n\r\n")
        assert b" 400 " in await connection.end()

    live.talk(body)
    assert scrape(live).requests() == {("other", "400"): 1}


def test_a_time_is_that_from_the_request_to_the_answer(tiny_dir: Path) -> None:
    loader = Loader()

    async def run(live: Live) -> Scrape:
        await live.ready()
        loader.runner.gate.clear()
        connection = await live.connect()
        await connection.send(b"".join(request("/predict", body_of())))
        await until(loader.runner.entered.is_set)
        await asyncio.sleep(0.06)
        loader.runner.gate.set()
        await connection.answer()
        return await scraped(connection)

    with live_of(tiny_dir, loader) as live:
        try:
            found = live.run(run(live))
        finally:
            loader.runner.gate.set()
    # Slower machines take longer, none is quicker.
    assert found.value("unroll_request_seconds_sum", route="predict") >= 0.06
    assert found.value("unroll_request_seconds_bucket", route="predict", le="0.05") == 0


def test_the_model_is_named_once_it_answers(tiny_dir: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    with live_of(tiny_dir, loader) as live:
        try:
            assert scrape(live).labels("unroll_model_info") == []
        finally:
            loader.gate.set()
        live.run(live.ready())
        found = scrape(live)
    assert found.labels("unroll_model_info") == [{"name": "tiny", "version": "1", "kernel": "fake"}]
    assert found.value("unroll_model_info", name="tiny", version="1", kernel="fake") == 1


def test_families_are_there_with_their_types_before_anything_happens(live: Live) -> None:
    found = scrape(live)
    assert found.types["unroll_requests"] == "counter"
    assert found.types["unroll_request_seconds"] == "histogram"
    assert found.types["unroll_model_info"] == "gauge"
    # A counter that is not there has no rate when it first rises.
    assert found.value("unroll_requests_total", route="predict", status="503") == 0


def test_the_document_has_every_metric_with_its_type_and_labels(live: Live) -> None:
    both(live, body_of())
    found = scrape(live)
    rows = re.findall(r"^\| `(unroll_\w+)(?:\{(.*)\})?` \| (\w+) \|", OPERATING, re.MULTILINE)
    documented = {name.removesuffix("_total"): kind for name, _, kind in rows}
    assert documented == {n: kind for n, kind in found.types.items() if n.startswith("unroll_")}
    for name, labels, kind in rows:
        sample = f"{name}_count" if kind == "histogram" else name
        (names,) = {",".join(labels) for labels in found.labels(sample)}
        assert sorted(names.split(",")) == sorted(labels.split(","))


def test_the_alerts_ask_for_what_there_is(live: Live) -> None:
    found = scrape(live)
    asked = re.findall(
        r"\b(unroll_\w+)(?:\{([^}]*)\})?", "".join(re.findall(r"expr: [^#]*?for:", OPERATING))
    )
    assert len(asked) > 5
    for name, selector in asked:
        labels = [*found.labels(name)]
        assert labels, name
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            assert set(values.split("|")) <= {of[label] for of in labels}
