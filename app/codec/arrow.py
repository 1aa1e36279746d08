"""Arrow IPC streams: a row a sequence, a column a feature, each a list of the feature's time steps.

    temp: list<float>   dewp: list<float>   ...   initial_state: fixed_size_list<float>[sum of H]

Answers are alike: a column of lists for each output, and `state`. What the answer is about (model,
session) is JSON in the schema's metadata.
"""

from typing import Any

import flatbuffers
import flatbuffers.table
import numpy as np
import pyarrow as pa
from flatbuffers.number_types import Int16Flags

from app.codec.binary_bodies import INITIAL_STATE, STATE, AnswerArrays, RequestArrays
from app.codec.json_numbers import echo, float32_copy, invalid, print_json
from app.codec.model_codec import Codec
from app.codec.sequences import SequenceCodec
from app.codec.states import State, StateCodec

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
ABOUT = b"unroll"

# Where a message's metadata has what (format/Message.fbs): slots of a flatbuffers table.
VERSION_SLOT, HEADER_SLOT, COMPRESSION_SLOT = 4, 8, 10
V5 = 4
# How streams were compressed before the format said how.
OLD_COMPRESSION = b"ARROW:experimental_compression"
SCHEMA, RECORD_BATCH = "schema", "record batch"


def read(body: bytes, codec: Codec) -> RequestArrays:
    """Reads a request.

    Raises:
        InvalidRequest: it is no such stream, or not one for this model.
        OtherModel: a token is of another model or version.
    """
    table = _table(body, codec)
    codec.sequences.check_count(table.num_rows)
    lengths, rows = _rows(table, codec.sequences)
    return RequestArrays(codec.sequences.cut(rows, lengths), _states(table, codec.states))


