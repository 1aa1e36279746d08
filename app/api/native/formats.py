"""The formats of `POST /predict`, and what reads and prints each.

A request is in the format that its `Content-Type` says, with its options in the query string unless
that is JSON; the answer is in the one of `OFFERED` that its `Accept` prefers. Without either it is
JSON.
"""

from collections.abc import Callable

from app.codec import arrow, npz
from app.codec.binary_bodies import AnswerArrays, RequestArrays
from app.codec.model_codec import Codec

JSON = "application/json"
NDJSON = "application/x-ndjson"
OFFERED = (JSON, NDJSON, arrow.MEDIA_TYPE, npz.MEDIA_TYPE)

Reader = Callable[[bytes, Codec, int], RequestArrays]

READERS: dict[str, Reader] = {
    arrow.MEDIA_TYPE: lambda body, codec, _: arrow.read(body, codec),
    npz.MEDIA_TYPE: npz.read,
}
WRITERS: dict[str, Callable[[AnswerArrays], bytes]] = {
    arrow.MEDIA_TYPE: arrow.write,
    npz.MEDIA_TYPE: npz.write,
}


def reader_of(content_type: str) -> Reader | None:
    """Who reads a body of this type; None for JSON."""
    return READERS.get(content_type.partition(";")[0].strip().lower())
