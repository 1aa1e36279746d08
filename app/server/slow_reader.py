"""`SlowReaderProtocol`: uvicorn's HTTP protocol, which lets go of callers who do not read."""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.server_context import context_of
from app.server.orderly_transport import OrderlyTransport
from app.service.callers import name_of_address


class SlowReaderProtocol(HttpToolsProtocol):
    """See the module: an answer would keep its memory for as long as its caller likes.

    Once the connection closes, `OrderlyTransport` sees to that.
    """

    # uvicorn's own type of it is a wider one.
    transport: OrderlyTransport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn allows any ASGI callable here; ours is always the application.
        self._context = context_of(self.app)
        self._timeout_s = self._context.body_timeout_s
        # Runs while an answer waits for its caller to read; bytes that were unsent when it began.
        self._reader_timer: TimerHandle | None = None
        self._unsent = 0
        # Bytes of the answer that are not written yet.
        self._unwritten = 0

    @property
    def caller(self) -> str:
        """The name of who sends and reads on this connection."""
        return name_of_address(self.client[0]) if self.client else ""

    def let_go(self) -> None:
        """Cuts the connection: others need the memory of what its caller does not read."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Called by the event loop."""
        super().pause_writing()
        self._await_reader()
        self._context.unread.wait(self, self.transport.get_write_buffer_size() + self._unwritten)

    def resume_writing(self) -> None:
        """Called by the event loop."""
        super().resume_writing()
        self.stop_awaiting_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        super().connection_lost(exc)
        self.stop_awaiting_reader()

    def _await_reader(self) -> None:
        if self._reader_timer is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._reader_timer = self.loop.call_later(self._timeout_s, self._reader_is_late)

    def stop_awaiting_reader(self) -> None:
        """The caller has read."""
        self._context.unread.end(self)
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _hold(self, size: int) -> None:
        """So many bytes of the answer are kept, and written once what is before them is read."""
        self._unwritten = size
        if self.flow.write_paused:
            self._context.unread.wait(self, self.transport.get_write_buffer_size() + size)

    def _reader_is_late(self) -> None:
        self._reader_timer = None
        if self.transport.get_write_buffer_size() < self._unsent:
            # The caller reads, if slowly.
            self._await_reader()
        else:
            # `close` would wait until the caller has read all.
            self.transport.abort()
