"""The formats of `POST /predict`, and what reads and prints each.

A request is in the format that its `Content-Type` says, with its options in the query string unless
that is JSON; the answer is in the one of `OFFERED` that its `Accept` prefers. Without either it is
JSON.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.codec import arrow, npz
from app.codec.binary_bodies import AnswerArrays, RequestArrays
from app.codec.model_codec import Codec

JSON = "application/json"
NDJSON = "application/x-ndjson"
OFFERED = (JSON, NDJSON, arrow.MEDIA_TYPE, npz.MEDIA_TYPE)


@dataclass(frozen=True)
class Reader:
    """Reads bodies of a format.

    Attributes:
        read: a body for a model, within so many bytes when it is unpacked.
        size: bytes that a body unpacks to.
    """

    read: Callable[[bytes, Codec, int], RequestArrays]
    size: Callable[[bytes], int]


def _read_arrow(body: bytes, codec: Codec, _: int) -> RequestArrays:
    # What is compressed is refused: no body unpacks to more than it is.
    return arrow.read(body, codec)


READERS = {
    arrow.MEDIA_TYPE: Reader(_read_arrow, len),
    npz.MEDIA_TYPE: Reader(npz.read, npz.unpacked_size),
}
WRITERS: dict[str, Callable[[AnswerArrays], bytes]] = {
    arrow.MEDIA_TYPE: arrow.write,
    npz.MEDIA_TYPE: npz.write,
}


def reader_of(content_type: str) -> Reader | None:
    """Who reads a body of this type; None for JSON."""
    return READERS.get(content_type.partition(";")[0].strip().lower())
