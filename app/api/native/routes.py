"""`POST /predict`: the native API."""

import re
from collections.abc import Callable

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.datastructures import QueryParams
from starlette.types import Scope

from app.api.endpoint import Endpoint, Headers, Reply, header_of
from app.api.native import formats, ndjson
from app.api.native.requests import Prediction, decode
from app.api.negotiation import best
from app.api.openapi import answers_in, document_of, reads_body
from app.api.schemas import PredictRequest, PredictResponse, QueryOptions
from app.api.server_context import context_of
from app.service.inference import InferenceService

ANSWER = (
    "Results in the order of the request's sequences; with `Accept: application/x-ndjson` line by "
    "line, the outputs of each chunk when it is computed"
)

Decode = Callable[[bytes], Prediction]

# Values of Accept that clients send who want JSON.
USUAL = frozenset(
    {
        b"*/*",
        b"application/json",
        b"application/json, */*",
        b"application/json, text/plain, */*",
    }
)
# Where it weighs formats or names a kind of them, lines may be wanted, which need ASGI.
WEIGHED = re.compile(rb"\*|;[ \t]*q[ \t]*=")


class PredictEndpoint(Endpoint[Prediction]):
    """Bodies and answers in the formats that the head names."""

    def decoder(self, scope: Scope) -> Decode:
        """See `Endpoint`."""
        read = formats.reader_of(header_of(scope, b"content-type") or "")
        if read is None:
            return lambda body: decode(self.inference, body)
        query = dict(QueryParams(scope["query_string"]))
        return lambda body: formats.decode_batch(self.inference, body, read, query)

    def encode(self, scope: Scope, request: Prediction) -> Reply:
        """See `Endpoint`."""
        media_type = self.media_type(scope)
        headers = ((b"content-type", media_type.encode()),)
        return formats.encode(request, media_type), headers

    def takes(self, headers: Headers) -> bool:
        """See `Endpoint`. An answer in lines needs ASGI's way."""
        return super().takes(headers) and not any(
            name == b"accept" and value not in USUAL and _may_want_lines(value.lower())
            for name, value in headers
        )

    def media_type(self, scope: Scope) -> str:
        """Of the answer."""
        return best(header_of(scope, b"accept") or "", formats.OFFERED)


def _may_want_lines(accept: bytes) -> bool:
    return bool(WEIGHED.search(accept)) or ndjson.MEDIA_TYPE.encode() in accept


def install(app: FastAPI, inference: InferenceService) -> None:
    """Adds the route."""
    router = APIRouter()
    endpoint = PredictEndpoint(inference)

    @router.post(
        "/predict",
        tags=["predict"],
        summary="Outputs of every time step and the final state of every layer",
        response_model=PredictResponse,
        responses=answers_in(formats.OFFERED[1:], ANSWER),
        openapi_extra=reads_body(PredictRequest, formats.READERS, QueryOptions),
    )
    async def predict(request: Request) -> Response:
        if endpoint.media_type(request.scope) == ndjson.MEDIA_TYPE:
            return await _in_lines(inference, request, endpoint.decoder(request.scope))
        return await endpoint.answer(request)

    app.include_router(router)
    context_of(app).endpoints["POST", "/predict"] = endpoint
    document_of(app).examples["/predict"] = lambda rows: {"sequences": [rows]}


async def _in_lines(inference: InferenceService, request: Request, understand: Decode) -> Response:
    made = ndjson.lines(inference, request, understand)
    # What is wrong before the first line is a problem, as everywhere.
    first = await anext(made)
    if request.scope["http_version"] == "1.0":
        # It knows no answers in parts.
        rest = [line async for line in made]
        return Response(b"".join([first, *rest]), media_type=ndjson.MEDIA_TYPE)
    return ndjson.LinesResponse(first, made)
