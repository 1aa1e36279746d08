"""`POST /predict`: the native API."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app.body import read_body
from app.codec import Codec, echo, parse_json, print_json
from app.engine.engine import Engine
from app.engine.sequence import Sequence
from app.errors import Cancelled, Fault, InvalidRequest
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
        body = await read_body(request, settings)
        asked = _parse(body)
        wanted = asked.model
        ready = registry.current(wanted.name, wanted.version) if wanted else registry.current()
        deadline = ready.engine.clock() + settings.request_timeout_s
        sequences = _sequences(asked, ready.codec, deadline)
        await _submit(request, ready.engine, sequences)
        return Response(print_json(_answer(asked, ready, sequences)), media_type="application/json")

    return router


def _parse(body: bytes) -> PredictRequest:
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidRequest(Fault("", f"the body must be an object, got {echo(document)}"))
    try:
        return PredictRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(*faults_of(error.errors(include_url=False))) from None


def _sequences(asked: PredictRequest, codec: Codec, deadline: float) -> list[Sequence]:
    arrays = codec.parse_sequences(asked.sequences)
    states = codec.parse_states(asked.initial_states, len(arrays))
    return [
        Sequence(array, f"/sequences/{index}", state, deadline)
        for index, (array, state) in enumerate(zip(arrays, states, strict=True))
    ]


async def _submit(request: Request, engine: Engine, sequences: list[Sequence]) -> None:
    """Computes the sequences, or gives up as soon as the caller hangs up."""
    work = asyncio.ensure_future(engine.submit(sequences))
    # The body is read: the next message can only be that the caller has gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Cancelled("the caller has gone")
        work.result()
    finally:
        work.cancel()
        gone.cancel()


def _answer(asked: PredictRequest, ready: Ready, sequences: list[Sequence]) -> dict[str, Any]:
    manifest, codec = ready.manifest, ready.codec
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
