"""`WS /stream`: pieces of one sequence as they happen; its state lives with the connection.

    -> {"sequence": [[...], ...], "outputs": "last", "states": "token", "id": 7}
    <- {"id": 7, "time_step": 0, "outputs": [[...]], "state": "u1..."}

Answers come in the order of messages. A message that cannot be computed is answered with
`{"id": ..., "error": problem}`, and the stream and its state stay as they were.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

import numpy as np
from fastapi import APIRouter, WebSocket

from app.api.endpoint import Headers, checked, fail, parse_object, respond_with_problem
from app.api.protocols.native.predict import told
from app.api.schemas import MAX_ID, StreamMessage
from app.codec.json_bounds import UNCOUNTED_BYTES
from app.codec.json_numbers import Faults, may_have_booleans, print_json
from app.codec.model_codec import Codec
from app.codec.states import State
from app.errors import UnrollError
from app.registry.registry import LoadedModel
from app.service.body_room import Part
from app.service.inference import InferenceRequest, InferenceService, new_sequences
from app.service.large_bodies import LARGE_BYTES, Decoder
from app.service.pending_request import PendingRequest
from app.stats.answer_counts import NOT_GIVEN, STREAM

PATH = "/stream"
# In `scope["extensions"]`: the connection, as `StreamProtocol` puts it there.
EXTENSION = "unroll.stream"
# Messages that wait behind the one that is computed, before no more are read.
MAX_AHEAD = 64
MAX_AHEAD_BYTES = 1 << 16

NO_OPTIONS = StreamMessage(sequence=[])
PIECE = "/sequence"
STATE = "/initial_state"
NUMBERS = {"sequence", "initial_state"}
NO_TIME_STEPS = np.empty((0, 0), np.float32)


class Message(NamedTuple):
    """What a message is read as. One that is refused is still known by its id.

    Attributes:
        id, given: of the message, and its options.
        array: float32 `[T, F]`.
        state: its own initial state, if it has one.
        error: why it is refused.
    """

    id: str | int | None
    given: StreamMessage
    array: np.ndarray
    state: State | None
    error: UnrollError | None


class Connection(Protocol):
    """Where a stream's answers go."""

    @property
    def is_writable(self) -> bool:
        """Whether the caller reads what it is sent."""

    def answer(self, payload: bytes) -> None:
        """Sends an answer."""

    def read_on(self, go_on: bool) -> None:
        """Reads messages on, or stops for now."""

    def attach(self, stream: "Stream") -> None:
        """From now on messages go to the stream."""


