"""`HTTPProtocol`: uvicorn's, which hands a body that arrived whole to its endpoint at once.

A request for an endpoint that arrives in one piece, as nearly all do, is answered without a task,
without ASGI's messages and with one write. All others take uvicorn's way.
"""

import asyncio
from asyncio import Transport
from collections.abc import Callable, Sized
from functools import partial
from time import perf_counter_ns
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.api.endpoint import Headers
from app.api.server_context import Whole
from app.api.unread_answers import HELD_BYTES
from app.errors import Fault, InvalidRequest, NotHTTP
from app.server.early_refusal import early_refusal
from app.server.head_buffer import END
from app.server.head_protocol import HeadProtocol
from app.server.orderly_transport import or_cut
from app.service.pending_request import PendingRequest
from app.stats.answer_counts import NOT_GIVEN, route_of

# Requests of a connection that may wait behind the one that is computed; then no more are read. Not
# none: a connection that is not read does not tell that its caller hangs up.
MAX_AHEAD = 8
# Each line may be a header, a chunk of a body, or a request: what has more of them than so many is
# parsed in slices of so many bytes. One of the shortest requests takes 3 ms.
SLICE_BYTES = 8 << 10
MAX_SLICE_LINES = 256
# Bytes that are written at once: a write copies what the kernel does not take, 1 ms for 2 MiB.
MAX_WRITE_BYTES = 256 << 10


class Flow(FlowControl):
    """uvicorn's flow control, which reads no more while much that was read waits for its turn.

    Args:
        transport: of the connection.
        waiting: its requests that wait for their turn.
        unparsed: what was read, and is parsed later.
        parse: is called when more of that can be parsed.
    """

    def __init__(
        self, transport: Transport, waiting: Sized, unparsed: Sized, parse: Callable[[], None]
    ) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self._unparsed = unparsed
        self._parse: Callable[[], None] | None = parse

    def forget(self) -> None:
        """The connection is gone: nothing is parsed, and what would have done so can go."""
        self._parse = None

    def resume_reading(self) -> None:
        """Called after each answer, and when a request wants more of its body."""
        if len(self._waiting) > MAX_AHEAD:
            return
        if self._unparsed and self._parse is not None:
            self._parse()
        else:
            super().resume_reading()


