"""`StreamProtocol`: uvicorn's WebSocket protocol, which hands messages to their stream directly.

Opening and closing, pings, messages in fragments and whatever is not as it must be are left to
uvicorn and `websockets`. A message in one frame, as nearly all are, goes past them: without a
queue, a task's turn and ASGI's messages, which together cost several times as much as a time step.
"""

from asyncio import TimerHandle
from functools import partial
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import (  # type: ignore[attr-defined]  # apply_mask: in C if it was built
    CloseCode,
    Opcode,
    apply_mask,
)
from websockets.protocol import State

from app.api.protocols.native.stream import EXTENSION, Stream
from app.api.server_context import context_of
from app.errors import Overloaded
from app.server.frames import FINAL, MASK_BYTES, WHOLE, Frame, find_frame, is_utf8, text_frame
from app.server.head_protocol import ERRORS_ONLY
from app.server.orderly_transport import OrderlyTransport, or_cut
from app.service.callers import name_of_address

# Frames that are taken at once, and bytes that uvicorn is given at once, who takes 20 us a frame.
MAX_FRAMES = 256
SLICE_BYTES = 2 << 10


class StreamProtocol(WebSocketsSansIOProtocol):
    """See the module. The application's `state` has the `registry` and the worker's `place`."""

    # uvicorn's own type of it is a wider one.
    transport: OrderlyTransport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = ERRORS_ONLY
        self._stream: Stream | None = None
        # What has been read before the stream was open, and of a frame that is not whole; how many
        # bytes the whole has.
        self._rest = bytearray()
        self._needed = 0
        # Whether uvicorn reads all of the rest: a frame was not as it must be.
        self._left_to_uvicorn = False
        # What was read and is parsed later, if anything is.
        self._late = bytearray()
        self._is_behind = False
        # Runs while a message is not whole, of which some has come.
        self._message_timer: TimerHandle | None = None
        # Bytes that the caller had not read when it began to.
        self._unsent_then = 0
        context = context_of(self.app)
        self._timeout_s = context.body_timeout_s
        self._unread = context.unread
        # Whether anything was read since the last ping, and whether the stream takes messages.
        self._heard = False
        self._reads = True
        # Bytes that the caller had not read yet at the last ping.
        self._unsent = 0
        # Whether the caller has closed the stream, and waits for its last answers.
        self._closes = False
        # Whether the server has been told to stop before the stream was open.
        self._stops = False

    @property
    def mistake(self) -> BaseException | None:
        """Why the opening request is none, if its caller has not been told."""
        found = None if self.handshake_initiated else self.conn.handshake_exc
        return found and (found.__cause__ or found)

    def handle_close(self, event: Any) -> None:
        """Called with the caller's close frame: what came before is answered first."""
        stream = self._stream
        # Where the answer to its frame has left already, behind that to a ping, nothing may follow.
        if stream is None or self.close_sent or not self.conn.writes:
            super().handle_close(event)
            return
        self._closes = True
        self.stop_keepalive()
        self._stop_awaiting_end()
        self._await_end()
        stream.finish(partial(self._end_stream, event))

    def _end_stream(self, event: Any) -> None:
        self._closes = False
        super().handle_close(event)

    def handle_connect(self, event: Any) -> None:
        """Called with the opening request; the application runs after this."""
        super().handle_connect(event)
        if self.handshake_complete:
            return  # it was refused
        extensions: Any = self.scope["extensions"]
        extensions[EXTENSION] = self

    def attach(self, stream: Stream) -> None:
        """From now on messages go to the stream."""
        self._stream = stream
        early, self._rest = bytes(self._rest), bytearray()
        if early and not self.transport.is_closing():
            self.data_received(early)
            self._read_or_pause()
        if self._stops:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._heard = True
        if self._closes:
            return
        if self._is_behind:
            self._late += data
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._take_frames(data)
        # Nearly always messages are whole, and no message before was large.
        if self._rest or self._message_timer is not None or self.conn.current_size is not None:
            self._look_at_message()

    def _take_frames(self, data: bytes) -> None:
        if self._stream is None and self.handshake_initiated:
            # The caller does not wait for the answer to its opening request.
            self._rest += data
            if not self.transport.is_closing():
                self.transport.pause_reading()
            return
        if self._stream is None:
            super().data_received(data)
            return
        if self._left_to_uvicorn:
            super().data_received(data[:SLICE_BYTES])
            if len(data) > SLICE_BYTES:
                self._parse_later(data[SLICE_BYTES:])
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), bytearray()
        at = self._needed = count = 0
        while (frame := find_frame(data, at)) is not None:
            if frame.end - frame.start > self.config.ws_max_size:
                self._left_to_uvicorn = True
            if self._left_to_uvicorn or count == MAX_FRAMES:
                self._parse_later(data[at:])
                return
            if frame.end > len(data):
                self._needed = frame.end - at
                break
            self._take(self._stream, data, at, frame)
            at, count = frame.end, count + 1
        self._rest += data[at:]

    def _parse_later(self, data: bytes) -> None:
        """Others have their turn before it is parsed; nothing more is read till then."""
        self._late += data
        self._is_behind = True
        self._read_or_pause()
        self.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        self._is_behind = False
        data, self._late = bytes(self._late), bytearray()
        if data:
            self._parse(data)
        if not self._is_behind:
            self._read_or_pause()

    def _take(self, stream: Stream, data: bytes, at: int, frame: Frame) -> None:
        is_open = self.conn.state is State.OPEN and self.conn.current_size is None
        if frame.kind in WHOLE and frame.masked and is_open:
            mask = data[frame.start - MASK_BYTES : frame.start]
            payload = apply_mask(data[frame.start : frame.end], mask)
            self._give(stream, payload, is_text=frame.kind == FINAL | Opcode.TEXT)
        else:
            super().data_received(data[at : frame.end])
        if self._message_timer is not None and self.conn.current_size is None and not self._closes:
            # What follows has its own time.
            self._stop_awaiting_end()

    def _look_at_message(self) -> None:
        """Sees to it that what has come of a message has room, and that it ends in time."""
        if self._stream is None or self._closes or self.transport.is_closing():
            return
        fragments = self.conn.current_size
        try:
            self._stream.hold(len(self._rest) + (fragments or 0))
        except Overloaded as error:
            self._fail(CloseCode.TRY_AGAIN_LATER, str(error))
            return
        if not self._rest and fragments is None:
            self._stop_awaiting_end()
        elif self._message_timer is None:
            self._await_end()

    def _await_end(self) -> None:
        self._unsent_then = self.transport.get_write_buffer_size()
        self._message_timer = self.loop.call_later(self._timeout_s, self._message_is_late)

    def _stop_awaiting_end(self) -> None:
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None

    def _message_is_late(self) -> None:
        self._message_timer = None
        if self.transport.is_closing():
            return
        reads = self.is_writable or self.transport.get_write_buffer_size() < self._unsent_then
        if self._closes and reads:
            self._await_end()
        elif self._closes:
            self.transport.abort()
        elif reads and (not self._takes_more or self.transport.unread_bytes):
            # The rest may have arrived.
            self._look_at_message()
        else:
            text = f"its message has no end after {self._timeout_s:g} s"
            self._fail(CloseCode.POLICY_VIOLATION, text)

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Closes the connection with a reason, and lets go of what has come."""
        self._left_to_uvicorn = True
        self._rest.clear()
        self._late.clear()
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def _give(self, stream: Stream, message: bytes, is_text: bool) -> None:
        """Gives a message to its stream; a text that is no UTF-8 ends the connection."""
        if is_text and not is_utf8(message):
            self._fail(CloseCode.INVALID_DATA, "a text message must be UTF-8")
        else:
            stream.take(message)

    def send_receive_event_to_app(self) -> None:
        """Called with a message that uvicorn has read."""
        if self._stream is None or not self.queue.empty():
            # The application passes it on, after those before it.
            super().send_receive_event_to_app()
            return
        message, self.frames = b"".join(self.frames), []
        self._give(self._stream, message, is_text=self.curr_msg_data_type == "text")

    def answer(self, payload: bytes) -> None:
        """Sends a text message, unless the connection is closing."""
        if self._is_open and not self.transport.is_closing():
            self.transport.write(text_frame(payload))

    @property
    def _is_open(self) -> bool:
        """Whether no close frame has left; one that the caller has sent may wait."""
        return self._closes or self.conn.state is State.OPEN

    @property
    def is_writable(self) -> bool:
        """Whether the caller reads what it is sent."""
        return self.writable.is_set()

    def read_on(self, go_on: bool) -> None:
        """Reads on, or stops for now."""
        self._reads = go_on
        self._read_or_pause()

    def _read_or_pause(self) -> None:
        if self.transport.is_closing():
            return
        if self._takes_more:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    @property
    def _takes_more(self) -> bool:
        """Whether what comes is read."""
        # uvicorn pauses while the application has not fetched what came before the stream was open.
        # A caller who does not read is not read either: the answers to its pings would pile up.
        return self._reads and self.is_writable and not self.read_paused and not self._is_behind

    async def send(self, message: ASGISendEvent) -> None:
        """As ASGI has it."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # A refusal as a whole answer, after which uvicorn would miss the handshake.
            self.handshake_complete = True

    async def receive(self) -> ASGIReceiveEvent:
        """As ASGI has it."""
        message = await super().receive()
        # uvicorn reads on once nothing is left to fetch, though the stream may have had enough.
        self._read_or_pause()
        return message

    def send_keepalive_ping(self) -> None:
        """Called when it is time to ask whether the caller is there."""
        self._heard = False
        super().send_keepalive_ping()
        self._unsent = self.transport.get_write_buffer_size()

    def keepalive_timeout(self) -> None:
        """Called when the answer to a ping has not come in its time.

        The answer stands behind all messages that the caller has sent ahead, which may take longer
        to compute. But a caller who reads none of its answers meanwhile has gone.
        """
        reads = self.transport.get_write_buffer_size() < self._unsent
        if (self._reads or not self.is_writable) and not self._heard and not reads:
            super().keepalive_timeout()
            if not self.is_writable:
                # The caller would not read the reason either.
                self.transport.abort()
        else:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()

    @property
    def caller(self) -> str:
        """The name of who sends on this connection."""
        if self._stream is not None:
            return self._stream.caller
        return name_of_address(self.client[0]) if self.client else ""

    @property
    def has_state(self) -> bool:
        """Whether its caller would lose the state of a sequence."""
        return not self.transport.is_closing()

    @property
    def waits_since(self) -> float:
        """Since when its next message is awaited, in seconds; infinite if none is.

        What has come of a message that is not whole does not count.
        """
        if self._stream is None or self._is_behind or self.transport.is_closing():
            return self.transport.closes_since
        return self._stream.waits_since

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody has read, and everything sent has left."""
        return not (self.transport.unread_bytes or self.transport.get_write_buffer_size())

    def make_room(self) -> None:
        """Closes the connection at once, and says why."""
        if self.transport.is_closing():
            self.transport.abort()
            return
        self.stop_keepalive()
        self.conn.send_close(CloseCode.TRY_AGAIN_LATER, "others need its connection")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close_at_once()

    def let_go(self) -> None:
        """Cuts the connection: others need the memory of what its caller does not read."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Called when the server is told to stop."""
        with or_cut(self.transport):
            if self._stream is None:
                self._stops = True
            else:
                context_of(self.app).registry.drain()
                if not self._closes:
                    self._stream.finish(self._say_goodbye)

    def _say_goodbye(self) -> None:
        # It may be closing for another reason.
        if not self.transport.is_closing():
            with or_cut(self.transport):
                super().shutdown()

    def pause_writing(self) -> None:
        """Called by the event loop."""
        super().pause_writing()
        self._unread.wait(self, self.transport.get_write_buffer_size())
        self._read_or_pause()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        super().resume_writing()
        self._unread.end(self)
        self._read_or_pause()
        if self._stream is not None:
            self._stream.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        super().connection_lost(exc)
        self._unread.end(self)
        self._stream = None
        self._late.clear()
        self._stop_awaiting_end()
        # What refers back to the protocol, which goes with its connection then.
        self.scope = None  # type: ignore[assignment]  # the application has it
        # The reader of `websockets`, which waits for more, and the traceback of what it refused.
        self.conn.parser.close()
        self.conn.parser_exc = self.conn.handshake_exc = None
        context_of(self.app).stats.count_closed()
