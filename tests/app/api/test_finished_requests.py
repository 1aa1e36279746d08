"""A finished request is freed at once, however it ended: the garbage collector, which comes seldom
here, would let thousands pile up with their arrays before it does.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.engine.admission import Held
from app.errors import Overloaded
from app.service.inference import InferenceService
from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import until
from tests.app.leftovers import leftovers
from tests.app.live import Live, head_of
from tests.app.raw_caller import RawCaller
from tests.app.requests_of_routes import ROUTES, Message, session
from tests.app.running_service import Loader

pytestmark = pytest.mark.long

POISON, OVERFLOW = 666.0, 777.0
# Requests that are counted; what each leaves behind is there so often.
COUNT = 4
# A long sequence's answer is more than the sockets of both sides take, if theirs are small.
SHORT, LONG = 3, 8_000
SMALL = 4096
LIMITS = {
    "max_body_bytes": 1 << 24,
    "max_sequence_steps": 2 * LONG,
    "max_waiting_steps": 4 * COUNT * LONG,
    "max_waiting_sequences": 4 * COUNT,
    "max_sequences": COUNT,
}

# Has a caller make one request, until it has ended.
Ask = Callable[[RawCaller, Message], Awaitable[None]]


@pytest.fixture(scope="module")
def live(tiny_dir: Path) -> Iterator[Live]:
    """A service that computes on its event loop."""
    with live_of(tiny_dir, Loader(POISON, OVERFLOW), lanes=0, **LIMITS) as live:
        warm(live)
        yield live


@pytest.fixture(scope="module")
def impatient(tiny_dir: Path) -> Iterator[tuple[Live, Loader]]:
    """A service that waits for nobody for long, and its kernel, which is in a thread."""
    loader = Loader(POISON, OVERFLOW)
    times = {"request_timeout_s": 0.25, "body_timeout_s": 0.25}
    with live_of(tiny_dir, loader, lanes=1, **LIMITS, **times) as live:
        warm(live)
        yield live, loader
        loader.runner.gate.set()


@pytest.fixture(scope="module")
def threads(tiny_dir: Path) -> Iterator[tuple[Live, Loader]]:
    """A service whose kernel is in a thread, so that it can be held there."""
    loader = Loader(POISON, OVERFLOW)
    with live_of(tiny_dir, loader, lanes=1, max_chunk_steps=512, **LIMITS) as live:
        warm(live)
        live.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        yield live, loader
        loader.runner.gate.set()


def warm(live: Live) -> None:
    """Asks each route once, so that libraries have loaded what they load when they are used."""

    async def ask() -> None:
        await live.ready()
        caller = RawCaller(live)
        await caller.open()
        for make in ROUTES.values():
            await caller.send(b"".join(make(SHORT, 1.0)))
            assert await caller.status() == 200
        for once in (b"".join(session("kept")), head_of("/openapi.json", method="GET")):
            await caller.send(once)
            assert await caller.status() == 200
        caller.close()

    live.run(ask())


def left(
    live: Live, ask: Ask, message: Callable[[], Message], reads: bool = True
) -> dict[str, int]:
    """What requests leave behind that are made side by side, each on a connection of its own."""

    async def one() -> None:
        caller = RawCaller(live, reads)
        await caller.open()
        try:
            await ask(caller, message())
        finally:
            caller.close()

    async def make(count: int) -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    return leftovers(live, make, COUNT)


async def send(caller: RawCaller, message: Message, in_pieces: bool) -> None:
    """Whole, for the fast path, or in pieces, for ASGI's."""
    head, body = message
    if not in_pieces:
        await caller.send(head + body)
        return
    await caller.send(head)
    await asyncio.sleep(0.002)
    await caller.send(body)


def answered(*statuses: int, in_pieces: bool) -> Ask:
    """One after the other on a connection that stays."""

    async def ask(caller: RawCaller, message: Message) -> None:
        for _ in range(COUNT):
            await send(caller, message, in_pieces)
            assert await caller.status() in statuses

    return ask


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("route", ROUTES)
class TestAnswered:
    """On the fast path and on ASGI's."""

    def test_with_numbers(self, live: Live, route: str, in_pieces: bool) -> None:
        ask = answered(200, in_pieces=in_pieces)
        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0))

    def test_that_it_is_invalid(self, live: Live, route: str, in_pieces: bool) -> None:
        def message() -> Message:
            head, body = ROUTES[route](SHORT, 1.0)
            # Neither JSON nor a size that fits, nor where an archive or a schema begins.
            return head, b"!" + body[1:]

        assert not left(live, answered(400, 422, in_pieces=in_pieces), message)

    def test_that_the_kernel_failed(self, live: Live, route: str, in_pieces: bool) -> None:
        ask = answered(500, in_pieces=in_pieces)
        assert not left(live, ask, lambda: ROUTES[route](SHORT, POISON))

    def test_that_the_model_overflows(self, live: Live, route: str, in_pieces: bool) -> None:
        ask = answered(400, 422, in_pieces=in_pieces)
        assert not left(live, ask, lambda: ROUTES[route](SHORT, OVERFLOW))


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("route", ROUTES)
class TestGivenUp:
    """By the service, or by a caller who hangs up."""

    def test_as_time_is_over(
        self, impatient: tuple[Live, Loader], route: str, in_pieces: bool
    ) -> None:
        live, loader = impatient
        together = asyncio.Barrier(COUNT)

        async def ask(caller: RawCaller, message: Message) -> None:
            loader.runner.gate.clear()
            await send(caller, message, in_pieces)
            assert await caller.status() in (503, 504)
            await together.wait()
            loader.runner.gate.set()

        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0))

    def test_as_its_caller_hangs_up_while_it_is_computed(
        self, threads: tuple[Live, Loader], route: str, in_pieces: bool
    ) -> None:
        live, loader = threads
        engine = live.app.state.context.registry.engine
        together = asyncio.Barrier(COUNT)

        async def ask(caller: RawCaller, message: Message) -> None:
            loader.runner.gate.clear()
            await send(caller, message, in_pieces)
            await until(lambda: engine.counters.running + engine.counters.waiting == COUNT)
            await together.wait()
            caller.close()
            await until(lambda: not live.server.server_state.connections)
            await until(lambda: not live.app.state.context.deadlines._open)
            loader.runner.gate.set()

        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0))

    def test_as_its_caller_hangs_up_while_the_answer_is_written(
        self, threads: tuple[Live, Loader], route: str, in_pieces: bool
    ) -> None:
        async def ask(caller: RawCaller, message: Message) -> None:
            await send(caller, message, in_pieces)
            await until(lambda: caller.unread > 0)

        assert not left(threads[0], ask, lambda: ROUTES[route](LONG, 1.0), reads=False)


