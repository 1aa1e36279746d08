"""HTTP on a true connection: what is answered directly, what by the application, and in order."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import Cancelled
from app.server.http_protocol import MAX_AHEAD, MAX_WRITE_BYTES, SLICE_BYTES
from tests.app.engine.running import until
from tests.app.live import Connection, Counting, Live, chunked, head_of, request
from tests.app.server.routes import (
    ASGI,
    DIRECT,
    MAX_BYTES,
    Routes,
    whole,
)


def test_head_is_answered_by_a_head_alone(live: Live) -> None:
    async def body(connection: Connection) -> None:
        for path, length in (("/plain", "5"), ("/nowhere", "9")):
            await connection.send(head_of(path, method="HEAD"))
            _, headers = await connection.head()
            assert headers["content-length"] == length
        # Nothing of it is left for the next answer.
        assert (await connection.ask(head_of("/plain", method="GET"))).body == b"hello"

    live.talk(body)


@pytest.mark.parametrize("status", [200, 204, 304])
def test_an_answer_without_a_body_is_not_kept_back(live: Live, status: int) -> None:
    async def body(connection: Connection) -> None:
        for _ in range(2):
            answer = await connection.ask(head_of(f"/empty/{status}", method="GET"))
            assert (answer.status, answer.body) == (status, b"")

    live.talk(body)


def test_an_answer_in_parts_arrives_whole_whatever_the_parts_look_like(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(head_of("/parts", "Connection: close", method="GET"))
        head, headers = await connection.head()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert headers["transfer-encoding"] == "chunked"
        rest = await connection.end()
        assert rest == b"b\r\nHTTP/1.1 is\r\n5\r\n what\r\nc\r\nHTTP/1.1 was\r\n0\r\n\r\n"

    live.talk(body)


def test_what_is_no_request_is_refused_and_the_connection_closed(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(b"nonsense\r\n\r\n")
        assert (await connection.end()).startswith(b"HTTP/1.1 400 ")

    live.talk(body)


# Who is answered directly.


def test_a_request_that_arrives_whole_is_answered_directly(live: Live) -> None:
    async def body(connection: Connection) -> None:
        for i in range(5):
            answer = await connection.ask(whole("/now", b"x" * i))
            assert (answer.status, answer.body) == (200, DIRECT + b"x" * i)
        answer = await connection.ask(b"".join(chunked("/now", b"ab", b"c")))
        assert answer.body == DIRECT + b"abc"

    live.talk(body)


@pytest.mark.parametrize(
    "line",
    [
        "Accept: application/json, text/plain, */*",
        "Accept: application/json; charset=utf-8",
        "Content-Type: application/json;charset=UTF-8",
        "Content-Type: application/octet-stream",
    ],
)
def test_what_asks_for_nothing_else_is_answered_directly(live: Live, line: str) -> None:
    async def body(connection: Connection) -> None:
        assert (await connection.ask(whole("/now", b"x", line))).body == DIRECT + b"x"

    live.talk(body)


def test_a_direct_answer_costs_no_task(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", b"1"))
        await until(lambda: bool(routes.waiting))
        assert not live.server.server_state.tasks
        await routes.tell(b"1")
        assert (await connection.answer()).body == DIRECT + b"1"

    live.talk(body)


def test_a_request_in_pieces_is_the_applications_wherever_it_is_cut(live: Live) -> None:
    message = whole("/now", b"12345678", "X-Any: thing")
    body_at = message.index(b"\r\n\r\n") + 4

    async def body(connection: Connection) -> None:
        for cut in range(1, len(message)):
            answer = await connection.ask(message[:cut], message[cut:])
            # Cut within its head it is whole when the rest of it has come.
            way = DIRECT if cut < body_at else ASGI
            assert (answer.status, answer.body) == (200, way + b"12345678"), cut

    live.talk(body)


def test_a_body_in_many_pieces_arrives_whole(live: Live) -> None:
    head, body_ = chunked("/now", b"first", b"second", b"third")

    async def body(connection: Connection) -> None:
        answer = await connection.ask(head, *(bytes([byte]) for byte in body_))
        assert answer.body == ASGI + b"firstsecondthird"
        assert (await connection.ask(whole("/now", b"next"))).body == DIRECT + b"next"

    live.talk(body)


@pytest.mark.parametrize(
    "message",
    [
        whole("/now", b"x" * (MAX_BYTES + 1)),
        whole("/now", b"x", "Content-Encoding: gzip"),
        whole("/now", b"x", "CONTENT-ENCODING: gzip"),
        whole("/now", b"x", "Content-Type: Text/CSV; charset=utf-8"),
        whole("/now", b"x", "Accept: application/json;q=0.5, text/csv"),
        head_of("/nowhere") + b"",
        head_of("/now", method="PUT"),
    ],
)
def test_what_asks_for_more_is_left_to_the_application(live: Live, message: bytes) -> None:
    async def body(connection: Connection) -> None:
        answer = await connection.ask(message)
        assert answer.body.startswith(ASGI) or answer.status in (404, 405)
        assert live.direct == []
        assert (await connection.ask(whole("/now", b"next"))).body == DIRECT + b"next"

    live.talk(body)


@pytest.mark.parametrize("sent_along", [b"", b"ok"])
def test_who_asks_for_leave_to_send_gets_it(live: Live, sent_along: bytes) -> None:
    async def body(connection: Connection) -> None:
        head = head_of("/now", "Content-Length: 2", "Expect: 100-continue")
        await connection.send(head + sent_along)
        assert (await connection.head())[0].startswith(b"HTTP/1.1 100 ")
        if not sent_along:
            await connection.send(b"ok")
        assert (await connection.answer()).body == ASGI + b"ok"

    live.talk(body)


def test_the_query_and_escapes_are_no_part_of_the_path(live: Live) -> None:
    async def body(connection: Connection) -> None:
        for path in ("/now?colour=red", "/n%6Fw"):
            assert (await connection.ask(whole(path, b"1"))).body == DIRECT + b"1"
        for path in ("/now/", "/Now", "//now"):
            assert (await connection.ask(whole(path, b"1"))).status == 404

    live.talk(body)


def test_an_upgrade_that_nobody_knows_is_no_hindrance(live: Live) -> None:
    """Some clients ask for HTTP/2 in this way."""

    async def body(connection: Connection) -> None:
        lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAM")
        answer = await connection.ask(whole("/now", b"1", *lines))
        assert (answer.status, answer.body) == (200, DIRECT + b"1")

    live.talk(body)


def test_a_huge_head_is_refused_and_hurts_nobody(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/now", b"1", "X-Huge: " + "x" * 1_000_000))
        first = await connection.reader.readexactly(12)
        assert first == b"HTTP/1.1 431"
        assert (await (await live.connect()).ask(whole("/now", b"2"))).body == DIRECT + b"2"

    live.talk(body)


# Several requests on a connection.


def test_requests_sent_ahead_are_answered_in_their_order(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(b"".join(whole("/now", str(i).encode()) for i in range(20)))
        for i in range(20):
            assert (await connection.answer()).body == DIRECT + str(i).encode()

    live.talk(body)


def test_who_is_sent_ahead_waits_for_the_one_before(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        kinds = [
            whole("/later", b"a"),
            whole("/now", b"b"),
            head_of("/plain", method="GET"),
            whole("/nowhere", b""),
            whole("/fails", b"c"),
            whole("/now", b"d"),
        ]
        await connection.send(b"".join(kinds))
        await until(lambda: b"a" in routes.waiting)
        assert live.direct == ["/later"]
        await routes.tell(b"a")
        found = [await connection.answer() for _ in kinds]
        assert [answer.status for answer in found] == [200, 200, 200, 404, 200, 200]
        ends = (b"a", b"b", b"hello", b"Not Found", b"c", b"d")
        for answer, end in zip(found, ends, strict=True):
            assert answer.body.endswith(end)
        # Afterwards all is as before.
        assert (await connection.ask(whole("/now", b"e"))).body == DIRECT + b"e"

    live.talk(body)


def test_one_sent_ahead_in_pieces_is_answered_too(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        second = whole("/now", b"second")
        await connection.send(whole("/later", b"a") + second[:-3])
        await routes.tell(b"a")
        assert (await connection.answer()).body == DIRECT + b"a"
        await connection.send(second[-3:])
        assert (await connection.answer()).body == ASGI + b"second"
        assert (await connection.ask(whole("/now", b"e"))).body == DIRECT + b"e"

    live.talk(body)


def test_a_request_behind_an_error_in_the_same_write_is_answered(live: Live) -> None:
    async def body(connection: Connection) -> None:
        pairs = [whole("/fails", b"no"), whole("/now", b"1")] * 3
        await connection.send(b"".join(pairs))
        for _ in range(3):
            answer = await connection.answer()
            assert (answer.status, b"/x: no" in answer.body) == (422, True)
            assert (await connection.answer()).body == DIRECT + b"1"

    live.talk(body)


def test_a_bug_is_a_500_and_the_connection_goes_on(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(connection: Connection) -> None:
        answer = await connection.ask(whole("/fails", b"bug"))
        assert (answer.status, b"ZeroDivisionError" in answer.body) == (500, True)
        assert b"Traceback" not in answer.body
        assert (await connection.ask(whole("/now", b"1"))).body == DIRECT + b"1"

    live.talk(body)
    (record,) = [r for r in caplog.records if "this is a bug: /fails" in r.getMessage()]
    assert record.exc_info is not None


def test_garbage_behind_a_request_does_not_reach_the_route(live: Live) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/now", b"1") + b"nonsense\r\n\r\n")
        assert (await connection.answer()).body == DIRECT + b"1"
        assert (await connection.end()).startswith(b"HTTP/1.1 400 ")
        assert live.direct == ["/now"]

    live.talk(body)


def test_requests_sent_ahead_without_end_are_not_read_without_end(
    live: Live, routes: Routes
) -> None:
    """Each answer lets in no more than it makes room for."""
    message = head_of("/plain", method="GET")

    async def read_on(connection: Connection) -> None:
        while await connection.reader.read(1 << 16):
            pass

    async def body(connection: Connection) -> None:
        connection.writer.write(whole("/later", b"1"))
        await until(lambda: b"1" in routes.waiting)
        connection.writer.write(message * 40_000)
        await until(lambda: bool(connection.protocol.pipeline))
        await routes.tell(b"1")
        reading = asyncio.create_task(read_on(connection))
        most = 0
        for _ in range(400):
            most = max(most, len(connection.protocol.pipeline))
            await asyncio.sleep(0)
        assert most <= MAX_AHEAD + SLICE_BYTES // len(message) + 1
        reading.cancel()

    live.talk(body)


def parsed_at_once(monkeypatch: pytest.MonkeyPatch, callback: str) -> list[int]:
    """How often the parser calls something, for each time that it is given anything."""
    counts: list[int] = []
    parse, call = HttpToolsProtocol.data_received, getattr(Counting, callback)

    def counting_parse(self: Any, data: bytes) -> None:
        counts.append(0)
        parse(self, data)

    def counting_call(self: Any) -> None:
        counts[-1] += 1
        call(self)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counting_parse)
    monkeypatch.setattr(Counting, callback, counting_call)
    return counts


def test_many_requests_of_one_read_let_others_have_their_turn(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
    counts = parsed_at_once(monkeypatch, "on_message_begin")

    async def body(connection: Connection) -> None:
        connection.writer.write(message * 3000 + whole("/now", b"last"))
        for _ in range(3000):
            assert (await connection.answer()).body == b"hello"
        assert (await connection.answer()).body.endswith(b"last")

    live.talk(body)
    assert sum(counts) == 3001
    assert max(counts) <= SLICE_BYTES // len(message) + 1


def test_many_chunks_of_one_read_let_others_have_their_turn(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = parsed_at_once(monkeypatch, "on_chunk_header")

    async def body(connection: Connection) -> None:
        answer = await connection.ask(b"".join(chunked("/now", *[b"x"] * 10_000)))
        assert answer.body == ASGI + b"x" * 10_000

    live.talk(body)
    assert sum(counts) == 10_001
    assert max(counts) <= SLICE_BYTES // len(b"1\r\nx\r\n") + 1


def test_what_follows_many_chunks_is_not_lost(live: Live) -> None:
    """A body in slices, then the request behind it, in the same read."""

    async def body(connection: Connection) -> None:
        many = b"".join(chunked("/now", *[b"x"] * 5000))
        connection.writer.write(many + whole("/now", b"behind"))
        assert (await connection.answer()).body == ASGI + b"x" * 5000
        assert (await connection.answer()).body.endswith(b"behind")

    live.talk(body)


# How connections end.


@pytest.mark.parametrize(
    ("lines", "version"), [(("Connection: close",), "1.1"), ((), "1.0")], ids=["close", "1.0"]
)
@pytest.mark.parametrize("path", ["/now", "/later", "/fails"])
def test_who_wants_no_more_is_told_and_the_connection_closed(
    live: Live, routes: Routes, path: str, lines: tuple[str, ...], version: str
) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole(path, b"1", *lines, version=version))
        if path == "/later":
            await routes.tell(b"1")
        answer = await connection.answer()
        assert answer.headers["connection"] == "close"
        assert await connection.end() == b""

    live.talk(body)


@pytest.mark.long
def test_an_idle_connection_is_closed_after_its_time_but_not_while_it_computes(
    routes: Routes,
) -> None:
    async def body(connection: Connection) -> None:
        assert (await connection.ask(whole("/now", b"1"))).status == 200
        # The timer of that answer must not end this one.
        await connection.send(whole("/later", b"2"))
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.call_later(2.5, over.set_result, None)
        await over
        await routes.tell(b"2")
        assert (await connection.answer()).body == DIRECT + b"2"
        assert await connection.end() == b""

    with Live(routes.app, lifespan="off", timeout_keep_alive=1) as live:
        live.talk(body)


def test_a_request_in_the_same_read_as_an_answer_stops_its_keep_alive_timer(
    routes: Routes,
) -> None:
    """The first is answered within the read, which starts the timer while the second begins."""

    async def body(connection: Connection) -> None:
        await connection.send(whole("/now", b"1") + whole("/later", b"2"))
        assert (await connection.answer()).body == DIRECT + b"1"
        await until(lambda: b"2" in routes.waiting)
        assert connection.protocol.timeout_keep_alive_task is None
        await routes.tell(b"2")
        assert (await connection.answer()).body == DIRECT + b"2"
        assert connection.protocol.timeout_keep_alive_task is not None

    with Live(routes.app, lifespan="off") as live:
        live.talk(body)


@pytest.mark.parametrize("size", [1, MAX_BYTES])
def test_who_hangs_up_is_given_up_at_once_and_once(live: Live, routes: Routes, size: int) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", b"x" * size))
        await until(lambda: bool(routes.waiting))
        await connection.close()
        await until(lambda: bool(routes.given_up))
        await until(lambda: routes.closed == 1)
        # The result comes nevertheless, and is nobody's.
        await routes.tell(b"x" * size)
        ((given_up, reason),) = routes.given_up
        assert given_up == b"x" * size
        assert isinstance(reason, Cancelled)
        assert not routes.deadlines._open

    live.talk(body)


def test_who_hangs_up_with_another_request_behind_is_given_up(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        message = whole("/waits", b"1")
        # What comes in pieces is the application's.
        await connection.send(message[:-1], message[-1:] + head_of("/plain", method="GET"))
        await until(lambda: bool(connection.protocol.pipeline))
        await until(lambda: routes.listening)
        await connection.close()
        await until(lambda: routes.left)

    live.talk(body)


def test_a_large_body_does_not_hide_that_its_caller_hangs_up(live: Live, routes: Routes) -> None:
    """A large body pauses reading, and who does not read does not see the end."""
    routes.app.state.context.max_body_bytes = 1 << 20
    large = b"x" * 100_000

    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", large))
        await until(lambda: connection.protocol.received > len(large))
        if not live.direct:
            pytest.skip("it came in pieces")
        await connection.close()
        await until(lambda: bool(routes.given_up))

    live.talk(body)


def test_every_connection_is_counted_when_it_closes(live: Live, routes: Routes) -> None:
    async def run() -> None:
        connections = [await live.connect() for _ in range(6)]
        await connections[0].ask(whole("/now", b"1"))
        await connections[1].ask(head_of("/plain", method="GET"))
        await connections[2].send(whole("/now", b"1")[:-1])
        await connections[3].send(b"nonsense\r\n\r\n")
        await connections[4].send(whole("/later", b"2"))
        for connection in connections:
            await connection.close()
        await until(lambda: routes.closed == 6)

    live.run(run())


def test_a_connection_that_ended_leaves_nothing_for_the_garbage_collector(live: Live) -> None:
    """It comes seldom: thousands of dead connections would pile up before it does."""

    async def dead(*messages: bytes) -> weakref.ref[Counting]:
        connection = await live.connect()
        for message in messages:
            await connection.ask(message)
        gone = weakref.ref(connection.protocol)
        await live.leave(connection)
        return gone

    async def run() -> None:
        for messages in ((), (whole("/now", b"1"),), (head_of("/plain", method="GET"),) * 2):
            gone = await dead(*messages)
            await until(lambda gone=gone: gone() is None)

    gc.collect()
    gc.disable()
    try:
        live.run(run())
    finally:
        gc.enable()


def test_a_body_that_never_ends_is_dropped_with_its_connection(live: Live) -> None:
    async def body(connection: Connection) -> None:
        message = whole("/now", b"12345678")
        await connection.send(message[:-4])
        await until(lambda: bool(live.server.server_state.tasks))
        await connection.close()
        await until(lambda: not live.server.server_state.tasks)
        assert live.direct == []

    live.talk(body)


def test_who_does_not_read_is_not_answered_without_end(live: Live, routes: Routes) -> None:
    """Its answers wait with it, not in the service's memory."""
    routes.app.state.context.max_body_bytes = 1 << 20
    size, count = 30_000, 400

    async def body(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        message = whole("/now", b"x" * size)
        sending = asyncio.create_task(connection.send(*[message * count]))
        await until(lambda: connection.protocol.flow.write_paused)
        await sending
        held = connection.protocol.transport.get_write_buffer_size()
        assert held < 40 * size
        await asyncio.sleep(0.05)
        assert routes.echoed < 40, "the kernel takes megabytes that are computed for nobody"
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(count):
            answer = await connection.answer()
            assert answer.body.endswith(b"x" * size)

    live.talk(body)


@pytest.mark.long
def test_at_the_end_those_who_are_there_are_answered(routes: Routes) -> None:
    async def run(live: Live) -> None:
        idle, busy = await live.connect(), await live.connect()
        await idle.ask(whole("/now", b"1"))
        await busy.send(whole("/later", b"2"))
        await until(lambda: b"2" in routes.waiting)
        stopping = asyncio.create_task(live.stop())
        assert await idle.end() == b""
        assert routes.drained > 0
        assert not stopping.done()
        await routes.tell(b"2")
        answer = await busy.answer()
        assert answer.body == DIRECT + b"2"
        assert answer.headers["connection"] == "close"
        assert await busy.end() == b""
        await stopping

    with Live(routes.app, lifespan="off") as live:
        live.run(run(live))


def test_what_the_application_raises_is_not_lost(live: Live, routes: Routes) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    async def body(connection: Connection) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(routes.app, "router", fail)
            # Nothing has been built before the first request, so this is what is built upon.
            answer = await connection.ask(*request("/now", b"1"))
        assert answer.status == 500

    live.talk(body)


LARGE = 20 * MAX_WRITE_BYTES + 7


def test_large_answers_leave_in_slices_and_in_their_order(live: Live, routes: Routes) -> None:
    routes.app.state.context.max_body_bytes = 2 * LARGE

    async def body(connection: Connection) -> None:
        other = await live.connect()
        first, second = (bytes([letter]) * LARGE for letter in b"ab")
        sending = asyncio.create_task(
            connection.send(whole("/now", first) + whole("/now", second) + whole("/now", b"c"))
        )
        # Others are answered in the middle of it.
        await until(lambda: connection.protocol.flow.write_paused)
        assert (await other.ask(whole("/now", b"d"))).body == DIRECT + b"d"
        for sent in (first, second, b"c"):
            assert (await connection.answer()).body[-len(sent) :] == sent
        await sending
        await until(lambda: not live.server.server_state.tasks)

    live.talk(body)


def test_a_large_answer_that_is_the_last_ends_before_the_connection_does(
    live: Live, routes: Routes
) -> None:
    routes.app.state.context.max_body_bytes = 2 * LARGE

    async def body(connection: Connection) -> None:
        answer = await connection.ask(whole("/now", b"x" * LARGE, "Connection: close"))
        assert answer.headers["connection"] == "close"
        assert answer.body[-LARGE:] == b"x" * LARGE
        assert await connection.end() == b""

    live.talk(body)


def test_who_hangs_up_within_a_large_answer_leaves_nothing(live: Live, routes: Routes) -> None:
    routes.app.state.context.max_body_bytes = 2 * LARGE

    async def body(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sending = asyncio.create_task(connection.send(whole("/now", b"x" * LARGE)))
        await until(lambda: bool(live.server.server_state.tasks))
        await sending
        connection.writer.transport.abort()
        await until(lambda: not live.server.server_state.tasks)
        await until(lambda: connection.protocol not in live.server.server_state.connections)

    live.talk(body)
