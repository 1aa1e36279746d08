"""`HeadProtocol`: uvicorn's HTTP protocol with limits for heads.

uvicorn has none. A head that never ends would fill the memory, and a connection would stay open for
ever if its caller sent no head.
"""

import logging
import math
import sys
from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.problems import problem_of
from app.errors import (
    Fault,
    HeadTooSlow,
    InvalidRequest,
    NotHTTP,
    TooManyConnections,
    UnrollError,
)
from app.server.field_limits import (
    MAX_ITEMS,
    MAX_LINES,
    MAX_PARAMETERS,
    check_fields,
    check_framing,
    too_large,
)
from app.server.head_buffer import END, UPGRADE, HeadBuffer, path_of
from app.server.orderly_transport import OrderlyTransport
from app.server.slow_reader import SlowReaderProtocol
from app.stats.answer_counts import OTHER

# Of uvicorn's lines those that tell of errors here. The others tell what callers do, with all that
# stands in their paths: they are counted, and nobody can fill the log.
ERRORS_ONLY = logging.getLogger("app.server")
ERRORS_ONLY.setLevel(logging.ERROR)

MAX_HEAD_BYTES = 64 << 10
# The parser takes the line of a request of others for one of these (RFC 9112, section 2.3).
VERSIONS = frozenset({"1.1", "1.0"})