@pytest.mark.parametrize("route", ["json", "ndjson", "v1", "v2"])
class TestNotRead:
    """What of a request is not read does not depend on its format."""

    def test_as_its_head_says_that_it_is_packed(self, live: Live, route: str) -> None:
        ask = answered(415, in_pieces=False)
        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0, "Content-Encoding: gzip"))

    def test_as_it_is_too_large(self, live: Live, route: str) -> None:
        async def ask(caller: RawCaller, message: Message) -> None:
            head, _ = message
            await caller.send(head)
            # Its length alone may be more than there is room for.
            assert await caller.status() in (413, 429, 503)

        def message() -> Message:
            head, body = ROUTES[route](SHORT, 1.0, "Expect: 100-continue")
            return head.replace(b"Content-Length: ", b"Content-Length: 9999999"), body

        assert not left(live, ask, message)

    def test_as_there_is_no_room(
        self, live: Live, route: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise Overloaded("there is no room")

        # Of a long body before it is decoded, of a short one afterwards.
        monkeypatch.setattr(InferenceService, "check_room", refuse)
        monkeypatch.setattr(InferenceService, "begin", refuse)
        ask = answered(429, 503, in_pieces=False)
        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0))

    def test_as_the_service_is_overloaded(
        self, live: Live, route: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is refused before it is parsed."""
        admission = live.app.state.context.registry.engine._scheduler.admission
        # More waits than can be computed for hours, of this caller.
        monkeypatch.setattr(admission, "held", Held(1000, 10**9))
        monkeypatch.setattr(admission, "_callers", {"127.0.0.1": Held(1000, 10**9)})
        for limit in ("_max_sequences", "_max_steps"):
            monkeypatch.setattr(admission, limit, 10**12)
        monkeypatch.setattr(
            admission, "_overloaded_until", live.app.state.context.registry.engine.clock() + 60.0
        )
        ask = answered(429, 503, in_pieces=False)
        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0))

    def test_as_its_body_does_not_end(self, impatient: tuple[Live, Loader], route: str) -> None:
        async def ask(caller: RawCaller, message: Message) -> None:
            head, body = message
            await send(caller, (head, body[:-1]), in_pieces=False)
            assert await caller.status() == 408

        assert not left(impatient[0], ask, lambda: ROUTES[route](SHORT, 1.0))

    def test_as_its_caller_hangs_up_while_it_is_sent(self, live: Live, route: str) -> None:
        async def ask(caller: RawCaller, message: Message) -> None:
            head, body = message
            await send(caller, (head, body[:-1]), in_pieces=False)
            await until(lambda: bool(live.server.server_state.tasks))

        assert not left(live, ask, lambda: ROUTES[route](SHORT, 1.0))


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (head_of("/sessions/kept", method="GET"), 200),
        (head_of("/sessions/none", method="GET"), 404),
        (head_of("/sessions/none", method="DELETE"), 404),
        (head_of("/sessions/kept", method="PUT"), 405),
        (head_of("/metrics", method="GET"), 200),
        (head_of("/readyz", method="GET"), 200),
        (head_of("/openapi.json", method="GET"), 200),
        (head_of("/v1/models/tiny/metadata", method="GET"), 200),
        (head_of("/v2/models/other/config", method="GET"), 404),
        (head_of("/nowhere", method="GET"), 404),
        (b"nonsense\r\n\r\n", 400),
        (head_of("/" + "x" * (1 << 16), method="GET"), 431),
    ],
)
def test_other_routes(live: Live, message: bytes, status: int) -> None:
    async def ask(caller: RawCaller, message: Message) -> None:
        head, _ = message
        await caller.send(head)
        assert await caller.status() == status

    assert not left(live, ask, lambda: (message, b""))


@pytest.mark.parametrize("route", ["json", "ndjson"])
def test_it_is_seen_if_a_request_refers_to_itself(
    live: Live, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = InferenceService.begin

    def begin(service: InferenceService, request: Any, done: Any) -> None:
        request.itself = request
        right(service, request, done)

    monkeypatch.setattr(InferenceService, "begin", begin)
    ask = answered(200, in_pieces=False)
    assert left(live, ask, lambda: ROUTES[route](SHORT, 1.0))["Prediction"] >= COUNT * COUNT


def test_it_is_seen_if_requests_are_kept(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    right, kept = InferenceService.begin, []

    def begin(service: InferenceService, request: Any, done: Any) -> None:
        kept.append(request)
        right(service, request, done)

    monkeypatch.setattr(InferenceService, "begin", begin)
    ask = answered(200, in_pieces=False)
    assert left(live, ask, lambda: ROUTES["json"](SHORT, 1.0))["Prediction"] == COUNT * COUNT
