"""Bodies that are JSON followed by the bytes of tensors; a header gives the length of the JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.api.endpoint import Reply, print_object
from app.codec.json_numbers import echo, invalid, print_json

MEDIA_TYPE = "application/octet-stream"
# Bytes of a body that are JSON; the rest are tensors.
HEADER = "Inference-Header-Content-Length"
# More are no size of a body, and Python refuses to read very many.
MAX_DIGITS = 19


def split(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """JSON and tensors of a body.

    Args:
        body: whole.
        header: `HEADER` of the request; None if it has none, and then all is JSON.

    Raises:
        InvalidRequest: the header is no number, or larger than the body.
    """
    if header is None:
        return body, memoryview(b"")
    if not (header.isascii() and header.isdigit() and len(header) <= MAX_DIGITS):
        raise invalid("", f"{HEADER} must be a number of bytes, got {echo(header)}")
    length = int(header)
    if length > len(body):
        raise invalid("", f"{HEADER} is {length}, but the body has {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def print_tensors(answer: tuple[dict[str, Any], Sequence[np.ndarray]]) -> Reply:
    """The body of an answer, and its headers.

    Args:
        answer: what is JSON, and the tensors that are sent as bytes, float32 each.
    """
    document, tensors = answer
    if not tensors:
        return print_object(document)
    text = print_json(document)
    length = HEADER.lower().encode(), b"%d" % len(text)
    headers = ((b"content-type", MEDIA_TYPE.encode()), length)
    return b"".join([text, *(np.ascontiguousarray(tensor).data for tensor in tensors)]), headers
