"""Routes that answer as the tests of the server's protocols need, and their requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Scope

from app.api.connection_limit import ConnectionLimit
from app.api.endpoint import Headers, Respond, fail
from app.api.problems import problem_of
from app.api.unread_answers import UnreadAnswers
from app.errors import Fault, InvalidRequest, NotFinite, UnrollError
from app.service.pending_request import Deadlines, PendingRequest
from app.stats.answer_counts import AnswerCounts
from tests.app.engine.running import until
from tests.app.live import request

MAX_BYTES = 1000
DIRECT, ASGI = b"direct:", b"ASGI:"
JSON = ((b"content-type", b"application/json"),)


class Routes:
    """Each path twice: directly and by ASGI. `/now` answers at once, `/later` when it is told.

    Attributes:
        waiting: `/later` requests that have not been answered, their bodies and how to.
        given_up: bodies of those that nobody waits for any more, and why.
        drained: how often the protocol has said that the service stops.
        closed: connections closed.
        echoed: bodies that were answered by ASGI.
        sends_away: whether callers are told that their connection closes.
        listening, left: whether `/waits` waits for its caller to go, and whether it has.
    """

    def __init__(self) -> None:
        self.waiting: dict[bytes, Callable[[], None]] = {}
        self.given_up: list[tuple[bytes, UnrollError]] = []
        self.drained = self.closed = self.echoed = 0
        self.listening = self.left = False
        self.sends_away = False
        self.connections = ConnectionLimit(limit=100)
        self.answers = AnswerCounts()
        self.deadlines = Deadlines(60.0, 60.0)
        self.app = Starlette(
            routes=[
                Route("/plain", self._plain),
                Route("/empty/{status}", self._empty),
                Route("/parts", self._parts),
                Route("/now", self._echo, methods=["POST"]),
                Route("/later", self._echo, methods=["POST"]),
                Route("/fails", self._echo, methods=["POST"]),
                Route("/waits", self._wait, methods=["POST"]),
            ],
            exception_handlers={InvalidRequest: _problem},
        )
        self.app.router.redirect_slashes = False
        context: Any = SimpleNamespace(
            registry=self,
            stats=self,
            deadlines=self.deadlines,
            max_body_bytes=MAX_BYTES,
            body_timeout_s=60.0,
            refusal=lambda client: None,
            connections=self.connections,
            unread=UnreadAnswers(),
            endpoints={
                ("POST", "/now"): Echo(self),
                ("POST", "/later"): Later(self),
                ("POST", "/fails"): Failing(self),
            },
        )
        self.app.state.context = context

    def drain(self) -> None:
        self.drained += 1

    def count_closed(self) -> None:
        self.closed += 1

    async def tell(self, body: bytes) -> None:
        await until(lambda: body in self.waiting)
        self.waiting.pop(body)()

    async def _plain(self, _: Request) -> Response:
        return Response("hello")

    async def _empty(self, request: Request) -> Response:
        return Response(status_code=int(request.path_params["status"]))

    async def _echo(self, request: Request) -> Response:
        self.echoed += 1
        return Response(ASGI + await request.body())

    async def _wait(self, request: Request) -> Response:
        await request.body()
        self.listening = True
        self.left = (await request.receive())["type"] == "http.disconnect"
        return Response()

    async def _parts(self, _: Request) -> Response:
        async def made() -> AsyncIterator[bytes]:
            for part in (b"HTTP/1.1 is", b" what", b"HTTP/1.1 was"):
                yield part
                await asyncio.sleep(0)

        return StreamingResponse(made())


async def _problem(_: Request, error: Any) -> Response:
    return problem_of(error)


class Echo:
    """AnswerCounts at once; a table is for the application."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes

    def takes(self, headers: Headers) -> bool:
        left = (b"expect", b"content-encoding")
        return not any(name in left or b"text/csv" in value.lower() for name, value in headers)

    def begin(self, scope: Scope, body: bytes, pending: PendingRequest, respond: Respond) -> None:
        if pending.end():
            reply = DIRECT + body
            respond(200, ((b"content-length", b"%d" % len(reply)), *JSON), reply)


class Later(Echo):
    """AnswerCounts when it is told."""

    def begin(self, scope: Scope, body: bytes, pending: PendingRequest, respond: Respond) -> None:
        routes = self.routes
        pending.wait(lambda reason: routes.given_up.append((body, reason)))
        routes.waiting[body] = partial(super().begin, scope, body, pending, respond)


class Failing(Echo):
    """As an endpoint does with what it meets."""

    def begin(self, scope: Scope, body: bytes, pending: PendingRequest, respond: Respond) -> None:
        bug = body == b"bug"
        error = ZeroDivisionError() if bug else NotFinite(Fault("/x", body.decode()))
        fail(error, scope["path"], pending, respond)


def whole(path: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    return b"".join(request(path, body, *lines, version=version))


# What the application answers.
