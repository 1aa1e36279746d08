"""Answers line by line (NDJSON): each chunk's outputs as soon as it is computed, then the states.

    {"model": {"name": "weather", "version": 1}}
    {"sequence": 0, "time_step": 0, "outputs": [[...], ...]}
    {"sequence": 0, "time_step": 64, "outputs": [[...], ...]}
    {"states": [...]}

A request that fails after its first outputs ends with a line `{"error": problem}` instead.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.problems import problem_document
from app.api.protocols.native.formats import NDJSON
from app.api.protocols.native.predict import PredictEndpoint, Prediction, answer, head, told
from app.api.unread_answers import HELD_BYTES
from app.codec.json_numbers import print_json
from app.engine.sequence import Listener, Sequence
from app.errors import UnrollError

BODY = "http.response.body"


class _Outputs(NamedTuple):
    """Outputs of a sequence from `start` up to `end`; it is row `row` of the request."""

    row: int
    sequence: Sequence
    start: int
    end: int


# None when all is computed, or why it is not.
Event = _Outputs | UnrollError | None


async def lines(endpoint: PredictEndpoint, request: Request) -> AsyncGenerator[bytes]:
    """Yields the lines of an answer, the first two at once; raises `UnrollError` only before."""
    inference = endpoint.inference
    async with endpoint.reading(request) as (pending, work):
        request.scope[HELD_BYTES] = work.num_bytes
        events: asyncio.Queue[Event] = asyncio.Queue()
        if work.outputs == "all":
            for row, sequence in enumerate(work.sequences):
                sequence.listener = _listener(row, events)
        inference.begin(work, events.put_nowait)
        pending.wait(partial(inference.cancel, work), work.timeout_s)
        # Answers in lines are long, so a task that waits for a hang-up is worth its price.
        pending.listen(request.receive, at_once=True)
        event = await events.get()
        if isinstance(event, UnrollError):
            pending.end()
            raise event
        part = _line(head(work))
        while isinstance(event, _Outputs):
            yield part + _line_of(event, work)
            part = b""
            event = await events.get()
        last = {"error": problem_document(event)} if event else _last(work)
        if work.has_long_answer:
            sender = work.caller, work.timeout_s
            try:
                last_line = await inference.bodies.run(_line, last, pending, sender)
            except UnrollError as error:
                last_line = _line({"error": problem_document(error)})
        else:
            last_line = _line(last)
        pending.end()
        yield part + last_line


class LinesResponse(Response):
    """Sends lines as they are made.

    Starlette's own would begin to in a new task, for which the first outputs would wait as long as
    the next chunk takes; and it waits for the caller to hang up, as `lines` does already.

    Args:
        first: what was made before all is known to be well.
        rest: what comes after.
    """

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes]) -> None:
        super().__init__(media_type=NDJSON)
        del self.headers["content-length"]
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self._rest):
            await send({"type": "http.response.start", **start})
            await send({"type": BODY, "body": self._first, "more_body": True})
            async for line in self._rest:
                await send({"type": BODY, "body": line, "more_body": True})
            await send({"type": BODY, "body": b"", "more_body": False})


def _listener(row: int, events: "asyncio.Queue[Event]") -> Listener:
    start = 0

    def tell(sequence: Sequence) -> None:
        nonlocal start
        events.put_nowait(_Outputs(row, sequence, start, sequence.cursor))
        start = sequence.cursor

    return tell


def _line_of(event: _Outputs, work: Prediction) -> bytes:
    outputs = told(work, event.sequence.outputs[event.start : event.end])
    return _line({"sequence": event.row, "time_step": event.start, **outputs})


def _last(work: Prediction) -> dict[str, Any]:
    whole = answer(work)
    del whole["model"]
    if work.outputs == "all":
        del whole["outputs"]
    return whole


def _line(value: dict[str, Any]) -> bytes:
    return print_json(value) + b"\n"
