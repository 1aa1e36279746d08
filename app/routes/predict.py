"""`POST /predict`: the native API."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from app.accept import best
from app.codec.numbers import print_json
from app.direct import Exchange
from app.intake import Intake
from app.openapi import PREDICT_RESPONSES, reads_body
from app.routes import formats, lines
from app.routes.native import Prediction, answer, decode
from app.schemas import PredictRequest, PredictResponse


def install(app: FastAPI, intake: Intake) -> None:
    """Adds the route."""

    def understand(body: bytes) -> Prediction:
        return decode(intake, body)

    def direct(body: bytes, exchange: Exchange) -> None:
        intake.check_room()
        work = understand(body)
        exchange.wait(intake.watcher, lambda reason: intake.cancel(work, reason))
        intake.begin(work, lambda error: exchange.finish(error, lambda: print_json(answer(work))))

    router = APIRouter()

    @router.post(
        "/predict",
        tags=["predict"],
        summary="Outputs of every time step and the final state of every layer",
        response_model=PredictResponse,
        responses=PREDICT_RESPONSES,
        openapi_extra=reads_body(PredictRequest),
    )
    async def predict(request: Request) -> Response:
        decode_it = decoder(request)
        media_type = best(request.headers.get("accept", ""), formats.OFFERED)
        if media_type == lines.MEDIA_TYPE:
            return await in_lines(request, decode_it)
        work = await intake.run(request.scope, request.receive, decode_it)
        return Response(formats.encode(work, media_type), media_type=media_type)

    def decoder(request: Request) -> Callable[[bytes], Prediction]:
        read = formats.reader_of(request.headers.get("content-type", ""))
        if read is None:
            return understand
        query = dict(request.query_params)
        return lambda body: formats.decode_batch(intake, body, read, query)

    async def in_lines(request: Request, decode_it: Callable[[bytes], Prediction]) -> Response:
        made = lines.lines(intake, request, decode_it)
        # What is wrong before the first line is a problem, as everywhere.
        first = await anext(made)
        if request.scope["http_version"] == "1.0":
            # It knows no answers in parts.
            rest = [line async for line in made]
            return Response(b"".join([first, *rest]), media_type=lines.MEDIA_TYPE)

        async def all_lines() -> AsyncIterator[bytes]:
            async with aclosing(made):
                yield first
                async for line in made:
                    yield line

        return StreamingResponse(all_lines(), media_type=lines.MEDIA_TYPE)

    app.include_router(router)
    app.state.direct["POST", "/predict"] = direct
    app.state.left_to_asgi = tuple(name.encode() for name in formats.OFFERED[1:])
    app.state.examples["/predict"] = lambda rows: {"sequences": [rows]}
