"""`SlowReaderProtocol`: uvicorn's HTTP protocol, which lets go of callers who do not read."""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.server_context import context_of
from app.server.orderly_transport import OrderlyTransport


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

    def pause_writing(self) -> None:
        """Called by the event loop."""
        super().pause_writing()
        self._await_reader()

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
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _reader_is_late(self) -> None:
        self._reader_timer = None
        if self.transport.get_write_buffer_size() < self._unsent:
            # The caller reads, if slowly.
            self._await_reader()
        else:
            # `close` would wait until the caller has read all.
            self.transport.abort()
