"""`POST /predict`: the native API."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app.body import read_body
from app.codec import echo, parse_json, print_json
from app.engine.sequence import Sequence
from app.errors import Cancelled, Expired, Fault, InvalidRequest
from app.openapi import PROBLEMS, reads_body
from app.problems import faults_of
from app.registry import Ready, Registry
from app.schemas import PredictRequest, PredictResponse
from app.settings import Settings


def make_router(settings: Settings, registry: Registry) -> APIRouter:
    """The route, bound to a registry."""
    router = APIRouter()

    @router.post(
        "/predict",
        tags=["predict"],
        summary="Outputs of every time step and the final state of every layer",
        response_model=PredictResponse,
        responses=PROBLEMS,
        openapi_extra=reads_body(PredictRequest),
    )
    async def predict(request: Request) -> Response:
        # Who cannot be answered is told before the body is read.
        registry.current().engine.check_room()
        asked = _parse(await read_body(request, settings), registry, settings)
        await _submit(request, asked, settings)
        return Response(print_json(_answer(asked)), media_type="application/json")

    return router


@dataclass(frozen=True)
class _Asked:
    """A request once it is understood. The parsed body, many times larger, is gone by then."""

    ready: Ready
    outputs: str
    states: str
    sequences: list[Sequence]


def _parse(body: bytes, registry: Registry, settings: Settings) -> _Asked:
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidRequest(Fault("", f"the body must be an object, got {echo(document)}"))
    try:
        given = PredictRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(*faults_of(error.errors(include_url=False))) from None
    wanted = given.model
    ready = registry.current(wanted.name, wanted.version) if wanted else registry.current()
    arrays = ready.codec.parse_sequences(given.sequences)
    states = ready.codec.parse_states(given.initial_states, len(arrays))
    deadline = ready.engine.clock() + settings.request_timeout_s
    sequences = [
        Sequence(array, f"/sequences/{index}", state, deadline)
        for index, (array, state) in enumerate(zip(arrays, states, strict=True))
    ]
    return _Asked(ready, given.outputs, given.states, sequences)


async def _submit(request: Request, asked: _Asked, settings: Settings) -> None:
    """Computes the sequences, or gives up as soon as the caller hangs up or the time is over."""
    work = asyncio.ensure_future(asked.ready.engine.submit(asked.sequences))
    # The body is read: the next message can only be that the caller has gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait(
            (work, gone),
            timeout=settings.request_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if work.done():
            work.result()
        elif gone.done():
            raise Cancelled("the caller has gone")
        else:
            raise Expired("its time ran out before its last time step")
    finally:
        work.cancel()
        gone.cancel()


def _answer(asked: _Asked) -> dict[str, Any]:
    manifest, codec, sequences = asked.ready.manifest, asked.ready.codec, asked.sequences
    answer: dict[str, Any] = {"model": {"name": manifest.name, "version": manifest.version}}
    if asked.outputs == "all":
        answer["outputs"] = [s.outputs for s in sequences]
    elif asked.outputs == "last":
        answer["outputs"] = [s.outputs[-1] for s in sequences]
    if asked.states == "per_layer":
        answer["states"] = [codec.layered(s.final_state) for s in sequences]
    elif asked.states == "concatenated":
        answer["states"] = [codec.concatenated(s.final_state) for s in sequences]
    return answer
