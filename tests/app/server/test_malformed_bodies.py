"""Chunks that are none, and trailers: the request is answered with 400, once and in its turn."""

import json
from pathlib import Path

import pytest

from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import until
from tests.app.live import Connection, Live, head_of
from tests.app.running_service import Loader
from tests.app.server.routes import DIRECT, Routes, whole

MALFORMED = {
    "no number": b"xyz\r\n{}\r\n0\r\n\r\n",
    "negative": b"-1\r\n{}\r\n0\r\n\r\n",
    "too large": b"ffffffffffffffffff\r\n{}",
    "a line feed": b"2\n{}\r\n0\r\n\r\n",
    "longer than it says": b"1\r\n{}\r\n0\r\n\r\n",
    "none at all": b"\r\n",
    "a length behind it": b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n",
    "no header behind it": b"2\r\n{}\r\n0\r\na b\r\n\r\n",
}


@pytest.mark.parametrize("pieces", [1, 2], ids=["at once", "in pieces"])
@pytest.mark.parametrize("path", ["/now", "/waits"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_body_is_answered_with_400(
    live: Live, name: str, path: str, pieces: int
) -> None:
    head, body = head_of(path, "Transfer-Encoding: chunked"), MALFORMED[name]

    async def talk(connection: Connection) -> None:
        await connection.send(*([head + body] if pieces == 1 else [head, body]))
        answer = await connection.answer()
        assert answer.status == 400
        assert answer.headers["connection"] == "close"
        assert await connection.end() == b""

    live.talk(talk)


def test_answers_that_are_due_come_before_it(live: Live, routes: Routes) -> None:
    async def talk(connection: Connection) -> None:
        broken = head_of("/now", "Transfer-Encoding: chunked") + MALFORMED["no number"]
        await connection.send(whole("/later", b"1") + whole("/now", b"2") + broken)
        await until(lambda: b"1" in routes.waiting)
        await routes.tell(b"1")
        assert (await connection.answer()).body == DIRECT + b"1"
        assert (await connection.answer()).body[-1:] == b"2"
        assert (await connection.answer()).status == 400
        assert await connection.end() == b""

    live.talk(talk)


def test_who_has_an_answer_gets_no_second_one(live: Live) -> None:
    async def talk(connection: Connection) -> None:
        answer = await connection.ask(head_of("/nowhere", "Transfer-Encoding: chunked"))
        assert answer.status == 404
        await connection.send(MALFORMED["no number"])
        assert await connection.end() == b""

    live.talk(talk)


@pytest.mark.parametrize(
    ("path", "key"), [("/predict", "detail"), ("/v2/models/tiny/infer", "error")]
)
def test_it_is_told_in_the_words_of_its_protocol_and_counted_once(
    tiny_dir: Path, path: str, key: str
) -> None:
    async def talk(connection: Connection) -> None:
        await connection.send(head_of(path, "Transfer-Encoding: chunked"), MALFORMED["no number"])
        answer = await connection.answer()
        assert answer.status == 400
        assert "chunk size" in json.loads(answer.body)[key]
        assert await connection.end() == b""

    with live_of(tiny_dir, Loader()) as live:
        live.run(live.ready())
        live.talk(talk)
        counts = live.app.state.context.stats.answers.counts()
        assert {(route, status): n for route, status, n in counts if n} == {
            ("predict" if path == "/predict" else "v2", "400"): 1
        }
