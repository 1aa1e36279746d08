"""`Flow`: uvicorn's flow control, which reads no more while many requests wait for their turn."""

from asyncio import Transport
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl

# Requests of a connection that may wait behind the one that is computed; then no more are read. Not
# none: a connection that is not read does not tell that its caller hangs up.
MAX_AHEAD = 8


class Flow(FlowControl):
    """See the module.

    Args:
        transport: of the connection.
        waiting: its requests that wait for their turn.
    """

    def __init__(self, transport: Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Called after each answer, and when a request wants more of its body."""
        if len(self._waiting) <= MAX_AHEAD:
            super().resume_reading()