class Stream:
    """One connection. Everything here happens on the event loop.

    Args:
        inference: of the application.
        connection: takes answers, JSON.
        caller: whose it is.

    Attributes:
        caller: whose it is.
    """

    def __init__(self, inference: InferenceService, connection: Connection, caller: str) -> None:
        self.caller = caller
        self._inference = inference
        self._connection = connection
        self._ahead: deque[str | bytes] = deque()
        self._ahead_bytes = 0
        # Of the room for large bodies: for what waits, and what has come of the next message.
        self._part = Part(inference.bodies.room, caller)
        self._reading = True
        self._pending: PendingRequest | None = None
        # When the last message was begun; at first, when the stream was opened.
        self._began_ns = perf_counter_ns()
        self._given = NO_OPTIONS
        self._id: str | int | None = None
        self._state: State | None = None
        self._time_step = 0
        self._finished: Callable[[], None] | None = None

    @property
    def waits_since(self) -> float:
        """Since when the next message is awaited, in seconds on the monotonic clock.

        Infinite while one is computed or waits.
        """
        return math.inf if self._pending is not None or self._ahead else self._began_ns * 1e-9

    def take(self, message: str | bytes) -> None:
        """Takes a message; it is computed after those before."""
        self._ahead.append(message)
        self._ahead_bytes += len(message)
        self.go_on()

    def hold(self, size: int) -> None:
        """So many bytes have come of a message that is not whole.

        Raises:
            Overloaded: there is no room for them beside what others hold.
        """
        size += self._ahead_bytes
        self._part.shrink(size)
        self._part.grow(size)

    def go_on(self) -> None:
        """Begins the next message, if nothing is in its way."""
        if self._ahead and self._pending is None and self._connection.is_writable:
            message = self._ahead.popleft()
            self._ahead_bytes -= len(message)
            if self._part.held:
                self._part.shrink(self._part.held - len(message))
            self._begin(message)
        has_room = len(self._ahead) < MAX_AHEAD and self._ahead_bytes <= MAX_AHEAD_BYTES
        if has_room != self._reading:
            self._reading = has_room
            self._connection.read_on(has_room)

    def finish(self, then: Callable[[], None]) -> None:
        """Calls `then` once all messages that were taken are answered."""
        self._finished = then
        if self._pending is None and not self._ahead:
            then()

    def hang_up(self) -> None:
        """The caller has gone; nobody is answered."""
        self._ahead.clear()
        self._part.shrink(0)
        if self._pending is not None and self._pending.hang_up():
            self._count(NOT_GIVEN)

    def _begin(self, message: str | bytes) -> None:
        inference = self._inference
        pending = self._pending = PendingRequest(inference.deadlines)
        self._began_ns, self._given, self._id = perf_counter_ns(), NO_OPTIONS, None
        body = message.encode() if isinstance(message, str) else message
        try:
            ready = self._ready(body)
            request = partial(self._request, ready)
            decoder = Decoder(partial(read_message, ready.codec), request)
            if decoder.size(body) > LARGE_BYTES:
                large = self._begin_large(decoder, body, pending)
                asyncio.get_running_loop().create_task(large)
            else:
                self._compute(pending, decoder.make(decoder.read(body)))
        except Exception as error:
            fail(error, PATH, pending, self._respond)

    def _ready(self, body: bytes) -> LoadedModel:
        """The model. Where there is none, who sent a message is told so by its id."""
        try:
            return self._inference.registry.current()
        except UnrollError:
            if len(body) <= UNCOUNTED_BYTES:
                self._id = _echoed(parse_object(body).get("id"))
            raise

    async def _begin_large(
        self, decoder: Decoder[Message, InferenceRequest], body: bytes, pending: PendingRequest
    ) -> None:
        """Has a message computed once it has been read elsewhere."""
        if pending.has_ended:
            return
        sender = self.caller, math.inf
        try:
            work = await self._inference.bodies.decode_whole(decoder, body, pending, sender)
            self._compute(pending, work)
        except Exception as error:
            fail(error, PATH, pending, self._respond)

    def _compute(self, pending: PendingRequest, work: InferenceRequest) -> None:
        pending.wait(partial(self._inference.cancel, work))
        self._inference.begin(work, partial(self._computed, pending, work))

    def _computed(
        self, pending: PendingRequest, work: InferenceRequest, error: UnrollError | None
    ) -> None:
        if error is not None:
            fail(error, PATH, pending, self._respond)
        elif pending.end():
            start = self._first_time_step()
            try:
                body = self._encode(work, start)
            except Exception as bug:
                # The caller is told, and the stream's state stays as it was.
                respond_with_problem(bug, PATH, self._respond)
                return
            (sequence,), (self._state,) = work.sequences, work.final_states
            self._time_step = start + len(sequence.inputs)
            self._respond(200, (), body)

    def _first_time_step(self) -> int:
        """Time step at which the piece begins: 0 with a state of its own, else the stream's."""
        return 0 if self._has_own_state else self._time_step

    @property
    def _has_own_state(self) -> bool:
        return STATE[1:] in self._given.model_fields_set

    def _request(self, ready: LoadedModel, message: Message) -> InferenceRequest:
        """What a message asks for; raises `InvalidRequest`."""
        self._id, self._given = message.id, message.given
        if message.error is not None:
            try:
                raise message.error
            finally:
                # The error holds this frame, which would hold the error.
                del message
        state = message.state if self._has_own_state else self._state
        (sequence,) = new_sequences([message.array], [state])
        sequence.pointer = PIECE
        return InferenceRequest(ready=ready, sequences=[sequence], caller=self.caller)

    def _encode(self, work: InferenceRequest, start: int) -> bytes:
        """The answer to a piece that begins at time step `start`."""
        given, (sequence,), (state,) = self._given, work.sequences, work.final_states
        answer: dict[str, Any] = {} if self._id is None else {"id": self._id}
        answer["time_step"] = start
        if given.outputs == "all":
            answer |= told(work, sequence.outputs)
        elif given.outputs == "last":
            answer |= told(work, sequence.outputs[-1:])
            answer["time_step"] = start + len(sequence.inputs) - 1
        if given.states != "none":
            answer["state"] = work.ready.codec.states.printable(given.states, state)
        return print_json(answer)

    def _count(self, status: int) -> None:
        self._inference.registry.stats.answers.count(STREAM, status, self._began_ns)

    def _respond(self, status: int, _: Headers, body: bytes) -> None:
        self._pending = None
        self._count(status)
        if status == 200:
            self._connection.answer(body)
        else:
            name = b"" if self._id is None else b'"id":%s,' % print_json(self._id)
            self._connection.answer(b'{%s"error":%s}' % (name, body))
        if self._ahead:
            # Later: many messages in a row that are refused would call each other, ever deeper.
            asyncio.get_running_loop().call_soon(self.go_on)
        elif self._finished is not None:
            self._finished()


def make_router(inference: InferenceService) -> APIRouter:
    """The route, bound to an application."""
    router = APIRouter()

    @router.websocket(PATH)
    async def stream(socket: WebSocket) -> None:
        connection: Connection = socket.scope["extensions"][EXTENSION]
        await socket.accept()
        made = Stream(inference, connection, inference.caller_of(socket.scope))
        connection.attach(made)
        try:
            # Messages go to the stream itself. What comes here is the news that the caller has
            # gone, and messages from before its connection was accepted.
            while (event := await socket.receive())["type"] != "websocket.disconnect":
                made.take(event["text"] if "text" in event else event["bytes"])
        finally:
            made.hang_up()

    return router


def _echoed(name: object) -> str | int | None:
    """A message's id, if it is one: a message that is refused is still known by it."""
    return name if type(name) is int or (isinstance(name, str) and len(name) <= MAX_ID) else None


def read_message(codec: Codec, body: bytes) -> Message:
    """Understands a message; raises `InvalidRequest` only where it can have no id."""
    document = parse_object(body, codec.bounds)
    name, given, array, state = None, NO_OPTIONS, NO_TIME_STEPS, None
    try:
        if document.keys() != {"sequence"}:
            name = _echoed(document.get("id"))
            options = {key: None if key in NUMBERS else document[key] for key in document}
            given = checked(lambda: StreamMessage.model_validate(options))
        array = codec.sequences.parse_one(document["sequence"], PIECE, may_have_booleans(body))
        if STATE[1:] in document:
            faults = Faults()
            state = codec.states.parse_one(document[STATE[1:]], STATE, faults)
            faults.raise_any()
    except UnrollError as error:
        return Message(name, given, array, state, error)
    return Message(name, given, array, state, None)
