"""`WS /stream`: pieces of one sequence as they happen; its state lives with the connection.

    -> {"sequence": [[...], ...], "outputs": "last", "states": "token", "id": 7}
    <- {"id": 7, "time_step": 0, "outputs": [[...]], "state": "u1..."}

Answers come in the order of messages. A message that cannot be computed is answered with
`{"id": ..., "error": problem}`, and the stream and its state stay as they were.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, WebSocket

from app.api.endpoint import Headers, checked, fail, parse_object, respond_with_problem
from app.api.schemas import MAX_ID, StreamMessage
from app.codec.json_numbers import Faults, may_have_booleans, print_json
from app.codec.states import State
from app.errors import UnrollError
from app.service.inference import InferenceRequest, InferenceService, new_sequences
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
    """

    def __init__(self, inference: InferenceService, connection: Connection, caller: str) -> None:
        self._caller = caller
        self._inference = inference
        self._connection = connection
        self._ahead: deque[str | bytes] = deque()
        self._ahead_bytes = 0
        self._reading = True
        self._pending: PendingRequest | None = None
        self._began_ns = 0
        self._given = NO_OPTIONS
        self._id: str | int | None = None
        self._state: State | None = None
        self._time_step = 0
        self._finished: Callable[[], None] | None = None

    def take(self, message: str | bytes) -> None:
        """Takes a message; it is computed after those before."""
        self._ahead.append(message)
        self._ahead_bytes += len(message)
        self.go_on()

    def go_on(self) -> None:
        """Begins the next message, if nothing is in its way."""
        if self._ahead and self._pending is None and self._connection.is_writable:
            message = self._ahead.popleft()
            self._ahead_bytes -= len(message)
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
        if self._pending is not None and self._pending.hang_up():
            self._count(NOT_GIVEN)

    def _begin(self, message: str | bytes) -> None:
        inference = self._inference
        pending = self._pending = PendingRequest(inference.deadlines)
        self._began_ns, self._given, self._id = perf_counter_ns(), NO_OPTIONS, None
        try:
            work = self._decode(message)
            pending.wait(partial(inference.cancel, work))
            inference.begin(work, partial(self._computed, pending, work))
        except Exception as error:
            fail(error, PATH, pending, self._respond)

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
        return 0 if STATE[1:] in self._given.model_fields_set else self._time_step

    def _decode(self, message: str | bytes) -> InferenceRequest:
        document = parse_object(message)
        if document.keys() != {"sequence"}:
            self._id = _echoed(document.get("id"))
            self._given = checked(lambda: StreamMessage.model_validate(document))
        ready = self._inference.registry.current()
        booleans = not isinstance(message, bytes) or may_have_booleans(message)
        array = ready.codec.sequences.parse_one(document["sequence"], PIECE, booleans)
        state = self._state
        if STATE[1:] in document:
            faults = Faults()
            state = ready.codec.states.parse_one(document[STATE[1:]], STATE, faults)
            faults.raise_any()
        (sequence,) = new_sequences([array], [state])
        sequence.pointer = PIECE
        return InferenceRequest(ready=ready, sequences=[sequence], caller=self._caller)

    def _encode(self, work: InferenceRequest, start: int) -> bytes:
        """The answer to a piece that begins at time step `start`."""
        given, (sequence,), (state,) = self._given, work.sequences, work.final_states
        answer: dict[str, Any] = {} if self._id is None else {"id": self._id}
        answer["time_step"] = start
        if given.outputs == "all":
            answer["outputs"] = sequence.outputs
        elif given.outputs == "last":
            answer["outputs"] = sequence.outputs[-1:]
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


def install(app: FastAPI, inference: InferenceService) -> None:
    """Adds the route."""
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

    app.include_router(router)


def _echoed(name: object) -> str | int | None:
    """A message's id, if it is one: a message that is refused is still known by it."""
    return name if type(name) is int or (isinstance(name, str) and len(name) <= MAX_ID) else None
