"""A request of each route and format, of any length."""

import json
from collections.abc import Callable
from functools import partial
from itertools import count

import numpy as np

from app.api.protocols.open_inference.binary_tensors import HEADER
from app.codec import arrow, npz
from tests.app.formats import npy, stream_of, zip_of
from tests.app.live import request

NAMES = ("temp", "pressure", "wind_dir", "hour")
_sessions = count()

# Head and body.
Message = tuple[bytes, bytes]
# Makes a request of so many time steps, in each of which feature 0 is a value, in `steps` x 4
# numbers; further lines are for its head.
Make = Callable[..., Message]


def _numbers(steps: int, value: float) -> np.ndarray:
    numbers = np.zeros((steps, len(NAMES)), np.float32)
    numbers[:, 0] = value
    return numbers


def _json(
    steps: int, value: float, *lines: str, path: str = "/predict", **options: object
) -> Message:
    document = {"sequences": [_numbers(steps, value).tolist()], **options}
    return request(path, json.dumps(document).encode(), *lines)


def session(name: str, steps: int = 1, value: float = 1.0, *lines: str) -> Message:
    """A piece of a session."""
    return _json(steps, value, *lines, session={"id": name, "must_exist": False})


def _session(steps: int, value: float, *lines: str) -> Message:
    """Of few sessions, so that pieces go on from others."""
    return session(f"s{next(_sessions) % 5}", steps, value, *lines)


def _ndjson(steps: int, value: float, *lines: str) -> Message:
    return _json(steps, value, "Accept: application/x-ndjson", *lines)


def _npz(steps: int, value: float, *lines: str) -> Message:
    body = zip_of(sequences=npy(_numbers(steps, value)), lengths=npy(np.array([steps])))
    formats = f"Content-Type: {npz.MEDIA_TYPE}", f"Accept: {npz.MEDIA_TYPE}"
    return request("/predict", body, *formats, *lines)


def _arrow(steps: int, value: float, *lines: str) -> Message:
    columns = zip(NAMES, _numbers(steps, value).T.tolist(), strict=True)
    body = stream_of({name: [column] for name, column in columns})
    formats = f"Content-Type: {arrow.MEDIA_TYPE}", f"Accept: {arrow.MEDIA_TYPE}"
    return request("/predict", body, *formats, *lines)


def _v1(steps: int, value: float, *lines: str, path: str) -> Message:
    body = json.dumps({"instances": [{"sequences": _numbers(steps, value).tolist()}]})
    return request(f"/v1/models/tiny{path}:predict", body.encode(), *lines)


def _tensor(steps: int) -> dict[str, object]:
    return {"name": "sequences", "shape": [1, steps, len(NAMES)], "datatype": "FP32"}


def _v2(steps: int, value: float, *lines: str) -> Message:
    tensor = {**_tensor(steps), "data": _numbers(steps, value).ravel().tolist()}
    return request("/v2/models/tiny/infer", json.dumps({"inputs": [tensor]}).encode(), *lines)


def _v2_bytes(steps: int, value: float, *lines: str) -> Message:
    numbers = _numbers(steps, value)
    tensor = {**_tensor(steps), "parameters": {"binary_data_size": numbers.nbytes}}
    options = {"parameters": {"binary_data_output": True}}
    head = json.dumps({"inputs": [tensor], **options}).encode()
    body = head + numbers.tobytes()
    return request("/v2/models/tiny/infer", body, f"{HEADER}: {len(head)}", *lines)


ROUTES: dict[str, Make] = {
    "json": _json,
    "npz": _npz,
    "arrow": _arrow,
    "ndjson": _ndjson,
    "session": _session,
    "v1": partial(_v1, path=""),
    "v1 version": partial(_v1, path="/versions/1"),
    "v2": _v2,
    "v2 bytes": _v2_bytes,
}