class HeadProtocol(SlowReaderProtocol):
    """See the module."""

    has_state = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger, self.access_log = ERRORS_ONLY, False
        self._answers = self._context.stats.answers
        # What has been read of a head that came in pieces, until it is whole.
        self._head: HeadBuffer | None = None
        # Bytes that the parser holds of a head, or of what stands behind a body's last chunk.
        self._head_bytes = 0
        # Runs while a head is awaited, and since when it is, on the event loop's clock.
        self._head_timer: TimerHandle | None = None
        self._awaits_since = 0.0
        # What the parser was given last; whether a head began in it, or a piece of a body was.
        self._parsed = b""
        self._begins = False
        self._has_body = False
        # Whether the parser is between the beginning and the end of a request.
        self._within_message = False
        # Whether nothing more is read here: the connection closes, or has become a stream.
        self._is_over = False

    # uvicorn's own type of a transport is a narrower one than asyncio's.
    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(OrderlyTransport(transport, self.loop, self._timeout_s))
        connections: Any = self.connections
        if self._context.connections.admits(self, connections):
            self._await_head()
        else:
            self._turn_away()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._is_over:
            return
        if not self._within_message:
            whole = self._whole_head(data)
            if whole is None:
                return
            data = whole
        self._parsed = data
        try:
            super().data_received(data)
        finally:
            self._parsed = b""
        if not self._is_over:
            self._look_at_head(len(data))

    def _whole_head(self, data: bytes) -> bytes | None:
        """What the parser gets, with the head that was kept; None if it gets nothing yet, or never.

        Args:
            data: read between two requests.
        """
        if self._head is None and data.find(END, 0, MAX_HEAD_BYTES) < 0:
            self._head = HeadBuffer()
        if self._head is not None:
            head = self._head
            end = head.extend(data)
            if (len(head) if end < 0 else end) > MAX_HEAD_BYTES:
                self._refuse_head(len(head), bytes(head))
                return None
            if end < 0 and head.may_become_head():
                self._unset_keepalive_if_required()
                self._await_head()
                return None
            data, self._head = bytes(head), None
        end = data.find(END)
        if end > 0 and UPGRADE.search(data, 0, end):
            data = UPGRADE.sub(b"", data[:end]) + data[end:]
        return data

    def _look_at_head(self, size: int) -> None:
        """Sees to it that a timer runs unless a request is computed, or its body arrives."""
        if self._within_message and self._is_too_long(size):
            self._refuse_head(self._head_bytes, b"")
        elif self._parses_head:
            self._await_head()
        elif self._is_answered and self.timeout_keep_alive_task is None:
            # Empty lines, or the rest of a body that was not waited for.
            self._await_head()
        elif self._head_timer is not None:
            self._stop_awaiting()

    def _is_too_long(self, size: int) -> bool:
        """Whether too much was read since a head began, or since a body's last piece.

        Args:
            size: bytes of the last read.
        """
        # Where a head begins, much may belong to the request before.
        self._head_bytes = 0 if self._begins or self._has_body else self._head_bytes + size
        self._begins = self._has_body = False
        return self._head_bytes > MAX_HEAD_BYTES

    @property
    def _parses_head(self) -> bool:
        """Whether the parser waits for the rest of a head, which began behind another request."""
        return self._within_message and "method" not in self.scope

    @property
    def _is_within_body(self) -> bool:
        """Whether the parser waits for the rest of a body, or of what stands behind it."""
        return self._within_message and self.cycle is not None and self.cycle.scope is self.scope

    @property
    def _is_answered(self) -> bool:
        """Whether no answer is due."""
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._within_message = self._begins = True
        self._head_bytes = 0
        # The timer is the one of the head before.
        self._stop_awaiting()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser with each header line, those behind a body's last chunk too."""
        # As uvicorn does, without a call more for each line.
        name, headers = name.lower(), self.headers
        headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(headers) > MAX_LINES:
            raise too_large("the head", len(headers), "header lines or more", MAX_LINES)

    def on_headers_complete(self) -> None:
        """Called by the parser at the end of a head."""
        lines = self.headers
        fields = dict(lines)
        is_plain = len(fields) == len(lines)
        # An item is a line, or has a separator before it: few bytes cannot be too many items.
        size = sum(map(len, fields.values())) + len(lines)
        if not is_plain or size > MAX_ITEMS or len(self.url) > MAX_PARAMETERS:
            check_fields(self.url, lines)
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise NotHTTP(Fault("", f"HTTP/{version} is not spoken here: HTTP/1.1 is"))
        if not is_plain or b"host" not in fields or b"transfer-encoding" in fields:
            check_framing(lines, version)
        if b"upgrade" in fields and self.parser.should_upgrade():
            self._check_upgrade(version)
        super().on_headers_complete()

    def _check_upgrade(self, version: str) -> None:
        """Whether another protocol may begin behind this head, where the parser stops.

        Args:
            version: of HTTP.

        Raises:
            NotHTTP: it may not; nobody would read what follows.
        """
        if not self._should_upgrade():
            text = "an offer to upgrade has one header Connection and stands behind no request"
        elif version != "1.1":
            text = "a stream is opened by HTTP/1.1"
        elif not self._is_answered:
            text = "a stream is opened when nothing else on its connection is to be answered"
        else:
            return
        raise NotHTTP(Fault("", text))

    def on_chunk_header(self) -> None:
        """Called by the parser before each chunk of a body."""
        if self.headers is self.scope["headers"]:
            # Lines behind the last chunk are none of the request's headers (RFC 9110, 6.5.1).
            self.headers = list(self.headers)

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of a body."""
        self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a body."""
        self._within_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called where the parser fails: what was sent is no HTTP, or a part of it too large."""
        failure = sys.exception()
        if failure is not None and isinstance(failure.__context__, InvalidRequest):
            # Raised by one of the methods above, at which the parser stopped.
            self._refuse(failure.__context__, self.url.partition(b"?")[0])
            return
        text = "it is not HTTP/1.1, in which paths are ASCII and everything else in them is escaped"
        if self._is_within_body:
            text = f"its body is not chunked as HTTP/1.1 has it: {failure}"
        self._refuse(NotHTTP(Fault("", text)), path_of(self._parsed))

    def handle_websocket_upgrade(self) -> None:
        """Called with the request that opens a stream: another protocol reads from now on."""
        super().handle_websocket_upgrade()
        self._is_over = True
        self._stop_awaiting()
        self.stop_awaiting_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Called when no other request has come."""
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Closes the connection unless a request is under way, be it unread in the kernel."""
        if self._is_answered and self._head is None and not self.transport.unread_bytes:
            self.transport.close()

    @property
    def waits_since(self) -> float:
        """Since when its next request is awaited, on the event loop's clock; infinite if none is.

        The timers tell it, so that a request has nothing to keep for a limit that is seldom met.
        """
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - self.timeout_keep_alive
        if self._head_timer is not None:
            return self._awaits_since
        # Of one that closes its end is awaited.
        return self.transport.closes_since

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody has read, and everything sent has left."""
        return not (self.transport.unread_bytes or self.transport.get_write_buffer_size())

    def make_room(self) -> None:
        """Closes the connection at once."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Called when the server is told to stop."""
        if not (self._is_answered and self.transport.unread_bytes):
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        super().connection_lost(exc)
        self._stop_awaiting()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._awaits_since = self.loop.time()
            self._head_timer = self.loop.call_later(self._timeout_s, self._head_is_late)

    def _await_next(self) -> None:
        """The time of a head begins anew; its timer, which costs more, is left as it is."""
        self._await_head()
        self._awaits_since = self.loop.time()

    def _stop_awaiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        left_s = self._awaits_since + self._timeout_s - self.loop.time()
        if left_s > 0:
            self._head_timer = self.loop.call_later(left_s, self._head_is_late)
        elif self.flow.read_paused:
            # The rest of the head may have arrived: nothing is read for now.
            self._await_head()
        elif self._head or self._parses_head:
            text = f"its head has no end after {self._timeout_s:g} s"
            self._refuse(HeadTooSlow(Fault("", text)), path_of(bytes(self._head or b"")))
        else:
            # There is no request whose answer the caller could wait for.
            self.transport.close()

    def _refuse_head(self, size: int, head: bytes) -> None:
        self._refuse(too_large("the head", size, "bytes or more", MAX_HEAD_BYTES), path_of(head))

    def _refuse(self, error: InvalidRequest, path: bytes) -> None:
        """Answers what is no request, behind those that are, and closes the connection."""
        self._is_over, self._head = True, None
        self._stop_awaiting()
        if self._is_answered and self._is_within_body:
            # The request has its answer already.
            self.transport.close()
        elif self._is_answered:
            self._answer_and_close(error, path)
        elif self._is_within_body:
            self._break_off(error)
        else:
            # The answer that is due is the last; the connection closes behind it.
            self.cycle.keep_alive = False

    def _break_off(self, error: InvalidRequest) -> None:
        """Answers a request with an error whose body does not go on."""
        raise NotImplementedError

    def _turn_away(self) -> None:
        """Refuses the connection: there are too many."""
        self._is_over = True
        if self._context.connections.can_say_no(len(self.connections)):
            text = "requests are under way on as many connections as there can be"
            self._answer_and_close(TooManyConnections(text), b"")
            # It has no place that another could take.
            self.transport.closes_since = math.inf
        else:
            self.transport.abort()

    def _answer_and_close(self, error: UnrollError, path: bytes) -> None:
        answer = problem_of(error, path.decode("latin-1"))
        # The routes count their own answers; this one reached none of them.
        self._answers.count(OTHER, answer.status_code)
        parts = [STATUS_LINE[answer.status_code]]
        for name, value in (*self.server_state.default_headers, *answer.raw_headers):
            parts += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*parts, b"\r\n", bytes(answer.body))))
        self.transport.close()
