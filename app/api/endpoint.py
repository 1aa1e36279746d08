"""`Endpoint`: decodes a body that asks for outputs, has it computed, and encodes the answer.

It is one way in that is called in two ways.

`begin` is the fast path: the server calls it for a body that arrived whole, as nearly all do, and
gets the answer's bytes, without a task, without ASGI's messages, with one write. `answer` is the
ASGI way, for a body that comes in pieces; it reads the body and then does the same.

The fast path is worth its code. Measured on two cores at 64 clients, 3 x LSTM 100: without it the
service answers 0.62 of the requests a second, on `fixed` as on `mixed`.
"""

import asyncio
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import Scope

from app.api.problems import faults_of, problem_of, unexpected
from app.codec.json_bounds import UNCOUNTED_BYTES, JSONBounds
from app.codec.json_numbers import echo, parse_json, print_json
from app.errors import Expired, Fault, InvalidRequest, UnrollError
from app.service.inference import InferenceRequest, InferenceService
from app.service.large_bodies import LARGE_BYTES, Decoder
from app.service.loop_turns import QUICK_BYTES
from app.service.pending_request import PendingRequest, late
from app.service.request_bodies import Sender

logger = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]
# The body of an answer, and its headers beside its length.
Reply = tuple[bytes, Headers]
# Writes an answer: status, headers, body.
Respond = Callable[[int, Headers, bytes], None]

P = TypeVar("P")
R = TypeVar("R", bound=InferenceRequest)
Options = TypeVar("Options", bound=BaseModel)

# How much the last body counts in the mean of time steps a byte; the most that is not packed.
NEWS, MAX_STEPS_PER_BYTE = 0.02, 0.25
# An item of `Prefer` (RFC 7240, section 2): its name, and its value, in quotes or not.
PREFERENCE = re.compile(
    rb'[\s,;]*+([^\s=,;"]++)[ \t]*+(?:=[ \t]*+("(?:[^"\\]|\\.)*+"|[^\s,;"]*+)[ \t]*+)?(?=[,;]|$)'
)
SECONDS = re.compile(rb'"([0-9]{1,6})"|([0-9]{1,6})')

# Headers that ask for more than an answer to a body.
ASKS_FOR_MORE = frozenset({b"expect", b"content-encoding"})


class Printing(NamedTuple, Generic[P]):
    """How an answer is printed: a function that can be pickled, and what it is given."""

    function: Callable[[P], Reply]
    value: P