def write(answer: AnswerArrays) -> bytes:
    """Prints an answer."""
    columns: dict[str, pa.Array] = {}
    if answer.outputs is not None:
        lengths = [len(outputs) for outputs in answer.outputs]
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        together = np.concatenate(answer.outputs)
        for index, name in enumerate(answer.names):
            values = pa.array(np.ascontiguousarray(together[:, index]))
            columns[name] = pa.ListArray.from_arrays(offsets, values)
    if isinstance(answer.states, np.ndarray):
        numbers = pa.array(answer.states.ravel())
        columns[STATE] = pa.FixedSizeListArray.from_arrays(numbers, answer.states.shape[1])
    elif answer.states is not None:
        columns[STATE] = pa.array(answer.states)
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    schema = batch.schema.with_metadata({ABOUT: print_json(answer.about)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    written: bytes = sink.getvalue().to_pybytes()
    return written


def warm_up() -> None:
    """Has pyarrow load what it loads when it first makes an array, which takes 0.3 s."""
    numbers = np.zeros((1, 1), np.float32)
    write(AnswerArrays({}, ("a",), [numbers], numbers))


def _table(body: bytes, codec: Codec) -> Any:
    """The table in a stream, whole and checked."""
    try:
        _check_messages(body, codec.sequences.limits.max_sequences)
        with pa.ipc.open_stream(body) as reader:
            # Of other types a few bytes could be very many rows.
            _check_schema(reader.schema, codec)
            table = reader.read_all()
        # Offsets could point anywhere else.
        table.validate(full=True)
        # Nothing checks that columns do not share the same bytes.
        if table.nbytes > len(body):
            raise pa.ArrowInvalid(f"{len(body)} bytes cannot hold {table.nbytes} bytes of columns")
        return table.combine_chunks()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise invalid("", f"the body is no Arrow IPC stream: {reason}") from None


def _check_messages(body: bytes, max_batches: int) -> None:
    """Raises `ArrowInvalid` if messages are compressed, too many, or of an odd kind or version.

    Compressed, a few bytes could become gigabytes.
    """
    batches = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        metadata = message.metadata.to_pybytes()
        (start,) = np.frombuffer(metadata, "<u4", 1)
        table = flatbuffers.table.Table(metadata, int(start))
        version = table.Offset(VERSION_SLOT)
        if not version or table.Get(Int16Flags, table.Pos + version) != V5:
            raise pa.ArrowInvalid("its metadata is not of version V5")
        if message.type == SCHEMA:
            continue
        if message.type != RECORD_BATCH:
            raise pa.ArrowInvalid(f"a {message.type} is not read here")
        header = _table_at(table, HEADER_SLOT)
        if header is None or header.Offset(COMPRESSION_SLOT) or OLD_COMPRESSION in metadata:
            raise pa.ArrowInvalid("it is compressed; send it plain")
        batches += 1
        if batches > max_batches:
            raise pa.ArrowInvalid(f"more than {max_batches} record batches, the limit of sequences")


def _check_schema(schema: Any, codec: Codec) -> None:
    """Whether the columns are those of the model; raises `InvalidRequest`."""
    names = schema.names
    if len(set(names)) < len(names):
        raise invalid("", "columns have the same name")
    missing = [name for name in codec.sequences.names if name not in names]
    if missing:
        raise invalid("", f"column {echo(missing[0])} is missing")
    extra = set(names) - {*codec.sequences.names, INITIAL_STATE}
    if extra:
        raise invalid("", f"there is no feature {echo(min(extra))}")
    for name in codec.sequences.names:
        kind = schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not is_list or not _is_number(kind.value_type):
            raise invalid(f"/{name}", f"must be lists of numbers, is {str(kind)[:80]}")
    if INITIAL_STATE in names:
        kind, size = schema.field(INITIAL_STATE).type, codec.states.size
        fixed = pa.types.is_fixed_size_list(kind) and kind.list_size == size
        if not _is_text(kind) and not (fixed and _is_number(kind.value_type)):
            expected = f"must be strings or fixed_size_list<float>[{size}]"
            raise invalid(f"/{INITIAL_STATE}", f"{expected}, is {str(kind)[:80]}")


def _table_at(table: Any, slot: int) -> Any:
    offset = table.Offset(slot)
    return (
        flatbuffers.table.Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None
    )


def _rows(table: Any, sequences: SequenceCodec) -> tuple[list[int], np.ndarray]:
    """Lengths `[B]` and float32 rows `[sum of lengths, F]`; NaN where null."""
    first, *others = sequences.names
    column = _lists(table, first)
    offsets, lengths = column.offsets, _lengths(column)
    sequences.check_lengths(lengths)
    rows = np.empty((sum(lengths), 1 + len(others)), np.float32)
    # Beyond float32 a number becomes infinite, which is refused later.
    with np.errstate(over="ignore", invalid="ignore"):
        rows[:, 0] = _values(column)
        for index, name in enumerate(others, 1):
            column = _lists(table, name)
            # Equal offsets are equal lengths; others may still be, of lists that begin elsewhere.
            if not column.offsets.equals(offsets) and (found := _lengths(column)) != lengths:
                row = next(row for row, length in enumerate(found) if length != lengths[row])
                raise invalid(
                    f"/{name}/{row}",
                    f"holds {found[row]} time steps, {echo(first)} {lengths[row]}",
                )
            rows[:, index] = _values(column)
    return lengths, rows


def _lists(table: Any, name: str) -> Any:
    """A column of lists; raises `InvalidRequest` if one of them is null."""
    column = _chunk(table, name)
    if column.null_count:
        raise invalid(f"/{name}", "must have a list for each sequence; one is null")
    return column


def _lengths(column: Any) -> list[int]:
    lengths: list[int] = np.diff(column.offsets.to_numpy()).tolist()
    return lengths


def _values(column: Any) -> np.ndarray:
    """The numbers of all lists, one after the other, NaN where null."""
    start, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
    values: np.ndarray = column.values[start:end].to_numpy(zero_copy_only=False)
    return values


def _states(table: Any, codec: StateCodec) -> list[State | None]:
    if INITIAL_STATE not in table.column_names:
        return [None] * int(table.num_rows)
    column, pointer = _chunk(table, INITIAL_STATE), f"/{INITIAL_STATE}"
    if _is_text(column.type):
        return codec.parse(column.to_pylist(), len(column), pointer)
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    start = column.offset * codec.size
    flat = column.values[start : start + len(column) * codec.size]
    numbers = float32_copy(flat.to_numpy(zero_copy_only=False))
    return codec.check(numbers.reshape(len(column), codec.size), is_null, pointer)


def _chunk(table: Any, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
