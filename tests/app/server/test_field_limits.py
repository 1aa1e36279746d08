"""Targets and headers whose parts are too large or too many: refused before they are parsed."""

import json

import pytest

from app.errors import HeadTooLarge
from app.server.field_limits import (
    MAX_ITEMS,
    MAX_LINES,
    MAX_PARAMETERS,
    MAX_TARGET_BYTES,
    MAX_VALUE_BYTES,
    PARSED,
    check_fields,
)
from app.server.head_protocol import MAX_HEAD_BYTES
from tests.app.live import Connection, Live, head_of
from tests.app.server.routes import DIRECT, Routes, whole

LONG = MAX_HEAD_BYTES - 1000
COMMAS, LETTERS = "a," * (LONG // 2), "a" * LONG

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)


async def check_refused(connection: Connection, head: bytes, *words: str) -> None:
    """Whether a head without its body is answered by what is too large, its size and the limit."""
    answer = await connection.ask(head)
    assert answer.status == 431
    detail = json.loads(answer.body)["detail"]
    assert all(word in detail for word in words), detail
    assert await connection.end() == b""


@pytest.mark.parametrize("name", sorted(name.decode() for name in PARSED - {b"expect"}))
@pytest.mark.parametrize(
    ("value", "unit", "limit"),
    [(COMMAS, "bytes", MAX_VALUE_BYTES), ("a," * 300, "items", MAX_ITEMS)],
    ids=["long", "many"],
)
def test_a_header_that_is_parsed_has_a_limit(
    live: Live, name: str, value: str, unit: str, limit: int
) -> None:
    async def body(connection: Connection) -> None:
        head = head_of("/now", f"{name.title()}: {value}", "Content-Length: 1")
        await check_refused(connection, head, f"header {name} has ", unit, f"limit is {limit}")

    live.talk(body)
    assert live.direct == []


def test_the_size_is_told(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await check_refused(connection, head_of("/now", f"Accept: {COMMAS}"), f"{LONG} bytes")

    live.talk(body)


@pytest.mark.parametrize("separator", [",", ";", ", ", "=;"])
def test_the_lines_of_a_header_count_together(live: Live, separator: str) -> None:
    def head(items: int) -> bytes:
        lines = [f"Accept: a{separator}a"] * (items // 2)
        return head_of("/now", *lines, "Content-Length: 1")

    async def body(connection: Connection) -> None:
        taken = await connection.ask(head(MAX_LINES - 2) + b"1")
        assert (taken.status, taken.body) == (200, DIRECT + b"1")
        many = head_of("/now", *[f"Accept: {'a,' * 9}a"] * 30, "Content-Length: 1")
        await check_refused(connection, many, "header accept", "300 items", str(MAX_ITEMS))

    live.talk(body)


def test_short_lines_of_many_items_are_counted_too() -> None:
    """Fewer bytes than items are allowed."""
    lines = [(b"accept", b",,")] * 86
    with pytest.raises(HeadTooLarge, match="258 items"):
        check_fields(b"/", lines)
    check_fields(b"/", lines[:-1])


def test_what_is_not_parsed_may_be_long(live: Live) -> None:
    async def body(connection: Connection) -> None:
        for value in (COMMAS, LETTERS):
            head = head_of("/now", f"Authorization: {value}", "Content-Length: 1")
            assert (await connection.ask(head + b"1")).status == 200

    live.talk(body)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/now?" + "a&" * (LONG // 2), ("the target", f"{LONG + 5} bytes", str(MAX_TARGET_BYTES))),
        ("/now/" + "a" * MAX_TARGET_BYTES, ("the target", "8197 bytes", str(MAX_TARGET_BYTES))),
        ("/now?" + "a&" * 99, ("the query", "100 parameters", str(MAX_PARAMETERS))),
    ],
    ids=["long query", "long path", "parameters"],
)
def test_a_target_has_limits(live: Live, method: str, target: str, words: tuple[str, ...]) -> None:
    async def body(connection: Connection) -> None:
        head = head_of(target, "Content-Length: 1", method=method)
        await check_refused(connection, head, *words)

    live.talk(body)


def test_a_target_at_its_limits_is_taken(live: Live) -> None:
    async def body(connection: Connection) -> None:
        for query in ("&" * (MAX_PARAMETERS - 1), "a" * (MAX_TARGET_BYTES - len("/now?"))):
            assert (await connection.ask(whole(f"/now?{query}", b"1"))).body == DIRECT + b"1"

    live.talk(body)


@pytest.mark.parametrize("before", [b"", whole("/now", b"1")], ids=["first", "behind another"])
def test_many_lines_are_refused_at_the_first_that_is_too_much(live: Live, before: bytes) -> None:
    async def body(connection: Connection) -> None:
        lines = ["a:"] * (MAX_LINES - 2)
        taken = await connection.ask(head_of("/now", *lines, "Content-Length: 1") + b"1")
        assert taken.status == 200
        await connection.send(before + head_of("/now", *["a:"] * 10_000))
        if before:
            assert (await connection.answer()).body == DIRECT + b"1"
        answer = await connection.answer()
        assert answer.status == 431
        assert f"101 header lines or more, the limit is {MAX_LINES}" in answer.body.decode()
        assert len(connection.protocol.headers) == MAX_LINES + 1
        assert await connection.end() == b""

    live.talk(body)


def test_many_lines_behind_a_body_end_the_connection(live: Live) -> None:
    async def body(connection: Connection) -> None:
        head = head_of("/now", "Transfer-Encoding: chunked")
        await connection.send(head + b"1\r\nx\r\n0\r\n" + b"a:\r\n" * 10_000)
        assert (await connection.answer()).status == 431
        assert await connection.end() == b""
        assert len(connection.protocol.headers) == MAX_LINES + 1

    live.talk(body)


@pytest.mark.parametrize(
    ("path", "key"), [("/sessions/x", "detail"), ("/v2/models/x?a=1", "error")]
)
def test_the_answer_is_as_the_path_has_them(live: Live, path: str, key: str) -> None:
    async def body(connection: Connection) -> None:
        # Behind a request to another path in the same read.
        head = head_of(path, f"Accept: {COMMAS}")
        await connection.send(whole("/now", b"1") + head)
        assert (await connection.answer()).body == DIRECT + b"1"
        assert "accept" in json.loads((await connection.answer()).body)[key]

    live.talk(body)


def test_a_stream_is_not_opened_by_a_head_that_is_too_large(live: Live) -> None:
    async def body(connection: Connection) -> None:
        head = head_of("/stream", *UPGRADE, f"Sec-WebSocket-Protocol: {'a,' * 300}", method="GET")
        await check_refused(connection, head, "sec-websocket-protocol", "301 items")

    live.talk(body)


def test_what_is_refused_is_counted(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        await connection.ask(head_of("/now", f"Cookie: {COMMAS}"))

    live.talk(body)
    assert {status: n for _, status, n in routes.answers.counts() if n} == {"4xx": 1}
