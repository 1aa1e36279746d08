"""Broken bodies in Arrow and NPZ: valid ones, changed somewhere.

    python -m tests.app.fuzz_formats 100000

reads that many of each in this process, and counts what came of them.
"""

import random
import struct
import sys
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from app.codec import arrow, npz
from app.codec.binary_bodies import RequestArrays
from app.codec.json_bounds import JSONBounds
from app.codec.model_codec import Codec
from app.codec.sequences import Limits, SequenceCodec
from app.codec.signature import Signature, StateTensor
from app.codec.state_token import StateTokens
from app.codec.states import LayerLayout, StateCodec
from app.errors import InvalidRequest
from tests.app.formats import npy, stream_of, zip_of
from tests.app.strategies import attempt

MEGABYTE = 1 << 20
LIMIT = 1_000_000
# Bytes that reading may take: for each of the body, and besides.
PER_BYTE, BESIDES = 50, 200_000

LAYOUT = ("lstm", 2, ("h", "c"))
# The second of two features may be missing.
SEQUENCES = SequenceCodec(("a", "b"), (False, True), Limits(4, 50))
CODEC = Codec(
    SEQUENCES,
    SEQUENCES,
    None,
    StateCodec((LayerLayout(*LAYOUT),), StateTokens("tiny", 1, [LAYOUT])),
    Signature(2, 1, (StateTensor("state_0_h", 0, 2), StateTensor("state_0_c", 2, 4))),
    JSONBounds.of(("a", "b"), 1, 4),
    "tiny",
    1,
)

# What lengths, offsets and counts are replaced by.
ODD_NUMBERS = [0, 1, -1, 2, 4, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63]
ODD_TEXTS = ["", "0", "-1", "9" * 30, "1e9", "(", ")", "[", "{", "'", ",", "None", "True", "\x00"]
ODD_TEXTS += ["<U0", "<U1", "|O", ">f8", "|b1", "<f3", "(" * 300, "-" * 3000, "2**9", "shape", " "]


def read_arrow(body: bytes) -> RequestArrays:
    return arrow.read(body, CODEC)


def read_npz(body: bytes) -> RequestArrays:
    return npz.read(body, CODEC, LIMIT)


def arrow_body(chance: random.Random) -> bytes:
    """A valid stream."""
    lengths = [chance.randint(1, 5) for _ in range(chance.randint(1, 4))]
    kind = chance.choice([pa.float32(), pa.float64(), pa.int8(), pa.float16()])
    of = chance.choice([pa.list_, pa.large_list])
    columns: dict[str, Any] = {
        "a": pa.array([[1] * length for length in lengths], of(kind)),
        "b": pa.array([[1] + [None] * (length - 1) for length in lengths], of(kind)),
    }
    states: Any = None
    if chance.random() < 0.3:
        states = pa.array([[0.5] * 4, *[None] * (len(lengths) - 1)], pa.list_(pa.float32(), 4))
    elif chance.random() < 0.3:
        tokens = [CODEC.states.tokens.seal(np.ones(4, np.float32))] * len(lengths)
        states = pa.array(tokens, chance.choice([pa.string(), pa.large_string()]))
    if states is not None:
        columns["initial_state"] = states
    return stream_of(columns, cuts=chance.randint(1, len(lengths)))


def npz_body(chance: random.Random) -> bytes:
    """An archive that is valid, or all of it but for the header of an array."""
    lengths = [chance.randint(1, 5) for _ in range(chance.randint(1, 4))]
    rows: np.ndarray = np.ones((sum(lengths), 2), chance.choice(["<f4", ">f8", "<i2", "u1"]))
    arrays = {"sequences": rows, "lengths": np.array(lengths)}
    if chance.random() < 0.3:
        order: Literal["C", "F"] = chance.choice(("C", "F"))
        arrays["sequences"] = np.ones((len(lengths), 5, 2), np.float32, order)
    if chance.random() < 0.3:
        arrays["initial_state"] = np.ones((len(lengths), 4))
    elif chance.random() < 0.3:
        token = CODEC.states.tokens.seal(np.ones(4, np.float32))
        arrays["initial_state"] = np.array([token] * len(lengths))
    method = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    return zip_of(method, **{name: change_npy(npy(arrays[name]), chance) for name in arrays})


def change_npy(data: bytes, chance: random.Random) -> bytes:
    """Changes the header or the content of an array, or neither."""
    kind = chance.random()
    if kind < 0.75:
        return data
    if kind < 0.85:
        return change(data, chance)
    text = data[10:128].decode()
    start = chance.randrange(70)
    text = text[:start] + chance.choice(ODD_TEXTS) + text[start + chance.randint(0, 9) :]
    return data[:8] + struct.pack("<H", len(text)) + text.encode() + data[128:]


def change(body: bytes, chance: random.Random) -> bytes:
    """Cuts, or overwrites somewhere."""
    data = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        start = chance.randrange(len(data))
        kind = chance.random()
        if kind < 0.4:
            data[start] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
        elif kind < 0.9:
            size = chance.choice([2, 4, 8])
            start -= start % size
            number = chance.choice(ODD_NUMBERS) + chance.choice([-1, 0, 0, 0, 1])
            data[start : start + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
        elif kind < 0.95:
            data = data[: start + 1]
        else:
            data[start:start] = chance.randbytes(chance.choice([1, 8, 64]))
    return bytes(data)


def read_within(read: Callable[[bytes], RequestArrays], body: bytes) -> RequestArrays | None:
    """What is read, None if it is refused; anything else is a failure, and so is much memory."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    arrays, faults = attempt(read, body)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before <= BESIDES + PER_BYTE * len(body), (peak - before, body)
    if arrays is None:
        assert all(len(str(fault)) < 500 for fault in faults), faults
        return None
    assert 1 <= len(arrays.sequences) == len(arrays.states) <= 4
    for array in arrays.sequences:
        assert array.dtype == np.float32
        assert array.shape[1] == 2
        assert 1 <= len(array) <= 50
        assert np.isfinite(array[:, 0]).all()
        assert not np.isinf(array[:, 1]).any()
    assert all(s is None or (s.shape == (4,) and np.isfinite(s).all()) for s in arrays.states)
    return arrays


def refused(read: Callable[[bytes], RequestArrays], body: bytes) -> str:
    """The error; fails if reading took much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest) as caught:
            read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MEGABYTE + 3 * len(body), peak
    return str(caught.value)


def check_kept(arrays: RequestArrays) -> None:
    """Whether nothing of a body is kept but its numbers."""
    for kept in (*arrays.sequences, *arrays.states):
        assert kept is not None
        owner: Any = kept
        while getattr(owner, "base", None) is not None:
            owner = owner.base
        assert isinstance(owner, np.ndarray)
        assert owner.nbytes == kept.nbytes


def fuzz(
    read: Callable[[bytes], RequestArrays],
    make: Callable[[random.Random], bytes],
    count: int,
    seed: int,
) -> Counter[str]:
    """Reads so many; returns how many were read, and how many refused."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for _ in range(count):
            body = make(chance)
            if chance.random() < 0.5:
                body = change(body, chance)
            arrays = read_within(read, body)
            found["refused" if arrays is None else "read"] += 1
    finally:
        tracemalloc.stop()
    return found


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    pool = pa.default_memory_pool()
    print("arrow", dict(fuzz(read_arrow, arrow_body, count, seed)), pool.max_memory(), "bytes")
    print("npz", dict(fuzz(read_npz, npz_body, count, seed)))


if __name__ == "__main__":
    main()