class Endpoint(ABC, Generic[R]):
    """See the module. A protocol says how a body is decoded and an answer is encoded.

    Args:
        inference: of the application.
    """

    def __init__(self, inference: InferenceService) -> None:
        self.inference = inference
        # Of the bodies that came, a running mean.
        self._steps_per_byte = 0.0

    @abstractmethod
    def decoder(self, scope: Scope) -> Decoder[Any, R]:
        """Who understands the body of a request with this head.

        Both raise `UnrollError`; what the head says wrong is told before the body is read.
        """

    @abstractmethod
    def encode(self, scope: Scope, request: R) -> Printing[Any]:
        """How the answer to a request that is computed is printed."""

    def explain(self, error: UnrollError, request: R) -> UnrollError:
        """What is wrong, in the protocol's words."""
        return error

    def late(self, request: R) -> Expired:
        """What is told when the time that the caller set is over."""
        return late(request.timeout_s)

    def takes(self, headers: Headers) -> bool:
        """Whether the fast path answers requests with these headers, names in lower case."""
        return ASKS_FOR_MORE.isdisjoint(dict(headers))

    def begin(self, scope: Scope, body: bytes, pending: PendingRequest, respond: Respond) -> None:
        """Begins to answer a body that is whole.

        Args:
            scope: the request's head (ASGI).
            body: of the request.
            pending: the request; it may end before it is answered.
            respond: is called once, or never if the request ends before.
        """
        try:
            decoder, sender = self.decoder(scope), self._sender_of(scope)
            size = decoder.size(body)
            if size <= QUICK_BYTES:
                # It is decoded in less time than its refusal takes.
                decode = partial(_decode, decoder, body)
                self._begin_decoded(scope, sender, len(body), pending, respond, decode)
                return
            if self.inference.is_crowded:
                self._check_room(sender, len(body))
            if size <= LARGE_BYTES:
                begin = partial(self._begin_decoded, scope, sender, len(body), pending, respond)
                self.inference.bodies.decode_in_turn(decoder, body, pending, begin)
            else:
                large = self._begin_large(scope, sender, decoder, body, pending, respond)
                asyncio.get_running_loop().create_task(large)
        except Exception as error:
            # A bug is answered, too: nobody else would.
            fail(error, scope["path"], pending, respond)

    def _begin_decoded(
        self,
        scope: Scope,
        sender: Sender,
        size: int,
        pending: PendingRequest,
        respond: Respond,
        decode: Callable[[], R],
    ) -> None:
        """Has a body of so many bytes computed, once it may be decoded."""
        try:
            self._compute(scope, self._sent_by(sender, decode(), size), pending, respond)
        except Exception as error:
            fail(error, scope["path"], pending, respond)

    async def _begin_large(
        self,
        scope: Scope,
        sender: Sender,
        decoder: Decoder[Any, R],
        body: bytes,
        pending: PendingRequest,
        respond: Respond,
    ) -> None:
        """Has a body computed once it has been read elsewhere."""
        if pending.has_ended:
            return
        try:
            request = await self.inference.bodies.decode_whole(decoder, body, pending, sender)
            self._compute(scope, self._sent_by(sender, request, len(body)), pending, respond)
        except Exception as error:
            fail(error, scope["path"], pending, respond)

    async def answer(self, request: Request) -> Response:
        """Answers a body that comes in pieces."""
        scope = request.scope
        reply: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def respond(status: int, headers: Headers, body: bytes) -> None:
            if not reply.done():
                reply.set_result(plain_response(status, headers, body))

        async with self.reading(request) as (pending, work):
            try:
                self._compute(scope, work, pending, respond)
            except Exception:
                # Nothing was begun that could be given up.
                pending.end()
                raise
            pending.listen(request.receive)
            return await reply

    @asynccontextmanager
    async def reading(self, request: Request) -> AsyncIterator[tuple[PendingRequest, R]]:
        """A request whose body comes in pieces: read, understood, and still pending.

        Raises:
            UnrollError: there is no room, or the head or the body is not as it must be.
        """
        scope = request.scope
        decoder, sender = self.decoder(scope), self._sender_of(scope)
        length = header_of(scope, b"content-length") or ""
        # One that says more than a body may have is told so, not that it is to come again.
        size = int(length) if length.isdecimal() else 0
        self._check_room(sender, size if size <= self.inference.max_body_bytes else 0)
        reading = self.inference.bodies.reading(scope, request.receive, decoder, sender)
        async with reading as (pending, work, size):
            yield pending, self._sent_by(sender, work, size)

    def _sender_of(self, scope: Scope) -> Sender:
        return self.inference.caller_of(scope), wait_of(scope)

    def _check_room(self, sender: Sender, size: int) -> None:
        """Whether a body of so many bytes would be answered in time; raises `Unavailable`."""
        caller, wait_s = sender
        self.inference.check_room(caller, int(size * self._steps_per_byte), wait_s)

    def _sent_by(self, sender: Sender, request: R, size: int) -> R:
        """The request of a sender, which came in so many bytes."""
        request.caller, wait_s = sender
        request.timeout_s = min(request.timeout_s, wait_s)
        steps = sum([len(sequence.inputs) for sequence in request.sequences])
        # What is packed says nothing of what others send.
        found = min(steps / size, MAX_STEPS_PER_BYTE)
        self._steps_per_byte += NEWS * (found - self._steps_per_byte)
        return request

    def _compute(self, scope: Scope, request: R, pending: PendingRequest, respond: Respond) -> None:
        give_up = partial(self.inference.cancel, request)
        if request.timeout_s < math.inf:
            pending.wait(give_up, request.timeout_s, self.late(request))
        else:
            pending.wait(give_up)

        def done(error: UnrollError | None) -> None:
            if error is not None:
                fail(self.explain(error, request), scope["path"], pending, respond)
            elif request.has_long_answer:
                later = self._respond_later(scope, request, pending, respond)
                asyncio.get_running_loop().create_task(later)
            elif pending.end():
                self._respond(scope, request, respond)

        self.inference.begin(request, done)

    def _respond(self, scope: Scope, request: R, respond: Respond) -> None:
        try:
            printing = self.encode(scope, request)
            reply = printing.function(printing.value)
        except Exception as bug:
            respond_with_problem(bug, scope["path"], respond)
        else:
            _respond_with(reply, respond)

    async def _respond_later(
        self, scope: Scope, request: R, pending: PendingRequest, respond: Respond
    ) -> None:
        """Responds once a long answer has been printed elsewhere."""
        if pending.has_ended:
            return
        try:
            printing = self.encode(scope, request)
            sender = request.caller, request.timeout_s
            reply = await self.inference.bodies.run(*printing, pending, sender, self.late(request))
        except Exception as error:
            fail(error, scope["path"], pending, respond)
        else:
            if pending.end():
                _respond_with(reply, respond)


