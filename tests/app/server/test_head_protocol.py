"""Heads of requests: cut anywhere, too large, too slow, or none."""

import asyncio
import json

import pytest

from app.server.head_protocol import MAX_HEAD_BYTES
from tests.app.engine.running import until
from tests.app.live import Connection, Live, head_of
from tests.app.server.routes import DIRECT, Routes, whole

OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAM")


@pytest.fixture
def routes() -> Routes:
    routes = Routes()
    routes.app.state.context.body_timeout_s = 0.5
    return routes


async def taken(connection: Connection, part: bytes) -> bool:
    """Sends a part of a head; returns whether the service wants no more after it."""
    before = connection.protocol.received
    connection.writer.write(part)

    def closes() -> bool:
        return bool(connection.protocol.transport.is_closing())

    await until(lambda: closes() or connection.protocol.received > before)
    return closes()


async def flood(connection: Connection, part: bytes) -> None:
    """Sends parts of a head until the service wants no more, which is soon."""
    for _ in range(MAX_HEAD_BYTES // len(part) + 2):
        if await taken(connection, part):
            return
    raise AssertionError("it reads on")


def test_an_offer_to_upgrade_is_ignored_wherever_the_head_is_cut(live: Live) -> None:
    message = whole("/now", b"12345678", *OFFER)
    body_at = message.index(b"\r\n\r\n") + 4

    async def body(connection: Connection) -> None:
        for cut in range(1, body_at):
            answer = await connection.ask(message[:cut], message[cut:])
            assert (answer.status, answer.body) == (200, DIRECT + b"12345678"), cut

    live.talk(body)


def test_a_head_byte_by_byte_is_as_good(live: Live) -> None:
    async def body(connection: Connection) -> None:
        message = whole("/now", b"1")
        answer = await connection.ask(*(bytes([byte]) for byte in message[:-1]), message[-1:])
        assert (answer.status, answer.body[-1:]) == (200, b"1")

    live.talk(body)


def test_empty_lines_before_a_request_are_none_of_it(live: Live) -> None:
    async def body(connection: Connection) -> None:
        answer = await connection.ask(b"\r\n", b"\r\n" + whole("/now", b"1"))
        assert (answer.status, answer.body) == (200, DIRECT + b"1")

    live.talk(body)


def test_a_head_at_the_limit_is_taken_and_one_beyond_is_refused(live: Live) -> None:
    def message(size: int) -> bytes:
        without = len(head_of("/now", "Content-Length: 1", "X-Long: ")) - 4
        line = "X-Long: " + "x" * (size - without)
        return head_of("/now", "Content-Length: 1", line) + b"1"

    async def run() -> None:
        for pieces in (1, 7):
            for size, status in ((MAX_HEAD_BYTES, 200), (MAX_HEAD_BYTES + 1, 431)):
                sent = message(size)
                step = -(-len(sent) // pieces)
                parts = [sent[at : at + step] for at in range(0, len(sent), step)]
                answer = await (await live.connect()).ask(*parts)
                assert answer.status == status, (pieces, size)
        assert answer.headers["connection"] == "close"
        assert str(MAX_HEAD_BYTES) in json.loads(answer.body)["detail"]

    live.run(run())


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\nX: "]
)
def test_a_head_without_end_is_refused_and_takes_no_memory(live: Live, start: bytes) -> None:
    """A URL, a value, lines without end; behind a line feed alone the parser has it."""

    async def body(connection: Connection) -> None:
        part = b"X: yyyyyyyy\r\n" * 100 if start.endswith(b"1.1\r\n") else b"y" * 1000
        await connection.send(start)
        await flood(connection, part)
        answer = await connection.end()
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))

    live.talk(body)


