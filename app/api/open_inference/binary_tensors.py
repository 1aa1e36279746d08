"""Bodies that are JSON followed by the bytes of tensors; a header gives the length of the JSON."""

from collections.abc import Sequence

import numpy as np

from app.codec.json_numbers import echo, invalid, print_json

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


def join(document: object, tensors: Sequence[np.ndarray]) -> tuple[bytes, dict[str, str]]:
    """The body of an answer, and its headers.

    Args:
        document: for `print_json`.
        tensors: float32 each, to be sent as bytes.
    """
    text = print_json(document)
    if not tensors:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER: str(len(text))}
    return b"".join([text, *(np.ascontiguousarray(tensor).data for tensor in tensors)]), headers
