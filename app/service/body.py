"""Reads a request's body: at most so many bytes, in the time that it has."""

import asyncio
from collections.abc import Callable, Iterable

from starlette.types import Receive

from app.codec.json_numbers import echo
from app.errors import BodyTooLarge, Cancelled, EncodedBody, Fault, Overloaded
from app.service.pending_request import PendingRequest

# A sender who is cut off in the middle sees a broken connection, not the answer. So what is too
# much is read and thrown away first, up to so many times the limit.
DISCARD_FACTOR = 16


async def read_body(
    headers: Iterable[tuple[bytes, bytes]],
    receive: Receive,
    pending: PendingRequest,
    limit: int,
    hold: Callable[[int], None],
) -> bytes:
    """The whole body.

    Args:
        headers: of the request, names in lower case.
        receive: gives the messages of the request (ASGI).
        pending: the request; it interrupts the reader when the body's time is over, or the service
            has stopped.
        limit: bytes.
        hold: is told how many bytes of it are kept, and raises `Overloaded` if that is too much
            beside what others hold.

    Raises:
        EncodedBody: it is compressed.
        BodyTooLarge, BodyTooSlow: it goes over a limit.
        Overloaded: large bodies of others hold all the room that they may.
        ShuttingDown: the service stopped before the body's end.
        Cancelled: the caller went away.
    """
    expected, asks_leave = _announced(headers)
    if expected > limit and asks_leave:
        # The sender waits for leave to send the body, and gets this answer instead.
        raise _too_large(expected, limit)
    parts: list[bytes] = []
    size, more = 0, True
    crowded: Overloaded | None = None
    while more and size <= limit * DISCARD_FACTOR:
        try:
            message = await receive()
        except asyncio.CancelledError:
            pending.raise_interruption(size)
            raise
        if message["type"] == "http.disconnect":
            raise Cancelled("the caller went away while sending")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if max(size, expected) <= limit and crowded is None:
            parts.append(part)
            try:
                hold(size)
            except Overloaded as error:
                # Its sender would not see an answer in the middle of it.
                crowded, parts = error, []
        # What is thrown away would stay until more comes.
        del message, part
    if size > limit:
        raise _too_large(size, limit)
    if crowded is not None:
        raise crowded
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bool]:
    """The length that the sender says, or 0; and whether it asks before it sends."""
    length, asks_leave = 0, False
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"expect":
            asks_leave = True
        elif name == b"content-encoding" and value.lower() != b"identity":
            encoding = echo(value.decode("latin-1"))
            raise EncodedBody(Fault("", f"Content-Encoding {encoding}: send the body plain"))
    return length, asks_leave


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(Fault("", f"the body has {size} bytes or more, the limit is {limit}"))
