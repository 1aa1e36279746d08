"""NPZ: NumPy's archives, as `numpy.savez` and `savez_compressed` write them.

A request has `sequences`, float `[sum of T, F]` one after the other with `lengths` `[B]`, or
`[B, T, F]`, where `lengths` may say that rows are shorter; and `initial_state` `[B, sum of H]`. An
answer has `outputs` `[sum of T, O]`, `lengths`, `state`, and as JSON in `about` what it is about.
"""

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy

from app.codec.batch import INITIAL_STATE, STATE, Answer, Batch
from app.codec.model import Codec
from app.codec.numbers import echo, invalid, print_json
from app.codec.states import State, StateCodec

MEDIA_TYPE = "application/x-npz"
SEQUENCES, LENGTHS, OUTPUTS, ABOUT = "sequences", "lengths", "outputs", "about"
KNOWN = (SEQUENCES, LENGTHS, INITIAL_STATE)
SUFFIX = ".npy"
MAX_HEADER = 10_000
# What damaged or encrypted archives, and methods of packing that Python lacks, raise.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
)


def read(body: bytes, codec: Codec, limit: int) -> Batch:
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
    rows = _floats(arrays[SEQUENCES], SEQUENCES)
    width = len(codec.sequences.names)
    if rows.ndim not in (2, 3) or rows.shape[-1] != width:
        raise invalid(
            f"/{SEQUENCES}",
            f"must be [sum of lengths, {width}] or [B, T, {width}], is {list(rows.shape)}",
        )
    lengths = arrays.get(LENGTHS)
    if lengths is not None and (lengths.ndim != 1 or lengths.dtype.kind not in "iu"):
        raise invalid(
            f"/{LENGTHS}", f"must be whole numbers [B], is {lengths.dtype} {list(lengths.shape)}"
        )
    rows, steps = _ragged(rows, lengths)
    return Batch(
        codec.sequences.cut(rows, steps),
        _states(arrays.get(INITIAL_STATE), codec.states, len(steps)),
    )


def write(answer: Answer) -> bytes:
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
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > limit:
                raise invalid("", f"the archive unpacks to {size} bytes, the limit is {limit}")
            found = {}
            for member in members:
                name = member.filename.removesuffix(SUFFIX)
                if name not in KNOWN:
                    raise invalid("", f"there is no array {echo(name)}: {', '.join(KNOWN)}")
                if name in found:
                    raise invalid("", f"there are two arrays {name!r}")
                found[name] = _array(archive.read(member), name)
            return found
    except BROKEN as error:
        raise invalid("", f"the body is no NPZ archive: {str(error)[:200]}") from None


def _array(data: bytes, name: str) -> np.ndarray:
    """An array of numbers or strings. NumPy's own reader would believe any shape and make room."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        if version == (1, 0):
            header = npy.read_array_header_1_0(file, max_header_size=MAX_HEADER)
        else:
            header = npy.read_array_header_2_0(file, max_header_size=MAX_HEADER)
        shape, by_column, kind = header
    except (ValueError, SyntaxError) as error:
        raise invalid(f"/{name}", f"is no array: {str(error)[:200]}") from None
    count = 1
    for length in shape:
        count *= length
    content = memoryview(data)[file.tell() :]
    if kind.kind not in "fiuU" or min(shape, default=0) < 0:
        raise invalid(f"/{name}", f"must be an array of numbers, is {str(kind)[:80]} {shape}")
    if count * kind.itemsize != len(content):
        raise invalid(f"/{name}", f"has {len(content)} bytes, not those of {kind} {list(shape)}")
    array = np.frombuffer(content, kind) if kind.itemsize else np.zeros(count, kind)
    return array.reshape(shape, order="F" if by_column else "C")


def _floats(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise invalid(f"/{name}", f"must be numbers, is {array.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)


def _ragged(rows: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, list[int]]:
    """Rows `[sum of lengths, F]` and lengths."""
    if rows.ndim == 2:
        if lengths is None:
            raise invalid(f"/{LENGTHS}", f"is missing: {SEQUENCES} has two dimensions")
        steps = lengths.tolist()
        if min(steps, default=0) < 0 or sum(steps) != len(rows):
            raise invalid(f"/{LENGTHS}", f"must add up to the {len(rows)} rows of {SEQUENCES}")
        return rows, steps
    count, most, width = rows.shape
    if lengths is None:
        return rows.reshape(-1, width), [most] * count
    steps = lengths.tolist()
    if len(steps) != count or not all(0 <= n <= most for n in steps):
        raise invalid(f"/{LENGTHS}", f"must be {count} numbers up to {most}")
    valid = np.arange(most) < np.array(steps, np.int64).reshape(-1, 1)
    return rows[valid], steps


def _states(array: np.ndarray | None, codec: StateCodec, count: int) -> list[State | None]:
    if array is None:
        return [None] * count
    pointer = f"/{INITIAL_STATE}"
    if array.dtype.kind == "U" and array.ndim == 1:
        return codec.parse(array.tolist(), count)
    numbers = _floats(array, INITIAL_STATE)
    if numbers.shape != (count, codec.size):
        raise invalid(pointer, f"must be {[count, codec.size]}, is {list(numbers.shape)}")
    return codec.check(numbers, np.zeros(count, bool), pointer)
