"""While the service is overloaded, whole requests are refused before they are parsed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.problems import problem_of
from app.errors import Overloaded
from app.server.early_refusal import MOST_S, Refusal, early_refusal
from app.stats.answer_counts import PREDICT, V1
from tests.app.api.test_fast_path import body_of, live_of
from tests.app.engine.running import until
from tests.app.live import Connection, Live, head_of, request
from tests.app.running_service import Loader

PATHS = {("POST", "/predict"), ("POST", "/v1/models/tiny:predict")}
WHY = Overloaded("a reason", 2.4)
PLAIN = b"".join(request("/predict", b"{}", "Content-Type: application/json"))


def parts_of(refusal: Refusal) -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body."""
    head, _, body = refusal.rest.partition(b"\r\n\r\n")
    names_and_values = (line.partition(b": ")[::2] for line in head.split(b"\r\n"))
    return dict(names_and_values), body


def test_a_plain_request_is_refused_as_the_usual_way_does() -> None:
    refusal = early_refusal(PLAIN, PATHS, WHY)
    assert refusal is not None
    usual = problem_of(WHY, "/predict")
    assert (refusal.route, refusal.status) == (PREDICT, usual.status_code)
    headers, body = parts_of(refusal)
    assert headers == {**dict(usual.raw_headers), b"content-length": b"%d" % len(body)}
    assert headers[b"retry-after"] == b"3"
    assert json.loads(body).keys() == json.loads(usual.body).keys()


def test_each_protocol_refuses_in_its_words() -> None:
    refusal = early_refusal(b"".join(request("/v1/models/tiny:predict", b"{}")), PATHS, WHY)
    assert refusal is not None
    assert (refusal.route, refusal.status) == (V1, 429)
    _, body = parts_of(refusal)
    assert json.loads(body).keys() == {"error"}


def test_nobody_is_sent_away_for_hours() -> None:
    refusal = early_refusal(PLAIN, PATHS, Overloaded("", 1e9))
    assert refusal is not None
    headers, _ = parts_of(refusal)
    assert headers[b"retry-after"] == b"%d" % MOST_S


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"G",
        PLAIN + PLAIN,
        PLAIN[: PLAIN.index(b"\r\n\r\n")],
        b"".join(request("/predict", b"{}", version="1.0")),
        head_of("/predict", "Content-Length: 2000000"),
        b"".join(request("/elsewhere", b"{}")),
        b"".join(request("/predict?outputs=last", b"{}")),
        b"".join(request("/predict", b"{}", "Connection: close")),
        b"".join(request("/predict", b"{}", "Expect: 100-continue")),
        b"".join(request("/predict", b"{}", "Transfer-Encoding: chunked")),
        b"".join(request("/predict", b"{}", "Content-Length: 2")),
        b"".join(request("/predict", b"{}", "transfer-encoding : chunked")),
        b"".join(request("/predict", b"{}", "Prefer: wait=1")),
        head_of("/predict", method="GET"),
        head_of("/predict"),
        b"\r\n" + PLAIN,
        b"",
        b"\r\n\r\n",
        b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_plainly_a_whole_request_goes_the_usual_way(data: bytes) -> None:
    assert early_refusal(data, PATHS, WHY) is None


def test_the_rest_of_its_body_is_thrown_away(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    head, body = request("/predict", body_of().ljust(100_000))
    whole = b"".join(request("/predict", body_of()))

    async def talk(connection: Connection) -> list[int]:
        monkeypatch.setattr(live.app.state.context, "refusal", lambda _: WHY)
        await connection.send(head + body[:10])
        found = [(await connection.answer()).status]
        monkeypatch.setattr(live.app.state.context, "refusal", lambda _: None)
        await connection.send(body[10:50_000])
        # With its end comes the next request.
        found.append((await connection.ask(body[50_000:] + whole)).status)
        return found

    assert live.talk(talk) == [503, 200]


@pytest.fixture
def live(tiny_dir: Path) -> Iterator[Live]:
    with live_of(tiny_dir, Loader()) as live:
        live.run(live.ready())
        yield live


def test_a_connection_is_as_good_as_before(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    context = live.app.state.context
    refusals: list[Overloaded | None] = [None, WHY, WHY, None]
    whole = b"".join(request("/predict", body_of()))

    async def talk(connection: Connection) -> list[int]:
        found = []
        for refusal in refusals:
            monkeypatch.setattr(context, "refusal", lambda _, why=refusal: why)
            found.append((await connection.ask(whole)).status)
        # Nothing is refused early in the middle of a request, however it goes on.
        monkeypatch.setattr(context, "refusal", lambda _: None)
        head, body = request("/predict", PLAIN)
        await connection.send(head)
        await until(lambda: connection.protocol._within_message)
        monkeypatch.setattr(context, "refusal", lambda _: WHY)
        found.append((await connection.ask(body)).status)
        return found

    assert live.talk(talk) == [200, 503, 503, 200, 400]
    counts = {(route, status): n for route, status, n in context.stats.answers.counts()}
    assert counts["predict", "503"] == 2
    assert counts["predict", "200"] == 2


def test_who_is_refused_has_time_for_the_next_head(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = b"".join(request("/predict", body_of()))

    async def talk(connection: Connection) -> list[int]:
        found = []
        for _ in range(4):
            found.append((await connection.ask(whole)).status)
            await asyncio.sleep(0.25)
        # And no more than that.
        assert await connection.end() == b""
        return found

    with live_of(tiny_dir, Loader(), body_timeout_s=0.5) as live:
        live.run(live.ready())
        monkeypatch.setattr(live.app.state.context, "refusal", lambda _: WHY)
        assert live.talk(talk) == [503] * 4
