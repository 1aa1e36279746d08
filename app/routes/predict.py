"""`POST /predict`: the native API."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import ValidationError
from starlette.types import Receive, Scope

from app.body import read_body
from app.codec import echo, parse_json, print_json
from app.direct import Exchange
from app.engine.sequence import Sequence
from app.errors import Fault, InvalidRequest
from app.openapi import PROBLEMS, reads_body
from app.problems import faults_of
from app.registry import Ready, Registry
from app.schemas import PredictRequest, PredictResponse
from app.settings import Settings
from app.watch import Watch, Watcher

NUMBERS = {"sequences", "initial_states"}
NO_OPTIONS = PredictRequest(sequences=[])


def install(app: FastAPI, settings: Settings, registry: Registry) -> None:
    """Adds the route, bound to a registry."""

    watcher = Watcher(settings.body_timeout_s, settings.request_timeout_s)

    def check_room() -> None:
        # Who cannot be answered is told before the body is read.
        registry.current().engine.check_room()

    def direct(body: bytes, exchange: Exchange) -> None:
        check_room()
        asked = _parse(body, registry, settings)
        engine, sequences = asked.ready.engine, asked.sequences
        exchange.wait(watcher, lambda reason: engine.cancel(sequences, reason))
        engine.begin(sequences, lambda error: exchange.finish(error, lambda: _print(asked)))

    async def in_pieces(scope: Scope, receive: Receive) -> bytes:
        check_room()
        with Watch(watcher, receive) as watch:
            body = await read_body(scope["headers"], receive, watch, settings.max_body_bytes)
            asked = _parse(body, registry, settings)
            # Not kept while it waits: the arrays are a fraction of it.
            del body
            engine, sequences = asked.ready.engine, asked.sequences
            watch.body_is_read(lambda reason: engine.cancel(sequences, reason))
            await engine.submit(sequences)
        return _print(asked)

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
        body = await in_pieces(request.scope, request.receive)
        return Response(body, media_type="application/json")

    app.include_router(router)
    app.state.direct["POST", "/predict"] = direct


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
    given = _envelope(document)
    wanted = given.model
    ready = registry.current(wanted.name, wanted.version) if wanted else registry.current()
    arrays = ready.codec.parse_sequences(document["sequences"])
    states = ready.codec.parse_states(document.get("initial_states"), len(arrays))
    deadline = ready.engine.clock() + settings.request_timeout_s
    sequences = [
        Sequence(array, f"/sequences/{index}", state, deadline)
        for index, (array, state) in enumerate(zip(arrays, states, strict=True))
    ]
    return _Asked(ready, given.outputs, given.states, sequences)


def _envelope(document: dict[str, Any]) -> PredictRequest:
    """The options of a request; its numbers stay in the document."""
    if document.keys() <= NUMBERS and "sequences" in document:
        # Most requests have no options, and there is nothing to check.
        return NO_OPTIONS
    try:
        return PredictRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidRequest(*faults_of(error.errors(include_url=False))) from None


def _print(asked: _Asked) -> bytes:
    manifest, codec, sequences = asked.ready.manifest, asked.ready.codec, asked.sequences
    # None is the state of zeros that a sequence begins with; these have been computed.
    final = [s.state for s in sequences if s.state is not None]
    answer: dict[str, Any] = {"model": {"name": manifest.name, "version": manifest.version}}
    if asked.outputs == "all":
        answer["outputs"] = [s.outputs for s in sequences]
    elif asked.outputs == "last":
        answer["outputs"] = [s.outputs[-1] for s in sequences]
    if asked.states == "per_layer":
        answer["states"] = [codec.layered(state) for state in final]
    elif asked.states == "concatenated":
        answer["states"] = final
    elif asked.states == "token":
        answer["states"] = [codec.tokens.seal(state) for state in final]
    return print_json(answer)
