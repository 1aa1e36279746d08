"""`POST /predict`: the native API."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.datastructures import QueryParams
from starlette.types import Scope

from app.api.fast_path import Exchange, header_of
from app.api.native import formats, ndjson
from app.api.native.requests import Prediction, decode
from app.api.negotiation import best
from app.api.openapi import answers_in, reads_body
from app.api.schemas import BatchOptions, PredictRequest, PredictResponse
from app.service.inference import Intake

ANSWER = (
    "Results in the order of the request's sequences; with `Accept: application/x-ndjson` line by "
    "line, the outputs of each chunk when it is computed"
)

Decode = Callable[[bytes], Prediction]


def install(app: FastAPI, intake: Intake) -> None:
    """Adds the route."""
    router = APIRouter()

    @router.post(
        "/predict",
        tags=["predict"],
        summary="Outputs of every time step and the final state of every layer",
        response_model=PredictResponse,
        responses=answers_in(formats.OFFERED[1:], ANSWER),
        openapi_extra=reads_body(PredictRequest, formats.READERS, BatchOptions),
    )
    async def predict(request: Request) -> Response:
        understand = _decoder(intake, request.scope)
        media_type = _wanted(request.scope)
        if media_type == ndjson.MEDIA_TYPE:
            return await _in_lines(intake, request, understand)
        work = await intake.run(request.scope, request.receive, understand)
        return Response(formats.encode(work, media_type), media_type=media_type)

    def direct(scope: Scope, body: bytes, exchange: Exchange) -> None:
        intake.check_room()
        work = _decoder(intake, scope)(body)
        media_type = _wanted(scope)
        headers = ((b"content-type", media_type.encode()),)
        exchange.wait(intake.watcher, lambda reason: intake.cancel(work, reason))
        intake.begin(
            work,
            lambda error: exchange.finish(
                error, lambda: (formats.encode(work, media_type), headers)
            ),
        )

    app.include_router(router)
    app.state.direct["POST", "/predict"] = direct
    app.state.left_to_asgi = (ndjson.MEDIA_TYPE.encode(),)
    app.state.examples["/predict"] = lambda rows: {"sequences": [rows]}


def _wanted(scope: Scope) -> str:
    """The media type of the answer."""
    return best(header_of(scope, b"accept") or "", formats.OFFERED)


def _decoder(intake: Intake, scope: Scope) -> Decode:
    """Who understands the body."""
    read = formats.reader_of(header_of(scope, b"content-type") or "")
    if read is None:
        return lambda body: decode(intake, body)
    query = dict(QueryParams(scope["query_string"]))
    return lambda body: formats.decode_batch(intake, body, read, query)


async def _in_lines(intake: Intake, request: Request, understand: Decode) -> Response:
    made = ndjson.lines(intake, request, understand)
    # What is wrong before the first line is a problem, as everywhere.
    first = await anext(made)
    if request.scope["http_version"] == "1.0":
        # It knows no answers in parts.
        rest = [line async for line in made]
        return Response(b"".join([first, *rest]), media_type=ndjson.MEDIA_TYPE)
    return ndjson.LinesResponse(first, made)
