"""`DirectProtocol`: uvicorn's HTTP protocol, which hands small requests to their routes directly.

A request that is for a direct route and arrives in one piece, as nearly all do, is answered without
a task, without ASGI's messages and with one write. All others take uvicorn's way.
"""

import re
from asyncio import Transport
from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.api.fast_path import Direct, Exchange, Headers
from app.server.flow_control import Flow
from app.server.head_limits import END, HeadProtocol
from app.stats.answer_counts import route_of

# Headers that ask for more than an answer to a body.
LEFT_TO_ASGI = frozenset({b"expect", b"content-encoding"})
# And these may: quickly told where they say the usual.
NEGOTIATED = frozenset({b"accept", b"content-type"})
USUAL = frozenset(
    {
        b"*/*",
        b"application/json",
        b"application/json, */*",
        b"application/json, text/plain, */*",
        b"application/x-www-form-urlencoded",
        b"text/plain",
    }
)
# Where it weighs formats or names a kind of them, one may be wanted that is not direct.
WEIGHED = re.compile(rb"\*|;[ \t]*q[ \t]*=")


class DirectProtocol(HeadProtocol):
    """See the module. The application's `state` has `direct` routes, `max_body_bytes`, the media
    types that are `left_to_asgi`, the `registry` and the worker's `place`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn allows any ASGI callable here; ours is always the application.
        state = self.app.state
        self._routes: Mapping[tuple[str, str], Direct] = state.direct
        self._max_bytes: int = state.max_body_bytes
        self._others: tuple[bytes, ...] = state.left_to_asgi
        self._drain: Callable[[], Any] = state.registry.drain
        self._count_closed: Callable[[], None] = state.place.count_closed
        self._reading = False
        # A request whose body has not ended, and the application that would get it.
        self._held: tuple[RequestResponseCycle, Any] | None = None
        self._exchange: Exchange | None = None
        # The request whose turn it is; others may have been parsed behind it.
        self._running: RequestResponseCycle | None = None

    # uvicorn's own type of a transport is a narrower one than asyncio's.
    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._reading = True
        try:
            super().data_received(data)
        finally:
            self._reading = False
        if self._held is not None:
            # It arrives in pieces.
            held, self._held = self._held, None
            super()._start_asgi_task(*held)

    def handle_websocket_upgrade(self) -> None:
        """Called with the request that opens a stream."""
        super().handle_websocket_upgrade()
        # uvicorn forgets what came with it.
        _, _, early = self._parsed.partition(END)
        if early:
            stream: Any = self.transport.get_protocol()
            stream.data_received(early)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # An answer within the same read set it.
        self._unset_keepalive_if_required()
        self._running = cycle
        if self._reading and (cycle.scope["method"], cycle.scope["path"]) in self._routes:
            self._held = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a body."""
        super().on_message_complete()
        if self._held is None or self._held[0] is not self.cycle:
            return
        (cycle, app), self._held = self._held, None
        headers = cycle.scope["headers"]
        if (
            len(cycle.body) > self._max_bytes
            or self.flow.write_paused
            or any(map(self._asks_for_more, headers))
        ):
            super()._start_asgi_task(cycle, app)
            return
        # A large body has paused it, and then nobody would see the caller hang up.
        self.flow.resume_reading()
        self._answer(cycle)

    def _asks_for_more(self, header: tuple[bytes, bytes]) -> bool:
        name, value = header
        if name not in NEGOTIATED or value in USUAL:
            return name in LEFT_TO_ASGI
        value = value.lower()
        if name == b"accept" and WEIGHED.search(value):
            return True
        return any(other in value for other in self._others)

    def _answer(self, cycle: RequestResponseCycle) -> None:
        # uvicorn's own type of it is a narrower one than ASGI's.
        scope: Any = cycle.scope

        def respond(status: int, headers: Headers, body: bytes) -> None:
            self._exchange = None
            self._write(cycle, status, headers, body)

        route = route_of(scope["method"], scope["path"])
        exchange = self._exchange = Exchange(scope["path"], respond, self._answers, route)
        body, cycle.body = bytes(cycle.body), bytearray()
        try:
            self._routes[scope["method"], scope["path"]](scope, body, exchange)
        except Exception as error:
            exchange.fail(error)

    def _write(
        self, cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes
    ) -> None:
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            if name == b"connection" and value == b"close":
                cycle.keep_alive = False
                continue
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        self.transport.write(b"".join(parts))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def shutdown(self) -> None:
        """Called when the server is told to stop, while it waits for open requests."""
        # So that those who take too long still get an answer.
        self._drain()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells only the last one.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        self._count_closed()
        # These refer back to the protocol. Without them it goes now: the garbage collector, which
        # comes seldom here, would let thousands of dead connections pile up.
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = None
        self.cycle = None  # type: ignore[assignment]  # as uvicorn has it before the first request
        self._held = self._running = None
        self.pipeline.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.hang_up()