def print_object(document: dict[str, Any]) -> Reply:
    """An answer that is JSON."""
    return print_json(document), ((b"content-type", b"application/json"),)


def _decode(decoder: Decoder[Any, R], body: bytes) -> R:
    return decoder.make(decoder.read(body))


def _respond_with(reply: Reply, respond: Respond) -> None:
    body, headers = reply
    # In the order of FastAPI's way.
    respond(200, ((b"content-length", b"%d" % len(body)), *headers), body)


def fail(error: Exception, path: str, pending: PendingRequest, respond: Respond) -> None:
    """Answers with a problem, if somebody still waits."""
    if pending.end():
        respond_with_problem(error, path, respond)


def respond_with_problem(error: Exception, path: str, respond: Respond) -> None:
    """Answers with a problem."""
    if isinstance(error, UnrollError):
        problem = problem_of(error, path)
    else:
        logger.error("this is a bug: %s failed", path, exc_info=error)
        problem = unexpected(error, path)
    respond(problem.status_code, problem.raw_headers, bytes(problem.body))


def plain_response(status: int, headers: Headers, body: bytes) -> Response:
    """An answer as ASGI's way sends it."""
    response = Response(body, status)
    response.raw_headers = list(headers)
    return response


def wait_of(scope: Scope) -> float:
    """Seconds that a caller waits as it says in `Prefer: wait=10`; infinite if it does not."""
    if b"prefer" in dict(scope["headers"]):
        lines = [value for name, value in scope["headers"] if name == b"prefer"]
        return _wait_in(b",".join(lines))
    return math.inf


def _wait_in(preferences: bytes) -> float:
    # The first counts (RFC 7240, section 2), and what is no whole number counts for nothing.
    at = 0
    while found := PREFERENCE.match(preferences, at):
        at = found.end()
        name, value = found.groups(b"")
        if name.lower() == b"wait":
            seconds = SECONDS.fullmatch(value)
            return float(seconds[1] or seconds[2]) if seconds else math.inf
    return math.inf


def header_of(scope: Scope, name: bytes) -> str | None:
    """A header of a request, by its name in lower case; None if it has none.

    Of several lines of it, one is made, as RFC 9110 has it (section 5.3).
    """
    lines = scope["headers"]
    # Asked several times a request: a dictionary finds it in a fraction of a loop's time.
    fields = dict(lines)
    if name not in fields or len(fields) == len(lines):
        value = fields.get(name)
        return None if value is None else str(value, "latin-1")
    return ", ".join([str(value, "latin-1") for found, value in lines if found == name])


def parse_object(body: bytes, bounds: JSONBounds | None = None) -> dict[str, Any]:
    """A body that is a JSON object, within the bounds of a model; raises `InvalidRequest`."""
    if bounds is not None and len(body) > UNCOUNTED_BYTES:
        bounds.check(body)
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidRequest(Fault("", f"the body must be an object, got {echo(document)}"))
    return document


def checked(validate: Callable[[], Options]) -> Options:
    """A request's options; raises `InvalidRequest` where pydantic refuses them."""
    try:
        return validate()
    except ValidationError as error:
        raise InvalidRequest(*faults_of(error.errors(include_url=False))) from None
