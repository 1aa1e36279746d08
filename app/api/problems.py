"""Errors as answers: the one table from the error tree to status codes (RFC 9457 problems)."""

import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.client import responses as phrases
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from app import errors
from app.codec.json_numbers import MAX_ECHO, MAX_FAULTS, echo, escaped, print_json
from app.errors import Fault, InvalidRequest, UnrollError, quoted

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# The nearest ancestor in the table decides. 499 is what proxies log for a caller who has gone.
STATUSES: dict[type[UnrollError], tuple[int, str]] = {
    errors.NotHTTP: (400, "The request is not HTTP"),
    errors.UnknownCoding: (501, "The transfer coding is not known"),
    errors.HeadTooLarge: (431, "The head of the request is too large"),
    errors.HeadTooSlow: (408, "The head of the request did not arrive in time"),
    errors.NotJSON: (400, "The body is not JSON"),
    errors.BodyTooSlow: (408, "The body did not arrive in time"),
    errors.BodyTooLarge: (413, "The body is too large"),
    errors.EncodedBody: (415, "The body is compressed"),
    errors.UnknownModel: (404, "There is no such model"),
    errors.OtherModel: (409, "The state is of another model"),
    errors.UnknownSession: (404, "There is no such session"),
    errors.SessionConflict: (409, "The session is elsewhere"),
    errors.NotFinite: (422, "The model overflows on this input"),
    errors.InvalidRequest: (422, "The request is invalid"),
    errors.NotReady: (503, "The service is not ready"),
    errors.Overloaded: (503, "The service is overloaded"),
    errors.Expired: (503, "The request took too long"),
    errors.ShuttingDown: (503, "The service is stopping"),
    errors.TooManySessions: (503, "There are too many sessions"),
    errors.SessionsUnavailable: (503, "The sessions are unavailable"),
    errors.TooManyConnections: (503, "There are too many connections"),
    errors.Unavailable: (503, "The service is unavailable"),
    errors.Cancelled: (499, "The caller has gone"),
    errors.UnrollError: (500, "The service failed"),
}

# After these the rest of the request may still come, or there is no room for one.
LAST = (
    errors.NotHTTP,
    errors.UnknownCoding,
    errors.HeadTooLarge,
    errors.HeadTooSlow,
    errors.BodyTooLarge,
    errors.BodyTooSlow,
    errors.TooManyConnections,
)


# Protocols whose errors are `{"error": text}`, by the first part of their paths: the statuses that
# they have instead, and those of some errors.
DIALECTS: dict[str, tuple[dict[int, int], dict[type[UnrollError], int]]] = {
    "v1": ({422: 400}, {errors.Overloaded: 429, errors.Expired: 504}),
    "v2": ({422: 400}, {}),
}


def problem(
    status: int,
    title: str,
    detail: str,
    faults: Iterable[Fault] = (),
    headers: Mapping[str, str] | None = None,
    path: str = "",
) -> Response:
    """An answer of media type `application/problem+json`, or as the protocol at `path` has it."""
    if _protocol(path) in DIALECTS:
        return Response(print_json({"error": detail}), status, headers, "application/json")
    return Response(
        print_json(_document(status, title, detail, faults)), status, headers, MEDIA_TYPE
    )


def _document(status: int, title: str, detail: str, faults: Iterable[Fault] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "about:blank" if title == phrases.get(status) else _type_of(title),
        "title": title,
        "status": status,
        "detail": detail,
    }
    if listed := [{"pointer": f.pointer, "message": f.message} for f in faults]:
        made["errors"] = listed[:MAX_FAULTS]
    return made


def _type_of(title: str) -> str:
    return "urn:unroll:problem:" + title.lower().replace(" ", "-")


def _protocol(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _nature(error: UnrollError) -> tuple[int, str, tuple[Fault, ...]]:
    """Status, title and faults of an error of ours."""
    status, title = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return status, title, error.faults if isinstance(error, InvalidRequest) else ()


def problem_document(error: UnrollError) -> dict[str, Any]:
    """A problem as part of an answer that has begun."""
    status, title, faults = _nature(error)
    return _document(status, title, str(error), faults)


def problem_of(error: UnrollError, path: str = "") -> Response:
    """The answer to an error of ours, at a path."""
    status, title, faults = _nature(error)
    headers = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, errors.Unavailable):
        headers["Retry-After"] = "1"
    if isinstance(error, LAST):
        # Nobody knows where the next request begins, so the connection cannot be used again.
        headers["Connection"] = "close"
    detail = str(error)
    if _protocol(path) in DIALECTS:
        statuses, kinds = DIALECTS[_protocol(path)]
        status = kinds.get(type(error), statuses.get(status, status))
        if isinstance(error, errors.NotJSON):
            # There is no title beside it that says what was read.
            detail = f"{title}: {detail}"
    return problem(status, title, detail, faults, headers, path)


def unexpected(error: Exception, path: str = "") -> Response:
    """The answer to what should not happen: no more than the error's kind."""
    return problem(500, "The service failed", type(error).__name__, path=path)


def faults_of(found: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """The first of pydantic's errors as faults, without the values that it repeats in full."""
    faults = []
    for item in islice(found, MAX_FAULTS):
        # Cut first: half of an escape would be no pointer.
        parts = (str(part)[:MAX_ECHO] for part in item["loc"])
        pointer = "".join(f"/{escaped(part)}" for part in parts)
        message = str(item["msg"])
        if item["type"] == "model_type":
            message = "Input should be an object"
        if item["type"] not in ("missing", "extra_forbidden"):
            message += f", got {echo(item['input'])}"
        faults.append(Fault(pointer, message))
    return faults


def _of_routing(request: Request, error: HTTPException) -> str | None:
    """Why no route took a request: more than the status says."""
    place = quoted(_path(request))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {place}; /docs lists what there is"
    if allowed := (error.headers or {}).get("Allow"):
        right = allowed.replace(", ", " or ")
        return f"{request.method:.20} is not allowed at {place}; {right} is"
    return None


def _path(request: Request) -> str:
    """The path that was asked for. Of `request.url` the standard library keeps a copy."""
    path: str = request.scope["path"]
    return path


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what no route takes; a stream that is opened there too."""
    if scope["type"] != "websocket":
        raise HTTPException(HTTPStatus.NOT_FOUND)
    detail = f"there is no stream at {quoted(scope['path'])}; /docs lists what there is"
    title = phrases[HTTPStatus.NOT_FOUND]
    refusal = problem(HTTPStatus.NOT_FOUND, title, detail, path=scope["path"])
    await WebSocket(scope, receive, send).send_denial_response(refusal)


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem; no stack trace leaves the service."""
    app.router.default = _nowhere

    @app.exception_handler(UnrollError)
    async def ours(request: Request, error: UnrollError) -> Response:
        return problem_of(error, _path(request))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        status, path = error.status_code, _path(request)
        title, detail = phrases.get(status, "Error"), str(error.detail)
        if detail == title:
            detail = _of_routing(request, error) or title
        return problem(status, title, detail, headers=error.headers, path=path)

    @app.exception_handler(RequestValidationError)
    async def of_fastapi(request: Request, error: RequestValidationError) -> Response:
        return problem_of(InvalidRequest(*faults_of(error.errors())), _path(request))

    @app.exception_handler(Exception)
    async def of_a_bug(request: Request, error: Exception) -> Response:
        # Starlette logs the trace when it raises the error again behind this answer.
        return unexpected(error, _path(request))
