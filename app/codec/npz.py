"""NPZ: NumPy's archives, as `numpy.savez` and `savez_compressed` write them.

A request has `sequences`, numbers `[sum of T, F]` one after the other with `lengths` `[B]`, or
`[B, T, F]`, where `lengths` may say that rows are shorter; and `initial_state` `[B, sum of H]`. An
answer has `outputs` `[sum of T, O]`, `lengths`, `state`, and as JSON in `about` what it is about.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from typing import Any, Literal

import numpy as np

from app.codec.binary_bodies import INITIAL_STATE, STATE, AnswerArrays, RequestArrays
from app.codec.json_numbers import echo, float32_copy, invalid, print_json
from app.codec.model_codec import Codec
from app.codec.sequences import SequenceCodec
from app.codec.states import State, StateCodec

MEDIA_TYPE = "application/x-npz"
SEQUENCES, LENGTHS, OUTPUTS, ABOUT = "sequences", "lengths", "outputs", "about"
KNOWN = (SEQUENCES, LENGTHS, INITIAL_STATE)
SUFFIX = ".npy"

# What `zipfile` raises of archives that are damaged or encrypted.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
)
# `zipfile` unpacks others whole, however large that is.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# How a member begins in the directory. Numbers may look so by chance, but not so often; and to list
# very many would take longer than to read a body.
MEMBER, MAX_MEMBERS = b"PK\x01\x02", 100

# Where a member's entry in the directory has its size (APPNOTE.TXT, 4.3.12).
SIZE_AT = 24

# How an array begins; its version and the length of its header follow, which has a size by version.
MAGIC, LENGTH_AT = b"\x93NUMPY", 8
LENGTH_FORMATS = {b"\x01\x00": struct.Struct("<H"), b"\x02\x00": struct.Struct("<I")}
# Bytes of a header: NumPy writes 118 to 182.
MAX_HEADER = 256
# It is an expression of Python, a dictionary of three. NumPy reads it as such; for that Python
# leaves functions behind, for the garbage collector, and reads much else.
HEADER = re.compile(
    rb"\{(?:\s*(?:"
    rb"['\"]descr['\"]\s*:\s*['\"](?P<kind>[^'\"]*)['\"]"
    rb"|['\"]fortran_order['\"]\s*:\s*(?P<by_column>True|False)"
    rb"|['\"]shape['\"]\s*:\s*\((?P<shape>(?:\s*-?\d+\s*,)*(?:\s*-?\d+)?)\s*\)"
    rb")\s*(?:,|(?=\})))*\s*\}\s*"
)
KINDS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|U[1-9]\d{0,6})")
MAX_ASCII = 127


def read(body: bytes, codec: Codec, limit: int) -> RequestArrays:
    """Reads a request.

    Args:
        body: of the request.
        codec: of the model.
        limit: bytes that it may unpack to.

    Raises:
        InvalidRequest: it is no such archive, or not one for this model.
        OtherModel: a token is of another model or version.
    """
    arrays = _arrays(body, limit)
    if SEQUENCES not in arrays:
        raise invalid("", f"there is no array {SEQUENCES!r}")
    rows, width = _numbers(arrays[SEQUENCES], f"/{SEQUENCES}"), len(codec.sequences.names)
    if rows.ndim not in (2, 3) or rows.shape[-1] != width:
        raise invalid(
            f"/{SEQUENCES}",
            f"must be [sum of lengths, {width}] or [B, T, {width}], is {list(rows.shape)}",
        )
    rows = codec.sequences.from_numbers(rows, f"/{SEQUENCES}")
    lengths = arrays.get(LENGTHS)
    if lengths is not None and (lengths.ndim != 1 or lengths.dtype.kind not in "iu"):
        raise invalid(
            f"/{LENGTHS}", f"must be whole numbers [B], is {lengths.dtype} {list(lengths.shape)}"
        )
    rows, steps = _ragged(rows, lengths, codec.sequences)
    return RequestArrays(
        codec.sequences.cut(rows, steps),
        _states(arrays.get(INITIAL_STATE), codec.states, len(steps)),
    )


def unpacked_size(body: bytes) -> int:
    """Bytes of an archive and of what it unpacks to, or more; without reading it."""
    if body.count(MEMBER) > MAX_MEMBERS:
        return len(body)
    size, at = len(body), body.find(MEMBER)
    while at >= 0:
        size += int.from_bytes(body[at + SIZE_AT : at + SIZE_AT + 4], "little")
        at = body.find(MEMBER, at + 1)
    return size


def write(answer: AnswerArrays) -> bytes:
    """Prints an answer."""
    arrays: dict[str, Any] = {ABOUT: np.array(print_json(answer.about).decode())}
    if answer.outputs is not None:
        arrays[OUTPUTS] = np.concatenate(answer.outputs)
        arrays[LENGTHS] = np.array([len(outputs) for outputs in answer.outputs])
    if answer.states is not None:
        arrays[STATE] = np.asarray(answer.states)
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


def _arrays(body: bytes, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an archive, by their names; each has at least one element."""
    if body.count(MEMBER) > MAX_MEMBERS:
        raise invalid("", f"the archive has more than {MAX_MEMBERS} members")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = _members(archive, limit)
            return {name: _array(_unpack(archive, members[name]), name) for name in members}
    except BROKEN as error:
        raise invalid("", f"the body is no NPZ archive: {str(error)[:200]}") from None


