"""`Stream`: one time step after the other over WebSocket."""

import asyncio
import threading
from typing import Self

from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as async_connect
from websockets.sync.client import ClientConnection, connect

from unroll_client.encode import Rows
from unroll_client.errors import InvalidInput, transport_errors
from unroll_client.messages import Messages
from unroll_client.place import Place
from unroll_client.results import Numbers, Outputs, State

NOT_OPEN = "a stream is opened by `with` (or `async with`) first"
# A new connection would begin from zeros without a word.
ENTERED_BEFORE = "a stream is entered once: open another one from `saved`"


class _Memory:
    """What a stream remembers."""

    def __init__(self, place: Place, messages: Messages) -> None:
        self._place = place
        self._messages = messages

    @property
    def saved(self) -> State | None:
        """The last state that `save=True` asked for; before that, the initial one."""
        return self._messages.saved

    def restart(self, initial_state: State | None = None) -> None:
        """Lets the next time steps begin anew, from a state or from zeros.

        Those whose answer is under way in another thread or task come before.
        """
        self._messages.begin(initial_state)


class Stream(_Memory):
    """A conversation over WebSocket, from within `with`. Threads take turns.

    It is not opened again by itself: open another one from `saved`.
    """

    def __init__(self, place: Place, messages: Messages) -> None:
        super().__init__(place, messages)
        self._turn = threading.Lock()
        self._socket: ClientConnection | None = None

    def send(self, sequence: Rows, *, outputs: Outputs = "all", save: bool = False) -> Numbers:
        """The next time steps.

        Args:
            sequence, outputs: as for `Session.send`.
            save: ask for the state after them, and keep it as `saved`.

        Returns:
            as `Session.send`.

        Raises:
            Problem: the service refused them; the stream is where it was, but closed if they were
                too large (413).
            NoAnswer: the connection is lost, or the answer took too long. Whether the time steps
                counted is not known: open another stream from `saved`.
        """
        if self._socket is None:
            raise InvalidInput(NOT_OPEN)
        with self._turn, transport_errors():
            self._socket.send(self._messages.ask(sequence, outputs, save))
            return self._messages.take(self._socket.recv(self._place.timeout_s))

    def __enter__(self) -> Self:
        if self._socket is not None:
            raise InvalidInput(ENTERED_BEFORE)
        with transport_errors():
            # Entered, it is the connection with every version of websockets.
            self._socket = connect(**self._place.of_stream()).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()


class AsyncStream(_Memory):
    """As `Stream`, from within `async with`. Tasks take turns."""

    def __init__(self, place: Place, messages: Messages) -> None:
        super().__init__(place, messages)
        self._turn = asyncio.Lock()
        self._socket: AsyncConnection | None = None

    async def send(
        self, sequence: Rows, *, outputs: Outputs = "all", save: bool = False
    ) -> Numbers:
        """As `Stream.send`."""
        if self._socket is None:
            raise InvalidInput(NOT_OPEN)
        async with self._turn:
            with transport_errors():
                await self._socket.send(self._messages.ask(sequence, outputs, save))
                async with asyncio.timeout(self._place.timeout_s):
                    return self._messages.take(await self._socket.recv())

    async def __aenter__(self) -> Self:
        if self._socket is not None:
            raise InvalidInput(ENTERED_BEFORE)
        with transport_errors():
            self._socket = await async_connect(**self._place.of_stream())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()