def test_a_head_without_end_behind_a_request_is_refused_too(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/now", b"1") + b"GET / HTTP/1.1\r\nX: y")
        assert (await connection.answer()).body == DIRECT + b"1"
        await flood(connection, b"y" * 1000)
        assert (await connection.end()).startswith(b"HTTP/1.1 431 ")

    live.talk(body)


@pytest.mark.parametrize("path", ["/now", "/nowhere"])
@pytest.mark.parametrize("part", [b"X: yyyyyyyy\r\n" * 100, b"y" * 1000], ids=["lines", "a line"])
def test_headers_without_end_behind_a_body_are_not_read_without_end(
    live: Live, routes: Routes, path: str, part: bytes
) -> None:
    routes.app.state.context.body_timeout_s = 60.0

    async def body(connection: Connection) -> None:
        await connection.send(head_of(path, "Transfer-Encoding: chunked"), b"1\r\nx\r\n0\r\nX: y")
        await flood(connection, part)

    live.talk(body)


def test_headers_behind_a_body_are_none_of_the_request(live: Live) -> None:
    """Else they could ask for what its head did not."""

    async def body(connection: Connection) -> None:
        head = head_of("/now", "Transfer-Encoding: chunked")
        answer = await connection.ask(head + b"1\r\nx\r\n0\r\nContent-Encoding: gzip\r\n\r\n")
        assert (answer.status, answer.body) == (200, DIRECT + b"x")
        assert (await connection.ask(whole("/now", b"1"))).body == DIRECT + b"1"

    live.talk(body)


@pytest.mark.parametrize("before", [(), (whole("/now", b"1"),)], ids=["first", "later"])
def test_half_a_head_is_given_up_after_its_time(live: Live, before: tuple[bytes, ...]) -> None:
    async def body(connection: Connection) -> None:
        for message in before:
            assert (await connection.ask(message)).status == 200
        await connection.send(head_of("/now")[:-2])
        answer = await connection.answer()
        assert answer.status == 408
        assert "0.5 s" in json.loads(answer.body)["detail"]
        assert await connection.end() == b""

    live.talk(body)


def test_half_a_head_behind_a_request_in_the_same_read_is_given_up(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/now", b"1") + head_of("/now")[:-2])
        assert (await connection.answer()).body == DIRECT + b"1"
        assert (await connection.end()).startswith(b"HTTP/1.1 408 ")

    live.talk(body)


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
def test_a_connection_without_a_request_is_closed_without_a_word(live: Live, sent: bytes) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(sent)
        assert await connection.end() == b""

    live.talk(body)


def test_a_connection_is_closed_whose_body_goes_on_after_the_answer_but_does_not_end(
    live: Live,
) -> None:
    async def body(connection: Connection) -> None:
        answer = await connection.ask(head_of("/nowhere", "Content-Length: 9"))
        assert answer.status == 404
        await connection.send(b"1234")
        assert await connection.end() == b""

    live.talk(body)


def test_each_head_has_its_own_time(live: Live) -> None:
    """Every read ends within the next head."""
    message = whole("/now", b"1")

    async def body(connection: Connection) -> None:
        await connection.send(message[:20])
        for _ in range(8):
            await asyncio.sleep(0.1)
            await connection.send(message[20:] + message[:20])
            assert (await connection.answer()).body.endswith(b"1")

    live.talk(body)


def test_a_large_body_does_not_count_for_the_head_behind_it(live: Live, routes: Routes) -> None:
    routes.app.state.context.max_body_bytes = 1 << 20
    message = whole("/now", b"x" * (2 * MAX_HEAD_BYTES))

    async def run() -> None:
        connection = await live.connect()
        await connection.send(message + message[:30])
        assert (await connection.answer()).status == 200
        assert (await connection.ask(message[30:])).status == 200

    live.run(run())


def test_what_is_no_http_is_answered_once_however_long_it_is(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(b"nonsense\r\n\r\n" + b"x" * (2 * MAX_HEAD_BYTES))
        # It reads to the end: what it has sent beyond that resets nothing.
        assert (await connection.end()).count(b"HTTP/1.1 400") == 1
        counted = {status: n for route, status, n in routes.answers.counts() if n}
        assert counted == {"400": 1}

    live.talk(body)


def test_who_has_sent_a_head_has_time(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", b"1"))
        await until(lambda: b"1" in routes.waiting)
        await asyncio.sleep(0.7)
        await routes.tell(b"1")
        assert (await connection.answer()).body == DIRECT + b"1"

    live.talk(body)


@pytest.mark.parametrize(
    ("path", "key"),
    [("/sessions/z\u00e4hler", "detail"), ("/v2/models/z\u00e4hler", "error")],
)
def test_what_is_no_http_gets_a_problem_as_its_path_has_them(
    live: Live, path: str, key: str
) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await connection.answer()
        assert answer.status == 400
        assert "ASCII" in json.loads(answer.body)[key]
        assert await connection.end() == b""

    live.talk(body)


def test_garbage_behind_a_request_does_not_take_its_answer(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", b"1") + b"nonsense\r\n\r\n")
        await routes.tell(b"1")
        answer = await connection.answer()
        assert (answer.status, answer.body) == (200, DIRECT + b"1")
        assert answer.headers["connection"] == "close"
        assert await connection.end() == b""

    live.talk(body)


def test_a_body_that_is_none_ends_the_connection(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(head_of("/now", "Transfer-Encoding: chunked"), b"not hexadecimal\r\n")
        assert (await connection.end())[:12] in (b"", b"HTTP/1.1 400")

    live.talk(body)


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["paused", "closing"])
def test_who_reads_nothing_of_an_answer_is_cut_off(
    live: Live, routes: Routes, lines: tuple[str, ...]
) -> None:
    routes.app.state.context.max_body_bytes = 32 << 20

    async def body(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(whole("/now", b"x" * (16 << 20), *lines))
        await until(lambda: connection.protocol.flow.write_paused)
        await until(lambda: routes.closed == 1)

    live.talk(body)


def test_who_reads_an_answer_slowly_gets_all_of_it(live: Live, routes: Routes) -> None:
    routes.app.state.context.max_body_bytes = 32 << 20
    size = 16 << 20

    async def body(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(whole("/now", b"x" * size, "Connection: close"))
        await until(lambda: connection.protocol.flow.write_paused)
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await connection.head()
        read = 0
        while part := await connection.reader.read(1 << 20):
            read += len(part)
            await asyncio.sleep(0.01)
        assert read >= size

    live.talk(body)


@pytest.mark.parametrize(
    ("lines", "version", "status"),
    [
        (b"", "1.1", 400),
        (b"Host: a\r\nhost: a\r\n", "1.1", 400),
        (b"Host: a\r\nhost: b\r\n", "1.0", 400),
        (b"Host: a\r\n", "1.1", 200),
        (b"", "1.0", 200),
        (b"Host: a\r\n", "2.0", 400),
        (b"Host: a\r\n", "0.9", 400),
        (b"Host: a\r\nTransfer-Encoding: gzip\r\n", "1.1", 501),
        (b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", "1.1", 501),
        (b"Host: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "1.1", 501),
        (b"Host: a\r\nTransfer-Encoding: identity\r\n", "1.1", 501),
    ],
)
def test_a_head_says_once_where_it_goes_and_how_its_body_comes(
    live: Live, lines: bytes, version: str, status: int
) -> None:
    async def body(connection: Connection) -> None:
        start = b"POST /now HTTP/%s\r\nContent-Type: a/b\r\n" % version.encode()
        length = b"" if b"Transfer" in lines else b"Content-Length: 0\r\n"
        connection.writer.write(start + length + lines + b"\r\n")
        found = await connection.answer()
        assert found.status == status
        if status != 200:
            assert found.headers["connection"] == "close"
            assert await connection.end() == b""

    live.talk(body)
