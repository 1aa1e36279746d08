"""Requests of the Open Inference Protocol and what is looked at in their answers."""

import json
from typing import Any

import httpx
import numpy as np

from app.api.protocols.open_inference.binary_tensors import HEADER
from tests.app.running_service import Service

MODEL = "/v2/models/tiny"
# [B, T, F]: feature 0 is 1, 2, 3 and 4, 5, 6; the second and third may be missing.
NUMBERS = np.zeros((2, 3, 4), np.float32)
NUMBERS[:, :, 0] = [[1, 2, 3], [4, 5, 6]]
SEQUENCES = {"name": "sequences", "shape": [2, 3, 4], "datatype": "FP32", "data": NUMBERS.tolist()}
ONE = {**SEQUENCES, "shape": [1, 3, 4], "data": NUMBERS[:1].tolist()}
IN_BYTES = {
    "name": "sequences",
    "shape": [2, 3, 4],
    "datatype": "FP32",
    "parameters": {"binary_data_size": NUMBERS.nbytes},
}


def infer(
    service: Service, raw: bytes | None = None, path: str = "", **body: Any
) -> httpx.Response:
    text = json.dumps(body).encode()
    headers = {} if raw is None else {HEADER: str(len(text))}
    return service.post(f"{MODEL}{path}/infer", content=text + (raw or b""), headers=headers)


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def tensors(response: httpx.Response) -> dict[str, list[Any]]:
    """Tensors of an answer by their names, nested."""
    length = int(response.headers.get(HEADER, len(response.content)))
    assert response.status_code == 200, response.content
    raw, found = response.content[length:], {}
    for output in json.loads(response.content[:length])["outputs"]:
        assert output["datatype"] == "FP32"
        if "data" in output:
            numbers = np.array(output["data"], np.float32)
        else:
            size = output["parameters"]["binary_data_size"]
            numbers, raw = np.frombuffer(raw[:size], "<f4"), raw[size:]
        found[output["name"]] = numbers.reshape(output["shape"]).tolist()
    assert raw == b""
    return found
