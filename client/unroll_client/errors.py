"""What can go wrong, and the one place that makes an error of an answer.

UnrollError
+-- InvalidInput        found here, before anything was sent
+-- NoAnswer            no answer came, or only a part of one
+-- NotUnderstood       an answer that is not Unroll's: another service, a proxy
+-- Problem             the service answered with an error (RFC 9457)
    +-- InvalidRequest  400, 408, 413, 415, 422: the request's mistake
    +-- NotFound        404: no such model, version or session
    +-- Conflict        409: the session is elsewhere, or the state is of another model
    +-- Unavailable     429, 502, 503, 504: try again later
    +-- Failed          anything else: the service's mistake
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode

MAX_TEXT = 200

# Of a message on a stream.
TOO_LARGE = "The message is too large"
CLOSED = (
    "the service takes UNROLL_MAX_BODY_BYTES at most. It did not count, and the stream is closed: "
    "open another one from `saved`"
)


class UnrollError(Exception):
    """Any error of this client."""


class InvalidInput(UnrollError, ValueError):
    """What was given cannot be sent; nothing was."""


class NoAnswer(UnrollError):
    """The service was not reached, or its answer did not come whole."""


class NotUnderstood(UnrollError):
    """What came is not an answer of Unroll."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a request: a JSON pointer to the place, and what is wrong there."""

    pointer: str
    message: str


class Problem(UnrollError):
    """The service answered with an error.

    Attributes:
        status: of HTTP.
        title: the kind of error.
        detail: what happened.
        faults: each mistake of a request that was refused, at most 10.
        retry_after_s: seconds after which to try again, where the service says so.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        faults: tuple[Fault, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{title} ({status}): {detail}" if detail else f"{title} ({status})")
        self.status = status
        self.title = title
        self.detail = detail
        self.faults = faults
        self.retry_after_s = retry_after_s


class InvalidRequest(Problem):
    """The request is wrong as it is; `faults` say where."""


class NotFound(Problem):
    """There is no such model, version or session."""


class Conflict(Problem):
    """A session is elsewhere, or a state belongs to another model or version."""


class Unavailable(Problem):
    """The service cannot answer now, but may later."""


class Failed(Problem):
    """The service failed on this request."""


KINDS: dict[int, type[Problem]] = {
    **dict.fromkeys((400, 408, 413, 415, 422, 431), InvalidRequest),
    404: NotFound,
    409: Conflict,
    **dict.fromkeys((429, 502, 503, 504), Unavailable),
}


# What would end the same way again: a request that HTTP has no form for, an answer without sense.
PERMANENT: dict[type[Exception], type[UnrollError]] = {
    httpx.LocalProtocolError: InvalidInput,
    httpx.UnsupportedProtocol: InvalidInput,
    httpx.DecodingError: NotUnderstood,
    httpx.TooManyRedirects: NotUnderstood,
}


def error_of(error: Exception) -> UnrollError:
    """The error that one of a transport is: `NoAnswer`, where another try may have one."""
    kind = next((PERMANENT[k] for k in type(error).__mro__ if k in PERMANENT), NoAnswer)
    made = kind(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    made.__cause__ = error
    return made


def problem_of(status: int, body: bytes, headers: Mapping[str, str]) -> Problem:
    """The error that an answer of HTTP is."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        # A proxy's page: its beginning tells enough.
        document = {"detail": body[:MAX_TEXT].decode(errors="replace")}
    return problem_in(document | {"status": status}, headers.get("retry-after"))


def problem_in(document: Mapping[str, Any], retry_after: str | None = None) -> Problem:
    """The error that a problem document is.

    Args:
        document: of RFC 9457; what it does not have is left out.
        retry_after: the header.
    """
    status = document.get("status")
    status = status if isinstance(status, int) else 500
    listed = document.get("errors")
    faults = tuple(
        Fault(str(item.get("pointer", "")), str(item.get("message", "")))
        for item in (listed if isinstance(listed, list) else ())
        if isinstance(item, dict)
    )
    return KINDS.get(status, Failed)(
        status,
        str(document.get("title", "The service answered with an error")),
        str(document.get("detail", "")),
        faults,
        _seconds(retry_after),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of the header; its other form, a date, is ignored."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return float(retry_after)


@contextmanager
def transport_errors() -> Iterator[None]:
    """Makes the errors of transports ours: those of an answer under way, and of WebSocket."""
    try:
        yield
    except InvalidStatus as error:
        answer = error.response
        raise problem_of(answer.status_code, bytes(answer.body or b""), answer.headers) from error
    except (httpx.RequestError, WebSocketException, OSError) as error:
        if _was_too_large(error):
            raise InvalidRequest(413, TOO_LARGE, CLOSED) from error
        raise error_of(error) from error


def _was_too_large(error: Exception) -> bool:
    """Whether the service closed a stream for the size of a message, which it did not read."""
    return (
        isinstance(error, ConnectionClosed)
        and error.rcvd is not None
        # Else this side closed it, and the service repeats the code.
        and error.rcvd_then_sent is not False
        and error.rcvd.code == CloseCode.MESSAGE_TOO_BIG
    )
