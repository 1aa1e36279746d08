"""Every way in which a sequence can be sent in pieces: each is a `Carrier` of one sequence."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from tests.support.exported_models import to_json


class Carrier(Protocol):
    """Sends a sequence piece by piece."""

    async def send(self, piece: np.ndarray) -> list[list[float]]:
        """Outputs `[T, O]` of the next piece, float32 `[T, F]`."""


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


class ByStates:
    """The caller keeps the states, in one of their forms."""

    def __init__(self, client: httpx.AsyncClient, form: str) -> None:
        self._client, self._form, self._states = client, form, None

    async def send(self, piece: np.ndarray) -> list[list[float]]:
        body = {"sequences": [to_json(piece)], "initial_states": self._states}
        answer = await post(self._client, "/predict", **body, states=self._form)
        self._states = answer["states"]
        return list(answer["outputs"][0])


class BySession:
    """The service keeps the state; every third piece is sent twice, as who lost an answer does."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client, self._session, self._pieces = client, {"id": name, "time_step": 0}, 0

    async def send(self, piece: np.ndarray) -> list[list[float]]:
        body = {"sequences": [to_json(piece)], "session": self._session}
        answer = await post(self._client, "/predict", **body)
        if self._pieces % 3 == 0:
            answer = await post(self._client, "/predict", **body)
        self._pieces += 1
        self._session = answer["session"]
        return list(answer["outputs"][0])


class ByStream:
    """The connection keeps the state."""

    def __init__(self, stream: ClientConnection) -> None:
        self._stream = stream

    async def send(self, piece: np.ndarray) -> list[list[float]]:
        await self._stream.send(json.dumps({"sequence": to_json(piece)}))
        answer = json.loads(await self._stream.recv())
        return list(answer["outputs"])


class BySequenceId:
    """Open Inference Protocol with Triton's sequence extension."""

    def __init__(self, client: httpx.AsyncClient, model: str, name: str) -> None:
        self._client, self._path, self._name = client, f"/v2/models/{model}/infer", name
        self._start = True

    async def send(self, piece: np.ndarray) -> list[list[float]]:
        parameters = {"sequence_id": self._name, "sequence_start": self._start}
        self._start = False
        data = [None if np.isnan(x) else float(x) for x in piece.ravel()]
        tensor = {"name": "sequences", "shape": [1, *piece.shape], "datatype": "FP32"}
        body = {"parameters": parameters, "inputs": [tensor | {"data": data}]}
        answer = await post(self._client, self._path, **body, outputs=[{"name": "outputs"}])
        (outputs,) = answer["outputs"]
        return np.array(outputs["data"]).reshape(outputs["shape"])[0].tolist()  # type: ignore[no-any-return]


KINDS = ("per_layer", "concatenated", "token", "session", "stream", "sequence_id")


@asynccontextmanager
async def carrier(
    kind: str, client: httpx.AsyncClient, model: str, name: str
) -> AsyncIterator[Carrier]:
    """A carrier of a new sequence; `name` is nobody else's."""
    if kind == "session":
        yield BySession(client, name)
    elif kind == "stream":
        url = str(client.base_url).replace("http", "ws", 1)
        async with connect(f"{url}/stream") as stream:
            yield ByStream(stream)
    elif kind == "sequence_id":
        yield BySequenceId(client, model, name)
    else:
        yield ByStates(client, kind)
