"""Reads a request's body: at most so many bytes, in at most so many seconds."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from app.errors import BodyTooLarge, BodyTooSlow, Cancelled, Fault
from app.settings import Settings


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body.

    A body whose announced length is too large is refused before a byte of it is read; one of
    unannounced length as soon as it is too large.

    Raises:
        BodyTooLarge, BodyTooSlow: it goes over a limit.
        Cancelled: the caller went away.
    """
    limit = settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(f"{announced} bytes", limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large("more", limit)
                parts.append(part)
    except TimeoutError:
        raise BodyTooSlow(
            Fault("", f"{size} bytes arrived in {settings.body_timeout_s:g} s, then no end")
        ) from None
    except ClientDisconnect:
        raise Cancelled("the caller went away while sending") from None
    return b"".join(parts)


def _too_large(found: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(Fault("", f"the body has {found}, the limit is {limit} bytes"))
