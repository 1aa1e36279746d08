"""`POST /predict`: the native API."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI, Request, Response

from app.accept import best
from app.codec.numbers import print_json
from app.direct import Exchange
from app.intake import Intake
from app.openapi import answers_in, reads_body
from app.routes import formats, lines
from app.routes.native import Prediction, answer, decode
from app.schemas import BatchOptions, PredictRequest, PredictResponse

OTHERS = formats.OFFERED[1:]
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
        responses=answers_in(OTHERS, ANSWER),
        openapi_extra=reads_body(PredictRequest, formats.READERS, BatchOptions),
    )
    async def predict(request: Request) -> Response:
        decode_it = _decoder(intake, request)
        media_type = best(request.headers.get("accept", ""), formats.OFFERED)
        if media_type == lines.MEDIA_TYPE:
            return await _in_lines(intake, request, decode_it)
        work = await intake.run(request.scope, request.receive, decode_it)
        return Response(formats.encode(work, media_type), media_type=media_type)

    def direct(body: bytes, exchange: Exchange) -> None:
        intake.check_room()
        work = decode(intake, body)
        exchange.wait(intake.watcher, lambda reason: intake.cancel(work, reason))
        intake.begin(work, lambda error: exchange.finish(error, lambda: print_json(answer(work))))

    app.include_router(router)
    app.state.direct["POST", "/predict"] = direct
    app.state.left_to_asgi = tuple(name.encode() for name in OTHERS)
    app.state.examples["/predict"] = lambda rows: {"sequences": [rows]}


def _decoder(intake: Intake, request: Request) -> Decode:
    """Who understands the body."""
    read = formats.reader_of(request.headers.get("content-type", ""))
    if read is None:
        return lambda body: decode(intake, body)
    query = dict(request.query_params)
    return lambda body: formats.decode_batch(intake, body, read, query)


async def _in_lines(intake: Intake, request: Request, decode_it: Decode) -> Response:
    made = lines.lines(intake, request, decode_it)
    # What is wrong before the first line is a problem, as everywhere.
    first = await anext(made)
    if request.scope["http_version"] == "1.0":
        # It knows no answers in parts.
        rest = [line async for line in made]
        return Response(b"".join([first, *rest]), media_type=lines.MEDIA_TYPE)
    return lines.LinesResponse(first, made)