def _members(archive: zipfile.ZipFile, limit: int) -> dict[str, zipfile.ZipInfo]:
    members = archive.infolist()
    # Several could share what is packed, and it may be more than what it unpacks to.
    size = sum(max(member.file_size, member.compress_size) for member in members)
    if size > limit:
        raise invalid("", f"the archive unpacks to {size} bytes, the limit is {limit}")
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = member.filename.removesuffix(SUFFIX)
        if name not in KNOWN:
            raise invalid("", f"there is no array {echo(name)}: {', '.join(KNOWN)}")
        if name in found:
            raise invalid("", f"there are two arrays {name!r}")
        if member.compress_type not in METHODS:
            raise invalid(f"/{name}", "must be stored or deflated; it is packed in another way")
        found[name] = member
    return found


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    # The directory may lie about the size. Without a size, `read` would unpack all there is.
    with archive.open(member) as source:
        data = source.read(member.file_size)
    if len(data) < member.file_size:
        raise EOFError(f"{member.filename} has {len(data)} bytes, not {member.file_size}")
    return data


def _array(data: bytes, name: str) -> np.ndarray:
    """An array of numbers or strings. `numpy.load` would believe any shape and make room."""
    pointer = f"/{name}"
    header, content = _split(data, pointer)
    kind = header["kind"].decode("latin-1")
    if not KINDS.fullmatch(kind):
        raise invalid(pointer, f"must be an array of numbers, is of {echo(kind)}")
    shape = [int(length) for length in header["shape"].split(b",") if length.strip()]
    if any(length < 0 for length in shape):
        raise invalid(pointer, "is no array: its header has a wrong shape")
    numbers, text = np.dtype(kind), str(shape)[:80]
    # Python's whole numbers do not overflow, and nothing is allocated for what a shape says.
    if math.prod(shape) * numbers.itemsize != len(content):
        raise invalid(pointer, f"has {len(content)} bytes, not those of {numbers} {text}")
    if not content:
        raise invalid(pointer, f"is empty: {text}")
    order: Literal["F", "C"] = "F" if header["by_column"] == b"True" else "C"
    return np.frombuffer(content, numbers).reshape(shape, order=order)


def _split(data: bytes, pointer: str) -> tuple[re.Match[bytes], memoryview]:
    """The header of an array, and its content."""
    length = LENGTH_FORMATS.get(data[len(MAGIC) : LENGTH_AT])
    if data.startswith(MAGIC) and length is not None and len(data) >= LENGTH_AT + length.size:
        start = LENGTH_AT + length.size
        end = start + length.unpack_from(data, LENGTH_AT)[0]
        header = HEADER.fullmatch(data, start, end) if end - start <= MAX_HEADER else None
        if header is not None and None not in header.groups():
            return header, memoryview(data)[end:]
    raise invalid(
        pointer,
        "is no array: it is not of version 1.0 or 2.0, or its header is none of an array of "
        "numbers",
    )


def _numbers(array: np.ndarray, pointer: str) -> np.ndarray:
    if array.dtype.kind == "U":
        raise invalid(pointer, f"must be numbers, is {array.dtype}")
    return array


def _ragged(
    rows: np.ndarray, lengths: np.ndarray | None, codec: SequenceCodec
) -> tuple[np.ndarray, list[int]]:
    """Rows `[sum of lengths, F]` and lengths."""
    if rows.ndim == 2:
        if lengths is None:
            raise invalid(f"/{LENGTHS}", f"is missing: {SEQUENCES} has two dimensions")
        codec.check_count(len(lengths))
        steps = lengths.tolist()
        if min(steps) < 0 or sum(steps) != len(rows):
            raise invalid(f"/{LENGTHS}", f"must add up to the {len(rows)} rows of {SEQUENCES}")
        return rows, steps
    count, most, width = rows.shape
    codec.check_count(count)
    if lengths is None:
        return rows.reshape(-1, width), [most] * count
    if len(lengths) != count or lengths.min() < 0 or lengths.max() > most:
        raise invalid(f"/{LENGTHS}", f"must be {count} numbers up to {most}")
    return rows[np.arange(most) < lengths[:, None]], lengths.tolist()


def _states(array: np.ndarray | None, codec: StateCodec, count: int) -> list[State | None]:
    if array is None:
        return [None] * count
    pointer = f"/{INITIAL_STATE}"
    if array.dtype.kind == "U" and array.shape == (count,):
        codes = array.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max() > MAX_ASCII:
            raise invalid(pointer, "must be state tokens, which are ASCII")
        return codec.parse(array.tolist(), count, pointer)
    numbers = float32_copy(_numbers(array, pointer))
    if numbers.shape != (count, codec.size):
        raise invalid(pointer, f"must be {[count, codec.size]}, is {list(numbers.shape)}")
    return codec.check(numbers, np.zeros(count, bool), pointer)
