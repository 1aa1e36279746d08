"""Arrow from who means harm: few bytes that would take much memory, or much time."""

import io
import struct
import subprocess
import sys
from typing import Any

import flatbuffers
import flatbuffers.table
import pyarrow as pa
import pytest

from tests.app.formats import stream_of
from tests.app.fuzz_formats import (
    LIMIT,
    MEGABYTE,
    arrow_body,
    check_kept,
    fuzz,
    read_arrow,
    refused,
)


def messages(body: bytearray) -> list[tuple[int, Any]]:
    """Each message of a stream: where its metadata begins, and the table in it."""
    found, start = [], 0
    for message in pa.ipc.MessageReader.open_stream(bytes(body)):
        metadata = message.metadata.to_pybytes()
        start = bytes(body).index(metadata, start)
        (root,) = struct.unpack_from("<I", metadata)
        found.append((start, flatbuffers.table.Table(metadata, root)))
    return found


def header_of(message: Any) -> Any:
    return flatbuffers.table.Table(message.Bytes, message.Indirect(message.Pos + message.Offset(8)))


def numbers(*lengths: int, kind: Any = None) -> Any:
    return pa.array([[0] * length for length in lengths], pa.list_(kind or pa.float32()))


PAIR = {"a": numbers(2), "b": numbers(2)}


def test_streams_compressed_as_they_were_of_old_are_refused() -> None:
    # As Arrow 0.17 wrote them: version V4, and the name of the method beside the batch.
    batch = pa.record_batch({name: numbers(5 * MEGABYTE, kind=pa.int8()) for name in "ab"})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
    body = bytearray(sink.getvalue().to_pybytes())
    (schema_start, schema), (start, message) = messages(body)
    header = header_of(message)
    (up,) = struct.unpack_from("<i", message.Bytes, header.Pos)
    struct.pack_into("<H", body, start + header.Pos - up + 10, 0)  # no compression
    assert "is compressed" in refused(read_arrow, bytes(body))
    for place, table in ((schema_start, schema), (start, message)):
        struct.pack_into("<h", body, place + table.Pos + table.Offset(4), 3)  # V4
    assert pa.ipc.open_stream(bytes(body)).read_all().nbytes > 10 * MEGABYTE
    assert "not of version V5" in refused(read_arrow, bytes(body))


def test_columns_that_share_their_bytes_are_refused() -> None:
    body = bytearray(stream_of({name: numbers(50, 50, 50, 50) for name in "ab"}))
    assert len(read_arrow(bytes(body)).sequences) == 4
    start, message = messages(body)[1]
    header = header_of(message)
    buffers = header.Vector(header.Offset(8))
    # Those of `b`, 4 to 7, begin where those of `a` do; then all is cut off that nobody needs.
    for index in range(4):
        (offset,) = struct.unpack_from("<q", message.Bytes, buffers + 16 * index)
        struct.pack_into("<q", body, start + buffers + 16 * (index + 4), offset)
    (size,) = struct.unpack_from("<q", message.Bytes, message.Pos + message.Offset(10))
    struct.pack_into("<q", body, start + message.Pos + message.Offset(10), size // 2)
    end = start + len(message.Bytes)
    del body[end + size // 2 : end + size]
    assert pa.ipc.open_stream(bytes(body)).read_all()["b"].to_pylist() == [[0] * 50] * 4
    assert "cannot hold" in refused(read_arrow, bytes(body))


def nested(depth: int) -> Any:
    kind = pa.float32()
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(),
        pa.list_(pa.null()),
        pa.list_(pa.null(), 1 << 30),
        pa.list_(pa.float32(), 0),
        pa.list_view(pa.float32()),
        pa.run_end_encoded(pa.int32(), pa.float32()),
        pa.dictionary(pa.int8(), pa.float32()),
        pa.sparse_union([pa.field("x", pa.float32())]),
        pa.struct([pa.field("x", nested(1))]),
        pa.fixed_shape_tensor(pa.float32(), [4]),
        pa.string_view(),
        nested(60),
    ],
    ids=lambda kind: str(kind)[:30],
)
@pytest.mark.parametrize("name", ["a", "initial_state"])
def test_columns_of_other_types_are_refused_by_the_schema(name: str, kind: Any) -> None:
    # Of some of them a few bytes are very many rows.
    schema = pa.schema({"a": nested(1), "b": nested(1)} | {name: kind})
    sink = io.BytesIO()
    pa.ipc.new_stream(sink, schema).close()
    message = refused(read_arrow, sink.getvalue())
    assert message.startswith(f"/{name}: must be ")
    assert len(message) < 200


def test_a_stream_of_very_many_empty_batches_is_refused() -> None:
    batch = pa.record_batch({"a": numbers(), "b": numbers()})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(5):
            writer.write_batch(batch)
    message = refused(read_arrow, sink.getvalue())
    assert "more than 4 record batches, the limit of sequences" in message


def test_lengths_beyond_the_limit_are_refused_before_room_is_made() -> None:
    body = stream_of({name: numbers(LIMIT, kind=pa.int8()) for name in "ab"})
    assert f"holds {LIMIT} time steps, the limit is 50" in refused(read_arrow, body)


def test_states_beyond_float32_are_refused() -> None:
    states = pa.array([[1e300] * 4], pa.list_(pa.float64(), 4))
    message = refused(read_arrow, stream_of(PAIR | {"initial_state": states}))
    assert message == "/initial_state/0/0: inf is not finite"


def test_nothing_of_a_stream_is_kept_but_its_numbers() -> None:
    states = pa.array([[0.0] * 4], pa.list_(pa.float32(), 4))
    check_kept(read_arrow(stream_of(PAIR | {"initial_state": states})))


def test_thousands_of_damaged_streams_are_read_or_refused() -> None:
    found = fuzz(read_arrow, arrow_body, 1000, 1)
    assert found["read"] > 100
    assert found["refused"] > 100


def test_after_the_warm_up_nothing_is_left_to_load() -> None:
    code = (
        "import sys; from app.codec import arrow; from tests.app.fuzz_formats import CODEC\n"
        "arrow.warm_up(); loaded = set(sys.modules)\n"
        "arrow.read(sys.stdin.buffer.read(), CODEC); arrow.warm_up()\n"
        "assert set(sys.modules) == loaded, set(sys.modules) - loaded"
    )
    body = stream_of({"a": pa.array([[1.0]]), "b": pa.array([[None]], pa.list_(pa.float32()))})
    found = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True)
    assert found.returncode == 0, found.stderr.decode()
