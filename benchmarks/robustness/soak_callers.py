"""The callers of `soak`: each makes one connection, and ends in its own way."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.load.streams import frame
from benchmarks.model_files import NUM_FEATURES

NPZ, ARROW = "application/x-npz", "application/vnd.apache.arrow.stream"
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)
HEAD_END = b"\r\n\r\n"


class Port(NamedTuple):
    """Where the service is, and its model's name."""

    number: int
    model: str


# Head and body of a request.
Message = tuple[bytes, bytes]
# Makes a request of a model for rows float32 `[T, F]`.
Make = Callable[[Port, np.ndarray], Message]
# Returns how it ended: the status of the answer, or what the caller did.
Caller = Callable[[Port, Random], Awaitable[str]]


def request(path: str, body: bytes, *lines: str) -> Message:
    """Head and body."""
    head = [f"POST {path} HTTP/1.1", "Host: soak", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode(), body


def _json(_: Port, rows: np.ndarray, *lines: str, **options: object) -> Message:
    return request(
        "/predict", json.dumps({"sequences": [rows.tolist()], **options}).encode(), *lines
    )


def _npz(_: Port, rows: np.ndarray) -> Message:
    sink = io.BytesIO()
    np.savez_compressed(sink, sequences=rows, lengths=np.array([len(rows)]))
    return request("/predict", sink.getvalue(), f"Content-Type: {NPZ}", f"Accept: {NPZ}")


def _arrow(_: Port, rows: np.ndarray) -> Message:
    names = [f"x{index}" for index in range(NUM_FEATURES)]
    table = pa.table(dict(zip(names, [[column] for column in rows.T.tolist()], strict=True)))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return request("/predict", sink.getvalue(), f"Content-Type: {ARROW}", f"Accept: {ARROW}")


def _v1(port: Port, rows: np.ndarray) -> Message:
    body = json.dumps({"instances": [{"sequences": rows.tolist()}]}).encode()
    return request(f"/v1/models/{port.model}:predict", body)


def _tensor(rows: np.ndarray, **parts: object) -> dict[str, object]:
    return {"name": "sequences", "shape": [1, *rows.shape], "datatype": "FP32", **parts}


def _v2(port: Port, rows: np.ndarray) -> Message:
    body = json.dumps({"inputs": [_tensor(rows, data=rows.ravel().tolist())]}).encode()
    return request(f"/v2/models/{port.model}/infer", body)


def _v2_bytes(port: Port, rows: np.ndarray) -> Message:
    tensor = _tensor(rows, parameters={"binary_data_size": rows.nbytes})
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = f"Inference-Header-Content-Length: {len(head)}"
    return request(f"/v2/models/{port.model}/infer", head + rows.tobytes(), lines)


def _rows(random: Random, steps: int) -> np.ndarray:
    return (
        np.random.default_rng(random.randrange(1000))
        .normal(size=(steps, NUM_FEATURES))
        .astype(np.float32)
    )


def _steps(random: Random) -> int:
    """Mostly short, now and then long."""
    return random.choice([1, 10, 50, 50, 200, 3000])


class _Connection:
    """A caller's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def status(self) -> str:
        head = (await self.reader.readuntil(HEAD_END)).lower()
        _, has_length, rest = head.partition(b"content-length: ")
        if has_length:
            await self.reader.readexactly(int(rest.split(b"\r\n")[0]))
        elif b"chunked" in head:
            while size := int(await self.reader.readline(), 16):
                await self.reader.readexactly(size + 2)
        return head.split()[1].decode()

    async def message(self) -> None:
        _, size = await self.reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        await self.reader.readexactly(size)


async def _open(port: Port) -> _Connection:
    return _Connection(*await asyncio.open_connection("127.0.0.1", port.number, limit=1 << 16))


async def answered(make: Make, port: Port, random: Random) -> str:
    """Some requests on a connection, whole or in pieces."""
    caller = await _open(port)
    try:
        for _ in range(random.randrange(1, 5)):
            head, body = make(port, _rows(random, _steps(random)))
            if random.random() < 0.5:
                caller.writer.write(head + body)
            else:
                caller.writer.write(head)
                await asyncio.sleep(0.01)
                caller.writer.write(body)
            status = await caller.status()
        return status
    finally:
        caller.writer.close()


async def invalid(make: Make, port: Port, random: Random) -> str:
    """A body that is cut."""
    caller = await _open(port)
    try:
        _, body = make(port, _rows(random, _steps(random)))
        caller.writer.write(b"".join(request("/predict", body[: len(body) // 2])))
        return await caller.status()
    finally:
        caller.writer.close()


async def hangs_up(make: Make, port: Port, random: Random) -> str:
    """While the request is sent, while it is computed, or while the answer is read."""
    caller = await _open(port)
    try:
        head, body = make(port, _rows(random, random.choice([200, 20_000])))
        part = random.choice([0.0, 0.5, 1.0, 1.0])
        caller.writer.write(head)
        await asyncio.sleep(0.01)
        caller.writer.write(body[: int(part * len(body))])
        await asyncio.sleep(random.random() * 0.2)
        if part == 1.0 and random.random() < 0.5:
            await caller.reader.read(100)
        return "gone"
    finally:
        caller.writer.transport.abort()


async def session(port: Port, random: Random) -> str:
    """Pieces of one of many sessions."""
    name = f"s{random.randrange(200)}"
    piece = partial(_json, session={"id": name, "must_exist": False}, outputs="last")
    return await answered(piece, port, random)


async def stream(port: Port, random: Random) -> str:
    """Some messages, some of them invalid; closed or cut off at the end."""
    caller = await _open(port)
    try:
        head = "\r\n".join(["GET /stream HTTP/1.1", "Host: soak", *UPGRADE, "", ""])
        caller.writer.write(head.encode())
        await caller.reader.readuntil(HEAD_END)
        for _ in range(random.randrange(1, 20)):
            rows = _rows(random, random.choice([1, 1, 20]))
            width = random.choice([NUM_FEATURES, NUM_FEATURES, 3])
            message = {"sequence": rows[:, :width].round(3).tolist(), "outputs": "last"}
            caller.writer.write(frame(json.dumps(message).encode()))
            await caller.message()
        return "talked"
    finally:
        caller.writer.transport.abort()


async def large(port: Port, random: Random) -> str:
    """A small body that unpacks to a large one, with a large answer."""
    caller = await _open(port)
    sink = io.BytesIO()
    rows = np.zeros((20 * 500, NUM_FEATURES), np.float32)
    np.savez_compressed(sink, sequences=rows, lengths=np.array([500] * 20))
    try:
        head, body = request("/predict?states=none", sink.getvalue(), f"Content-Type: {NPZ}")
        caller.writer.write(head + body)
        return await caller.status()
    finally:
        caller.writer.close()


async def asks(port: Port, random: Random) -> str:
    """What is no prediction."""
    caller = await _open(port)
    path = random.choice(["/metrics", "/readyz", "/openapi.json", "/nowhere", "/sessions/s1"])
    try:
        caller.writer.write(f"GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode())
        return await caller.status()
    finally:
        caller.writer.close()


_MAKES: dict[str, Make] = {
    "json": _json,
    "json lines": lambda port, rows: _json(port, rows, "Accept: application/x-ndjson"),
    "npz": _npz,
    "arrow": _arrow,
    "v1": _v1,
    "v2": _v2,
    "v2 bytes": _v2_bytes,
}
CALLERS: dict[str, Caller] = {
    **{f"{name} answered": partial(answered, make) for name, make in _MAKES.items()},
    **{f"{name} cut": partial(invalid, make) for name, make in _MAKES.items()},
    **{f"{name} hung up": partial(hangs_up, make) for name, make in _MAKES.items()},
    "session": session,
    "stream": stream,
    "large": large,
    "others": asks,
}
