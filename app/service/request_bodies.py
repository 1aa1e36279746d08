"""`RequestBodies`: reads the bodies of requests and understands them, here or beside the worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from app.errors import Expired, UnrollError
from app.service.body import read_body
from app.service.body_room import MAX_LARGE, BodyRoom
from app.service.large_bodies import LARGE_BYTES, Decoder, LargeBodies, R
from app.service.loop_turns import LoopTurns
from app.service.pending_request import Deadlines, PendingRequest

# Seconds between two looks whether all bodies are understood, and those after which a large body of
# which nothing more has come is one whose sender does not send it.
LOOK_S, SILENCE_S = 0.02, 0.5
# Seconds from one look to the next count as no more than so many.
MOST_LOOK_S = 2 * LOOK_S

A = TypeVar("A")
P = TypeVar("P")

# Who sends a request, and the seconds that its head says it waits.
Sender = tuple[str, float]


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
        # Bodies that arrive in pieces, and those that have and are read beside the worker.
        self._arriving = self._read_beside = 0
        self.large = LargeBodies()
        self.turns = LoopTurns()
        self.room = BodyRoom(MAX_LARGE * limit)

    async def understood(self) -> None:
        """Returns once all requests have begun whose bodies have arrived, be it in the kernel."""
        loop = asyncio.get_running_loop()
        came, silent_s, looked = self.room.came, 0.0, loop.time()
        while self._read_beside or self.turns.are_due or self._arriving:
            now = loop.time()
            # While this process was stopped, or busy, nothing could be read.
            silent_s += min(now - looked, MOST_LOOK_S)
            looked = now
            if came != self.room.came or self._read_beside:
                came, silent_s = self.room.came, 0.0
            elif not self.turns.are_due and silent_s > SILENCE_S:
                return
            await asyncio.sleep(LOOK_S)

    @asynccontextmanager
    async def reading(
        self, scope: Scope, receive: Receive, decoder: Decoder[Any, R], sender: Sender
    ) -> AsyncIterator[tuple[PendingRequest, R, int]]:
        """A request whose body comes in pieces: read, understood, still pending; and its bytes.

        Args:
            scope, receive: of the request (ASGI).
            decoder: understands a body.
            sender: of the request.

        Raises:
            UnrollError: the body is not as it must be.
        """
        pending = PendingRequest(self._deadlines)
        try:
            with self.room.share(sender[0]) as hold:
                self._arriving += 1
                try:
                    with pending.reading():
                        headers = scope["headers"]
                        body = await read_body(headers, receive, pending, self._limit, hold)
                finally:
                    self._arriving -= 1
                pending.listen(receive)
                request = await self._decode(decoder, body, pending, hold, sender)
            # Not kept while it waits: the arrays are a fraction of it.
            size, body = len(body), b""
            yield pending, request, size
        finally:
            pending.hang_up()

    async def decode_whole(
        self, decoder: Decoder[Any, R], body: bytes, pending: PendingRequest, sender: Sender
    ) -> R:
        """The request that a large body is which arrived whole; its caller waits meanwhile.

        Args:
            decoder: of its route.
            body: whole.
            pending: the request; who gives it up interrupts this.
            sender: of the request.

        Raises:
            InvalidRequest: it is none.
            Overloaded: large bodies take all the room that they may.
            Cancelled, Expired: nobody waits for it any more.
        """
        with self.room.share(sender[0]) as hold:
            return await self._decode(decoder, body, pending, hold, sender)

    def decode_in_turn(
        self,
        decoder: Decoder[Any, R],
        body: bytes,
        pending: PendingRequest,
        then: Callable[[Callable[[], R]], None],
    ) -> None:
        """Calls `then` with what decodes a body once it is its turn, unless nobody waits any more.

        Args:
            decoder: of its route.
            body: whole.
            pending: the request.
            then: must not raise.
        """
        pending.arrive()

        def decode() -> R:
            request = decoder.make(decoder.read(body))
            request.waited_s = pending.waited_s
            return request

        def begin() -> None:
            if not pending.has_ended:
                then(decode)

        self.turns.call(begin)

    async def run(
        self,
        function: Callable[[A], P],
        value: A,
        pending: PendingRequest,
        sender: Sender,
        reason: Expired | None = None,
    ) -> P:
        """What a function gives for a value, in the process beside the worker.

        Args:
            function, value: see `LargeBodies.run`.
            pending: the request; who gives it up interrupts this.
            sender: of the request; its seconds are counted from when it arrived or began to wait.
            reason: why it is given up when they are over.

        Raises:
            Cancelled, Expired: nobody waits for it any more.
        """
        caller, wait_s = sender
        doing = self.large.run(function, value, caller)
        given_up: list[UnrollError] = []
        pending.wait(partial(_give_up, doing, given_up), wait_s, reason)
        try:
            found = await doing
        except asyncio.CancelledError:
            if not given_up:
                raise
        else:
            if not given_up:
                return found
        finally:
            # An error holds this frame, which would hold who holds the error.
            del doing, value
        raise given_up.pop()

    async def _decode(
        self,
        decoder: Decoder[Any, R],
        body: bytes,
        pending: PendingRequest,
        hold: Callable[[int], None],
        sender: Sender,
    ) -> R:
        size = decoder.size(body)
        if size <= LARGE_BYTES:
            return decoder.make(decoder.read(body))
        # What says that it unpacks to more than a body may is refused before it is unpacked.
        hold(min(size, 2 * self._limit))
        pending.arrive()
        caller, wait_s = sender
        until = caller, min(wait_s, decoder.timeout_s)
        self._read_beside += 1
        try:
            request = decoder.make(await self.run(decoder.read, body, pending, until))
        finally:
            self._read_beside -= 1
        request.waited_s = pending.waited_s
        return request


def _give_up(doing: asyncio.Future[Any], given_up: list[UnrollError], why: UnrollError) -> None:
    given_up.append(why)
    doing.cancel()