class HTTPProtocol(HeadProtocol):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._registry = self._context.registry
        self._endpoints = self._context.endpoints
        self._reading = False
        # What was read and is parsed later, and whether that is due.
        self._unparsed = bytearray()
        self._slice_is_due = False
        # Bytes of a body that still come though its request was refused.
        self._missing = 0
        # A request whose body has not ended, and the application that would get it.
        self._held: tuple[RequestResponseCycle, Any] | None = None
        # The request that its endpoint answers, and where and since when it is counted.
        self._pending: tuple[PendingRequest, int, int] | None = None
        # The request whose turn it is; others may have been parsed behind it.
        self._running: RequestResponseCycle | None = None
        # A request whose body is not as it must be, and why.
        self._broken: tuple[RequestResponseCycle, InvalidRequest] | None = None

    # uvicorn's own type of a transport is a narrower one than asyncio's.
    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        self.flow = self._flow = Flow(
            self.transport, self.pipeline, self._unparsed, self._parse_later
        )

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._missing:
            self._missing, data = max(0, self._missing - len(data)), data[self._missing :]
            if not data:
                return
        if not self._unparsed and self._refuses_early(data):
            return
        if self._unparsed or (len(data) > SLICE_BYTES and data.count(b"\n") > MAX_SLICE_LINES):
            self._unparsed += data
            self.flow.pause_reading()
            self._parse_later()
        else:
            self._parse(data)

    def _parse_later(self) -> None:
        if not self._slice_is_due:
            self._slice_is_due = True
            self.loop.call_soon(self._parse_slice)

    def _parse_slice(self) -> None:
        """Parses a slice of what was read; others have their turn before the next."""
        self._slice_is_due = False
        if self.transport.is_closing():
            self._unparsed.clear()
        elif len(self.pipeline) <= MAX_AHEAD:
            data = bytes(self._unparsed[:SLICE_BYTES])
            del self._unparsed[:SLICE_BYTES]
            self._parse(data)
            # The rest, or what comes next. A stream reads for itself.
            if not self._is_over:
                self.flow.resume_reading()

    def _parse(self, data: bytes) -> None:
        self._reading = True
        try:
            super().data_received(data)
        finally:
            self._reading = False
        if self._held is not None:
            # It arrives in pieces.
            held, self._held = self._held, None
            self._start_task(*held)

    def _refuses_early(self, data: bytes) -> bool:
        """Whether the service is overloaded, and this was a request that was refused for it."""
        error = self._context.refusal(self.client)
        if error is None:
            return False
        began_ns = perf_counter_ns()
        if self._within_message or self._head or not self._is_answered:
            return False
        if self._registry.sends_away:
            return False
        refusal = early_refusal(data, self._endpoints, error)
        if refusal is None or self.transport.is_closing() or self.flow.write_paused:
            return False
        self._missing, route, status, rest = refusal
        self._answers.count(route, status, began_ns)
        parts = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*parts, rest)))
        # For the rest of the body, and for what comes behind it.
        self._unset_keepalive_if_required()
        self._await_next()
        return True

    def handle_websocket_upgrade(self) -> None:
        """Called with the request that opens a stream."""
        super().handle_websocket_upgrade()
        # uvicorn forgets what came with it.
        _, _, early = self._parsed.partition(END)
        early += self._unparsed
        stream: Any = self.transport.get_protocol()
        if stream.mistake is not None:
            error = NotHTTP(Fault("", f"it opens no stream: {stream.mistake}"))
            self._answer_and_close(error, self.url.partition(b"?")[0])
        elif early:
            self._unparsed.clear()
            self.flow.resume_reading()
            stream.data_received(early)
        self._forget()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # An answer within the same read set it.
        self._unset_keepalive_if_required()
        self._running = cycle
        if self._reading and (cycle.scope["method"], cycle.scope["path"]) in self._endpoints:
            self._held = cycle, app
        else:
            self._start_task(cycle, app)

    def _start_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, partial(self._run, cycle, app))

    async def _run(
        self, cycle: RequestResponseCycle, app: Any, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Runs the application for a request, and says with its answer whether it is the last."""

        async def receiving() -> Message:
            message = await receive()
            if self._broken is not None and self._broken[0] is cycle:
                raise self._broken[1]
            return message

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._tell(cycle)
            held = scope.get(HELD_BYTES, 0)
            self._hold(held + len(message.get("body", b"")))
            await send(message)
            self._hold(held if message.get("more_body", True) else 0)

        await app(scope, receiving, telling)

    def _break_off(self, error: InvalidRequest) -> None:
        # Whoever reads the body is told, and answers with it when it is the request's turn.
        self._broken = self.cycle, error
        self.cycle.keep_alive = False
        self.cycle.message_event.set()

    def _tell(self, cycle: RequestResponseCycle) -> None:
        """Says with an answer that it is the connection's last, where callers are sent away.

        It is not while others that have been sent before wait behind it, be it in the kernel.
        """
        if self._registry.sends_away and (cycle.more_body or not self._has_more):
            cycle.keep_alive = False

    @property
    def _has_more(self) -> bool:
        """Whether something has been sent behind the request that is answered."""
        held = self.pipeline or self._unparsed or self._head is not None
        return bool(held or self.transport.unread_bytes)

    def close_if_idle(self) -> None:
        """Closes the connection unless a request is under way."""
        if not self._unparsed:
            super().close_if_idle()

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a body."""
        super().on_message_complete()
        if self._held is None or self._held[0] is not self.cycle:
            return
        (cycle, app), self._held = self._held, None
        scope: Any = cycle.scope
        endpoint = self._endpoints[scope["method"], scope["path"]]
        if (
            len(cycle.body) > self._context.max_body_bytes
            or self.flow.write_paused
            or not endpoint.takes(scope["headers"])
        ):
            self._start_task(cycle, app)
            return
        if self.flow.read_paused:
            # By a large body, and then nobody would see the caller hang up.
            self.flow.resume_reading()
        self._answer(endpoint, cycle)

    def _answer(self, endpoint: Whole, cycle: RequestResponseCycle) -> None:
        # uvicorn's own type of it is a narrower one than ASGI's.
        scope: Any = cycle.scope
        route, began_ns = route_of(scope["method"], scope["path"]), perf_counter_ns()

        def respond(status: int, headers: Headers, body: bytes) -> None:
            self._pending = None
            # Before the answer leaves: who has it finds it counted.
            self._answers.count(route, status, began_ns)
            self._write(cycle, status, headers, body)

        pending = PendingRequest(self._context.deadlines)
        self._pending = pending, route, began_ns
        body, cycle.body = bytes(cycle.body), bytearray()
        endpoint.begin(scope, body, pending, respond)

    def _write(
        self, cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes
    ) -> None:
        self._tell(cycle)
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            if name == b"connection" and value == b"close":
                cycle.keep_alive = False
                continue
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        cycle.response_started = True
        if len(body) > MAX_WRITE_BYTES:
            self.transport.write(b"".join(parts))
            task = self.loop.create_task(self._write_slices(cycle, body))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        else:
            self.transport.write(b"".join((*parts, body)))
            self._complete(cycle)

    async def _write_slices(self, cycle: RequestResponseCycle, body: bytes) -> None:
        """Writes a large body as its caller reads it, and lets others have their turn."""
        rest = memoryview(body)
        while rest:
            await self.flow.drain()
            await asyncio.sleep(0)
            if self.transport.is_closing():
                return
            part, rest = rest[:MAX_WRITE_BYTES], rest[MAX_WRITE_BYTES:]
            self._hold(len(rest))
            self.transport.write(part)
        self._complete(cycle)

    def _complete(self, cycle: RequestResponseCycle) -> None:
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def shutdown(self) -> None:
        """Called at the end of a stop, while the server waits for open requests."""
        # So that those who take too long still get an answer.
        with or_cut(self.transport):
            self._context.registry.drain()
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells only the last one.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        self._context.stats.count_closed()
        self._forget()
        if self._pending is not None:
            (pending, route, began_ns), self._pending = self._pending, None
            if pending.hang_up():
                self._answers.count(route, NOT_GIVEN, began_ns)

    def _forget(self) -> None:
        """Lets go of what refers back to the protocol, which goes with its connection then.

        The garbage collector, which comes seldom here, would let thousands of them pile up.
        """
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = None
        self.parser = None  # type: ignore[assignment]  # as uvicorn has it after the connection
        self.cycle = None  # type: ignore[assignment]  # as uvicorn has it before the first request
        self._held = self._running = self._broken = None
        self.pipeline.clear()
        self._unparsed.clear()
        self._flow.forget()
