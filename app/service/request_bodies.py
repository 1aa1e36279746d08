"""`RequestBodies`: reads the bodies of requests and understands them, here or beside the worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from app.errors import UnrollError
from app.service.body import read_body
from app.service.large_bodies import LARGE_BYTES, MAX_LARGE, Decoder, LargeBodies, Room
from app.service.loop_turns import LoopTurns
from app.service.pending_request import Deadlines, PendingRequest

R = TypeVar("R")


class RequestBodies:
    """See the module.

    Args:
        deadlines: of all requests that are open.
        limit: bytes of a body.

    Attributes:
        large: reads and prints what is large.
        room: of large bodies.
        turns: of bodies that arrived whole and are not large.
    """

    def __init__(self, deadlines: Deadlines, limit: int) -> None:
        self._deadlines = deadlines
        self._limit = limit
        self.large = LargeBodies()
        self.turns = LoopTurns()
        self.room = Room(MAX_LARGE * limit)

    @asynccontextmanager
    async def reading(
        self, scope: Scope, receive: Receive, decoder: Decoder[Any, R]
    ) -> AsyncIterator[tuple[PendingRequest, R, int]]:
        """A request whose body comes in pieces: read, understood, still pending; and its bytes.

        Args:
            scope, receive: of the request (ASGI).
            decoder: understands a body.

        Raises:
            UnrollError: the body is not as it must be.
        """
        pending = PendingRequest(self._deadlines)
        try:
            with self.room.share() as hold:
                with pending.reading():
                    body = await read_body(scope["headers"], receive, pending, self._limit, hold)
                pending.listen(receive)
                request = await self.decode(decoder, body, pending, hold)
            # Not kept while it waits: the arrays are a fraction of it.
            size, body = len(body), b""
            yield pending, request, size
        finally:
            pending.hang_up()

    async def decode(
        self,
        decoder: Decoder[Any, R],
        body: bytes,
        pending: PendingRequest,
        hold: Callable[[int], None],
    ) -> R:
        """The request that a body is, which may be read elsewhere; its caller waits meanwhile.

        Args:
            decoder: of its route.
            body: whole.
            pending: the request; who gives it up interrupts this.
            hold: is told how many bytes it takes; see `Room.share`.

        Raises:
            InvalidRequest: it is none.
            Overloaded: large bodies take all the room that they may.
            Cancelled, Expired: nobody waits for it any more.
        """
        size = decoder.size(body)
        if size <= LARGE_BYTES:
            return decoder.make(decoder.read(body))
        # What says that it unpacks to more than a body may is refused before it is unpacked.
        hold(min(size, 2 * self._limit))
        reading = self.large.run(decoder.read, body)
        given_up: list[UnrollError] = []

        def give_up(reason: UnrollError) -> None:
            given_up.append(reason)
            reading.cancel()

        pending.wait(give_up)
        try:
            return decoder.make(await reading)
        except asyncio.CancelledError:
            if not given_up:
                raise
            raise given_up[0] from None

    async def decode_whole(
        self, decoder: Decoder[Any, R], body: bytes, pending: PendingRequest
    ) -> R:
        """As `decode`, of a body that arrived whole."""
        with self.room.share() as hold:
            return await self.decode(decoder, body, pending, hold)
