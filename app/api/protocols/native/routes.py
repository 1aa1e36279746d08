"""The routes of the native API: `POST /predict`, `/stream`, `/sessions`."""

from fastapi import APIRouter, FastAPI, Request, Response

from app.api.openapi import PROBLEMS, answers_in, document_of, reads_body
from app.api.protocols.native import ndjson, sessions, stream
from app.api.protocols.native.formats import NDJSON, OFFERED, READERS
from app.api.protocols.native.predict import PredictEndpoint
from app.api.schemas import PredictRequest, PredictResponse, QueryOptions
from app.api.server_context import context_of
from app.service.inference import InferenceService

ANSWER = (
    "Results in the order of the request's sequences; with `Accept: application/x-ndjson` line by "
    "line, the outputs of each chunk when it is computed"
)


def install(app: FastAPI, inference: InferenceService) -> None:
    """Adds the routes."""
    _install_predict(app, inference)
    app.include_router(stream.make_router(inference))
    app.include_router(sessions.make_router(inference))


def _install_predict(app: FastAPI, inference: InferenceService) -> None:
    router = APIRouter()
    endpoint = PredictEndpoint(inference)

    @router.post(
        "/predict",
        tags=["predict"],
        summary="Outputs of every time step and the final state of every layer",
        response_model=PredictResponse,
        responses={**answers_in(OFFERED[1:], ANSWER), **PROBLEMS},
        openapi_extra=reads_body(PredictRequest, READERS, QueryOptions),
    )
    async def predict(request: Request) -> Response:
        if endpoint.media_type(request.scope) == NDJSON:
            return await _in_lines(endpoint, request)
        return await endpoint.answer(request)

    app.include_router(router)
    context_of(app).endpoints["POST", "/predict"] = endpoint
    document_of(app).examples["/predict"] = lambda model: {"sequences": [model.example]}


async def _in_lines(endpoint: PredictEndpoint, request: Request) -> Response:
    made = ndjson.lines(endpoint, request)
    # What is wrong before the first line is a problem, as everywhere.
    first = await anext(made)
    if request.scope["http_version"] == "1.0":
        # It knows no answers in parts.
        rest = [line async for line in made]
        return Response(b"".join([first, *rest]), media_type=NDJSON)
    return ndjson.LinesResponse(first, made)
