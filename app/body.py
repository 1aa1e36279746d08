"""Reads a request's body: at most so many bytes, in at most so many seconds."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from app.codec import echo
from app.errors import BodyTooLarge, BodyTooSlow, Cancelled, EncodedBody, Fault
from app.settings import Settings

# A sender who is cut off in the middle sees a broken connection, not the answer. So what is too
# much is read and thrown away first, up to so many times the limit.
DISCARD_FACTOR = 16


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body.

    Raises:
        EncodedBody: it is compressed.
        BodyTooLarge, BodyTooSlow: it goes over a limit.
        Cancelled: the caller went away.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise EncodedBody(Fault("", f"Content-Encoding {echo(encoding)}: send the body plain"))
    limit = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    expected = int(announced) if announced.isdecimal() else 0
    if expected > limit and "expect" in request.headers:
        # The sender waits for leave to send the body, and gets this answer instead.
        raise _too_large(expected, limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for part in _stream(request):
                size += len(part)
                if max(size, expected) <= limit:
                    parts.append(part)
                elif size > limit * DISCARD_FACTOR:
                    break
    except TimeoutError:
        raise BodyTooSlow(
            Fault("", f"{size} bytes arrived in {settings.body_timeout_s:g} s, then no end")
        ) from None
    if size > limit:
        raise _too_large(size, limit)
    return b"".join(parts)


async def _stream(request: Request) -> AsyncIterator[bytes]:
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise Cancelled("the caller went away while sending") from None


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(Fault("", f"the body has {size} bytes or more, the limit is {limit}"))
