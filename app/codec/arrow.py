"""Arrow IPC streams: a row a sequence, a column a feature, each a list of the feature's time steps.

    temp: list<float>   dewp: list<float>   ...   initial_state: fixed_size_list<float>[sum of H]

Answers are alike: a column of lists for each output, and `state`. What the answer is about (model,
session) is JSON in the schema's metadata.
"""

from collections import Counter
from typing import Any

import flatbuffers
import flatbuffers.table
import numpy as np
import pyarrow as pa
from flatbuffers.number_types import Int16Flags

from app.codec.arrow_columns import expected as expected_of
from app.codec.arrow_columns import fits, is_number, is_text, values_of
from app.codec.binary_bodies import INITIAL_STATE, STATE, AnswerArrays, RequestArrays
from app.codec.json_numbers import echo, float32_copy, invalid, print_json
from app.codec.model_codec import Codec
from app.codec.sequences import SequenceCodec
from app.codec.states import State, StateCodec

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
ABOUT = b"unroll"

# Where a message's metadata has what (format/Message.fbs): slots of a flatbuffers table.
VERSION_SLOT, HEADER_SLOT, COMPRESSION_SLOT = 4, 8, 10
# Where a dictionary's header has its values, which are as a record batch is.
VALUES_SLOT = 6
V5 = 4
# How streams were compressed before the format said how.
OLD_COMPRESSION = b"ARROW:experimental_compression"
SCHEMA, RECORD_BATCH, DICTIONARY = "schema", "record batch", "dictionary"


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
        _check_messages(body, codec.sequences)
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


def _check_messages(body: bytes, sequences: SequenceCodec) -> None:
    """Raises `ArrowInvalid` if messages are compressed, too many, or of an odd kind or version.

    Compressed, a few bytes could become gigabytes.
    """
    most = {RECORD_BATCH: sequences.limits.max_sequences}
    if sequences.has_text:
        # Before each batch there may be more values of each feature.
        most[DICTIONARY] = most[RECORD_BATCH] * len(sequences.names)
    counts = Counter[str]()
    for message in pa.ipc.MessageReader.open_stream(body):
        metadata = message.metadata.to_pybytes()
        (start,) = np.frombuffer(metadata, "<u4", 1)
        table = flatbuffers.table.Table(metadata, int(start))
        version = table.Offset(VERSION_SLOT)
        if not version or table.Get(Int16Flags, table.Pos + version) != V5:
            raise pa.ArrowInvalid("its metadata is not of version V5")
        kind = message.type
        if kind == SCHEMA:
            continue
        if kind not in most:
            raise pa.ArrowInvalid(f"a {kind} is not read here")
        header = _table_at(table, HEADER_SLOT)
        if header is not None and kind == DICTIONARY:
            header = _table_at(header, VALUES_SLOT)
        if header is None or header.Offset(COMPRESSION_SLOT) or OLD_COMPRESSION in metadata:
            raise pa.ArrowInvalid("it is compressed; send it plain")
        counts[kind] += 1
        if counts[kind] > most[kind]:
            limit = sequences.limits.max_sequences
            raise pa.ArrowInvalid(f"more than {limit} record batches, the limit of sequences")


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
    for index, name in enumerate(codec.sequences.names):
        kind, column = schema.field(name).type, codec.sequences.columns[index]
        is_list, is_static = _is_list(kind), index in codec.sequences.static
        if not (is_list or is_static) or not fits(kind.value_type if is_list else kind, column):
            or_one = ", or one for each sequence" if is_static else ""
            text = f"must be lists of {expected_of(column)}{or_one}, is {str(kind)[:80]}"
            raise invalid(f"/{name}", text)
    if INITIAL_STATE in names:
        kind, size = schema.field(INITIAL_STATE).type, codec.states.size
        fixed = pa.types.is_fixed_size_list(kind) and kind.list_size == size
        if not is_text(kind) and not (fixed and is_number(kind.value_type)):
            expected = f"must be strings or fixed_size_list<float>[{size}]"
            raise invalid(f"/{INITIAL_STATE}", f"{expected}, is {str(kind)[:80]}")


def _table_at(table: Any, slot: int) -> Any:
    offset = table.Offset(slot)
    return (
        flatbuffers.table.Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None
    )


def _rows(table: Any, sequences: SequenceCodec) -> tuple[list[int], np.ndarray]:
    """Lengths `[B]` and rows `[sum of lengths, F]`, float32, as kernels take them; NaN where
    null."""
    names = sequences.names
    columns = {name: _chunk(table, name) for name in names}
    listed = [name for name in names if _is_list(columns[name].type)]
    lengths = _common_lengths(columns, listed) if listed else [1] * int(table.num_rows)
    sequences.check_lengths(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    rows = np.empty((sum(lengths), len(names)), np.float32)
    # Beyond float32 a number becomes infinite, which is refused later.
    with np.errstate(over="ignore", invalid="ignore"):
        for index, (name, column) in enumerate(zip(names, sequences.columns, strict=True)):
            if name in listed:
                rows[:, index] = values_of(_flat(columns[name]), column)
            else:
                rows[:, index] = np.nan
                rows[starts, index] = values_of(columns[name], column)
    return lengths, rows


def _common_lengths(columns: dict[str, Any], names: list[str]) -> list[int]:
    """The lengths of the lists, which are the same in all of these columns."""
    first, *others = names
    offsets, lengths = columns[first].offsets, _lengths(columns[first], first)
    for name in others:
        # Equal offsets are equal lengths; others may still be, of lists that begin elsewhere.
        found = _lengths(columns[name], name)
        if not columns[name].offsets.equals(offsets) and found != lengths:
            row = next(row for row, length in enumerate(found) if length != lengths[row])
            text = f"holds {found[row]} time steps, {echo(first)} {lengths[row]}"
            raise invalid(f"/{name}/{row}", text)
    return lengths


def _lengths(column: Any, name: str) -> list[int]:
    """Of the lists of a column; raises `InvalidRequest` if one of them is null."""
    if column.null_count:
        raise invalid(f"/{name}", "must have a list for each sequence; one is null")
    lengths: list[int] = np.diff(column.offsets.to_numpy()).tolist()
    return lengths


def _flat(column: Any) -> Any:
    """The values of all lists, one after the other."""
    return column.values[column.offsets[0].as_py() : column.offsets[-1].as_py()]


def _states(table: Any, codec: StateCodec) -> list[State | None]:
    if INITIAL_STATE not in table.column_names:
        return [None] * int(table.num_rows)
    column, pointer = _chunk(table, INITIAL_STATE), f"/{INITIAL_STATE}"
    if is_text(column.type):
        return codec.parse(column.to_pylist(), len(column), pointer)
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    start = column.offset * codec.size
    flat = column.values[start : start + len(column) * codec.size]
    numbers = float32_copy(flat.to_numpy(zero_copy_only=False))
    return codec.check(numbers.reshape(len(column), codec.size), is_null, pointer)


def _chunk(table: Any, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
