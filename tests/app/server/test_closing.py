"""A connection ends without losing what its caller has sent or is sent; and who makes room."""

import asyncio
import logging
import math
import resource
import subprocess
import sys
from contextlib import suppress

import pytest

from app.api.connection_limit import (
    IDLE_STREAM_S,
    LOG_S,
    PAUSE_S,
    ConnectionLimit,
    connections_for,
)
from app.server import orderly_transport
from tests.app.engine.running import until
from tests.app.live import Connection, Live, head_of, request
from tests.app.server.routes import DIRECT, Routes, whole


@pytest.mark.parametrize(
    "pieces",
    [
        (whole("/now", b"1"),),
        request("/now", b"1"),
        (whole("/now", b"1", "Expect: nothing"),),
        (whole("/fails", b"1"),),
        (head_of("/plain", method="GET"),),
    ],
)
def test_who_is_sent_away_is_told_so_and_the_connection_closes(
    live: Live, routes: Routes, pieces: tuple[bytes, ...]
) -> None:
    async def body(connection: Connection) -> None:
        assert "connection" not in (await connection.ask(*pieces)).headers
        routes.sends_away = True
        assert (await connection.ask(*pieces)).headers["connection"] == "close"
        assert await connection.end() == b""

    live.talk(body)


def test_the_answer_to_a_request_that_was_under_way_says_so_too(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", b"1"))
        await until(lambda: b"1" in routes.waiting)
        routes.sends_away = True
        await routes.tell(b"1")
        assert (await connection.answer()).headers["connection"] == "close"

    live.talk(body)


def test_what_was_sent_ahead_is_answered_before_the_connection_closes(
    live: Live, routes: Routes
) -> None:
    """Be it parsed, a part of a head, or in the kernel because nothing is read for now."""

    async def body(connection: Connection) -> None:
        await connection.send(whole("/later", b"1") + whole("/now", b"2"))
        await until(lambda: b"1" in routes.waiting)
        routes.sends_away = True
        third = whole("/now", b"3")
        await connection.send(third[:20])
        connection.protocol.flow.pause_reading()
        connection.writer.write(third[20:] + head_of("/plain", method="GET"))
        await until(lambda: connection.protocol.transport.unread_bytes > 0)
        await routes.tell(b"1")
        answers = [await connection.answer() for _ in range(4)]
        assert [answer.body[-1:] for answer in answers] == [b"1", b"2", b"3", b"o"]
        assert [answer.headers.get("connection") for answer in answers] == [None] * 3 + ["close"]
        assert await connection.end() == b""

    live.talk(body)


def test_a_connection_is_not_idle_while_the_kernel_has_a_request_of_it(live: Live) -> None:
    async def body(connection: Connection) -> None:
        assert (await connection.ask(whole("/now", b"1"))).body == DIRECT + b"1"
        protocol = connection.protocol
        protocol.flow.pause_reading()
        connection.writer.write(whole("/now", b"2"))
        await until(lambda: protocol.transport.unread_bytes > 0)
        protocol.close_if_idle()
        protocol.timeout_keep_alive_handler()
        protocol.shutdown()
        protocol.flow.resume_reading()
        assert (await connection.answer()).body == DIRECT + b"2"
        protocol.close_if_idle()
        assert await connection.end() == b""

    live.talk(body)


def test_what_comes_behind_the_last_answer_resets_nothing(live: Live, routes: Routes) -> None:
    async def body(connection: Connection) -> None:
        routes.sends_away = True
        # Refused before its body is read.
        await connection.send(head_of("/plain", "Content-Length: 100000000"))
        connection.writer.write(b"x" * 3_000_000)
        assert (await connection.answer()).headers["connection"] == "close"
        connection.writer.write(b"x" * 3_000_000)
        assert await connection.end() == b""

    routes.sends_away = True
    live.talk(body)


def test_who_does_not_close_its_side_is_not_waited_for(
    live: Live, routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orderly_transport, "LINGER_S", 0.05)

    async def body(connection: Connection) -> None:
        routes.sends_away = True
        await connection.ask(whole("/now", b"1"))
        await until(lambda: routes.closed == 1)
        assert not live.server.server_state.connections

    live.talk(body)


# As many as there can be.


async def ends(connection: Connection) -> bool:
    try:
        return await connection.end() == b""
    except ConnectionResetError:
        return True


def test_a_newcomer_takes_the_place_of_who_has_been_waited_for_longest(
    live: Live, routes: Routes
) -> None:
    routes.connections.limit = 3

    async def body(first: Connection) -> None:
        silent, busy = await live.connect(), await live.connect()
        # The event loop's clock counts milliseconds.
        await asyncio.sleep(0.01)
        await busy.send(whole("/later", b"1"))
        await until(lambda: b"1" in routes.waiting)
        assert (await first.ask(whole("/now", b"1"))).body == DIRECT + b"1"
        newcomer = await live.connect()
        assert await ends(silent)
        assert (await newcomer.ask(whole("/now", b"2"))).body == DIRECT + b"2"
        await asyncio.sleep(0.01)
        assert (await first.ask(whole("/plain", b""))).status == 405
        another = await live.connect()
        assert await ends(newcomer)
        # It has asked since, and goes on.
        assert (await first.ask(whole("/now", b"3"))).body == DIRECT + b"3"
        assert (await another.ask(whole("/now", b"4"))).body == DIRECT + b"4"
        await routes.tell(b"1")
        assert (await busy.answer()).body == DIRECT + b"1"

    live.talk(body)


def test_where_requests_are_under_way_on_all_a_newcomer_is_refused(
    live: Live, routes: Routes
) -> None:
    routes.connections.limit = 1

    async def body(busy: Connection) -> None:
        await busy.send(whole("/later", b"1"))
        await until(lambda: b"1" in routes.waiting)
        newcomer = await live.connect()
        answer = await newcomer.ask(whole("/now", b"2"))
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert answer.headers["connection"] == "close"
        assert await newcomer.end() == b""
        await routes.tell(b"1")
        assert (await busy.answer()).body == DIRECT + b"1"
        counted = {status: n for route, status, n in routes.answers.counts() if n}
        assert counted == {"200": 1, "503": 1}

    live.talk(body)


def test_so_many_refusals_that_files_run_out_are_silent(live: Live, routes: Routes) -> None:
    routes.connections.limit = 1

    async def body(busy: Connection) -> None:
        await busy.send(whole("/later", b"1"))
        await until(lambda: b"1" in routes.waiting)
        port = live.server.servers[0].sockets[0].getsockname()[1]
        callers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        told = 0
        for reader, writer in callers:
            with suppress(ConnectionResetError):
                told += b"503" in await reader.read()
            writer.close()
        assert told == 32
        await routes.tell(b"1")

    live.talk(body)


class Quiet:
    is_quiet = True
    is_aborted = False

    def __init__(
        self, waits_since: float = 1.0, caller: str = "a", has_state: bool = False
    ) -> None:
        self.waits_since, self.caller, self.has_state = waits_since, caller, has_state

    def make_room(self) -> None:
        self.is_aborted = True
        self.waits_since = math.inf


def admits(limit: ConnectionLimit, others: list[Quiet], caller: str = "a") -> bool:
    """Whether a newcomer is admitted. Those that were closed are gone."""
    newcomer = Quiet(math.inf, caller)
    return limit.admits(newcomer, [newcomer, *(c for c in others if not c.is_aborted)])


def test_a_line_a_minute_says_so(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    limit = ConnectionLimit(2, lambda: now)
    with caplog.at_level(logging.WARNING):
        for step in range(240):
            now = 1000.0 + step * LOG_S / 60
            assert admits(limit, [Quiet(now), Quiet(math.inf)])
            assert not admits(limit, [Quiet(math.inf), Quiet(math.inf)])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert "closed 60 that waited for a request, refused 60 newcomers" in lines[-1]


def test_one_with_an_unread_request_keeps_its_place() -> None:
    limit, asking, silent = ConnectionLimit(2), Quiet(1.0), Quiet(2.0)
    asking.is_quiet = False
    assert admits(limit, [silent, asking])
    assert silent.is_aborted
    assert not admits(limit, [Quiet(math.inf), asking])


def test_those_that_have_waited_longest_go_first_and_none_with_a_request() -> None:
    now = 0.0
    limit = ConnectionLimit(1, lambda: now)
    busy = Quiet(math.inf)
    waiting = [Quiet(float(since)) for since in range(3)]
    connections = [waiting[2], busy, waiting[0], waiting[1]]
    assert admits(limit, connections)
    assert waiting[0].is_aborted
    # A request has come on the next one since all were looked through.
    waiting[1].waits_since = math.inf
    assert admits(limit, connections)
    assert waiting[2].is_aborted
    assert not waiting[1].is_aborted
    assert not admits(limit, connections)
    waiting[1].waits_since = 9.0
    assert not admits(limit, connections), "all were looked through a moment ago"
    now += PAUSE_S * 5
    assert admits(limit, connections)
    assert waiting[1].is_aborted
    assert not busy.is_aborted


def test_the_caller_with_the_most_connections_loses_its_idlest_one() -> None:
    now = 100.0
    limit = ConnectionLimit(2, lambda: now)
    few = [Quiet(1.0, "few"), Quiet(2.0, "few", has_state=True)]
    many = [Quiet(since, "many", has_state=since > 95.0) for since in (99.0, 97.0, 98.0, 90.0)]
    busy = [Quiet(math.inf, "many") for _ in range(3)]
    closed = []
    for _ in range(4):
        now += 1.0
        assert admits(limit, [*few, *many, *busy], "few")
        closed += [c.waits_since for c in (few + many) if c.is_aborted]
    assert [c.is_aborted for c in many] == [True, True, True, True]
    assert not any(c.is_aborted for c in few)
    # Requests are under way on all of its own: others make room, as nobody has more.
    now += 1.0
    assert admits(limit, [*few, *busy], "new")
    assert few[0].is_aborted


def test_the_idlest_is_first_whatever_it_is() -> None:
    now = 100.0
    limit = ConnectionLimit(2, lambda: now)
    many = [Quiet(since, "many", has_state=since % 2 == 0) for since in (93.0, 91.0, 92.0, 90.0)]
    for index in (3, 1, 2):
        now += 1.0
        assert admits(limit, many, "one")
        assert [c.is_aborted for c in many].count(True) == (3, 1, 2).index(index) + 1
        assert many[index].is_aborted


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_stream_in_use_makes_room_only_for_a_caller_who_has_fewer(others: int) -> None:
    limit = ConnectionLimit(2, lambda: 100.0)
    streams = [Quiet(99.0, "b", has_state=True) for _ in range(3)]
    own = [Quiet(math.inf, "a") for _ in range(others)]
    # With the newcomer, `a` would have as many as `b` keeps, or more.
    assert admits(limit, [*streams, *own]) == (others < 2)
    assert any(c.is_aborted for c in streams) == (others < 2)


def test_callers_who_take_from_each_other_come_to_a_rest() -> None:
    """Within a pause, too, in which nobody is counted anew."""
    limit = ConnectionLimit(2, lambda: 100.0)
    streams = [Quiet(99.0, "b", has_state=True) for _ in range(9)]
    own: list[Quiet] = []
    while admits(limit, [*streams, *own]):
        own.append(Quiet(99.0, "a", has_state=True))
    assert (len(own), sum(not c.is_aborted for c in streams)) == (4, 5)


def test_a_stream_that_is_idle_for_long_makes_room_for_anybody() -> None:
    now = 100.0
    limit = ConnectionLimit(1, lambda: now)
    stream = Quiet(90.0, has_state=True)
    busy = [Quiet(math.inf) for _ in range(2)]
    assert not admits(limit, [stream, *busy])
    now = 90.0 + IDLE_STREAM_S
    assert admits(limit, [stream, *busy])
    assert stream.is_aborted


@pytest.mark.parametrize(("files", "connections"), [(1024, 896), (20_000, 19_872), (100, 50)])
def test_other_files_have_room(files: int, connections: int) -> None:
    assert connections_for(files) == connections


def test_the_limit_of_files_is_raised() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    script = f"""
import resource
from app.api.connection_limit import raise_file_limit, soft_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (200, {hard}))
raise_file_limit()
assert soft_file_limit() == {hard}
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
