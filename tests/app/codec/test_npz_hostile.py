"""NPZ from who means harm: few bytes that would take much memory, or much time."""

import io
import struct
import zipfile

import numpy as np
import pytest

from tests.app.formats import npy, zip_of
from tests.app.fuzz_formats import LIMIT, MEGABYTE, check_kept, fuzz, npz_body, read_npz, refused


def npy_of(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode() + content


def described(kind: str, shape: str, content: bytes = b"") -> bytes:
    return npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", content)


GOOD = npy(np.zeros((1, 2, 2), np.float32))


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["zip", "bz2", "xz"]
)
def test_a_member_that_lies_about_its_size_is_not_unpacked(method: int) -> None:
    data = GOOD + bytes(40 * MEGABYTE)
    body = zip_of(method, sequences=data)
    lied = body.replace(struct.pack("<I", len(data)), struct.pack("<I", len(GOOD)))
    assert lied != body
    assert refused(read_npz, body).startswith(f"the archive unpacks to {len(data)} bytes")
    assert refused(read_npz, lied).startswith(("the body is no NPZ", "/sequences: must be stored"))


def test_a_member_that_is_shorter_than_it_says_is_refused() -> None:
    body = zip_of(zipfile.ZIP_DEFLATED, sequences=GOOD)
    lied = body.replace(struct.pack("<I", len(GOOD)), struct.pack("<I", len(GOOD) + 9))
    assert "has 144 bytes, not 153" in refused(read_npz, lied)


def test_an_encrypted_member_is_refused() -> None:
    body = bytearray(zip_of(sequences=GOOD))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + flags] |= 1
    assert "is encrypted" in refused(read_npz, bytes(body))


def test_an_archive_of_very_many_members_is_refused_before_they_are_listed() -> None:
    body = zip_of(**{f"a{index}": b"" for index in range(200)})
    assert refused(read_npz, body) == "the archive has more than 100 members"


def test_an_array_that_is_there_twice_is_refused() -> None:
    sink = io.BytesIO(zip_of(sequences=GOOD))
    with zipfile.ZipFile(sink, "a") as archive:
        archive.writestr("sequences", GOOD)
    assert "two arrays 'sequences'" in refused(read_npz, sink.getvalue())


def test_members_that_share_what_is_packed_are_refused() -> None:
    # Half of what may be unpacked; nothing comes out of it, but that takes its time.
    nothing = bytes.fromhex("000000ffff") * (LIMIT // 10)
    body = bytearray(zip_of(sequences=nothing, lengths=b"", initial_state=b""))
    start = len(body)
    for _ in range(3):
        start = body.rindex(b"PK\x01\x02", 0, start)
        struct.pack_into("<I", body, start + 20, len(nothing))
    assert refused(read_npz, bytes(body)).startswith("the archive unpacks to 1500000 bytes")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (b"", "is no array"),
        (b"x", "is no array"),
        (npy_of("("), "header is none"),
        (npy_of("'''"), "header is none"),
        (npy_of("{[]: 1}"), "header is none"),
        (npy_of("-" * 9000 + "1"), "header is none"),
        (npy_of("[" * 9000), "header is none"),
        (npy_of("{" + " " * 10_000 + "}"), "header is none"),
        (npy_of("{'descr': '<f4'}"), "header is none"),
        (npy_of("{}", version=b"\x03\x00"), "version 1.0 or 2.0"),
        (b"\x93NUMPY\x01", "version 1.0 or 2.0"),
        (npy_of("", version=b"\x02\x00")[:-2], "version 1.0 or 2.0"),
        (described("|O", "(1,)"), 'must be an array of numbers, is of "|O"'),
        (described("<U0", "(1,)"), 'must be an array of numbers, is of "<U0"'),
        (described("<U99999999", "(1,)"), "must be an array of numbers"),
        (npy_of("(" * 256), "header is none"),
        (npy_of("[" * 190 + "]" * 190), "header is none"),
        (
            npy_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"),
            "header is none",
        ),
        (
            npy_of("{'descr': ('<f4', (9,)), 'fortran_order': False, 'shape': (1,)}"),
            "header is none",
        ),
        (npy_of("{'descr': {'a': 1}, 'fortran_order': False, 'shape': (1,)}"), "header is none"),
        (npy_of("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}"), "header is none"),
        (described("(99999,99999)<f4", "(1,)"), 'is of "(99999,99999)<f4"'),
        (described("<f3", "(1,)"), 'must be an array of numbers, is of "<f3"'),
        (described("float32", "(1,)"), 'must be an array of numbers, is of "float32"'),
        (described("<f4", f"({2**40}, 0, 2)"), f"is empty: [{2**40}, 0, 2]"),
        (described("<f4", f"({2**63}, 2, 2)"), f"not those of float32 [{2**63}, 2, 2]"),
        (described("<f4", f"({2**70}, 2, 2)"), f"not those of float32 [{2**70}, 2, 2]"),
        (described("<f4", "(1.0, 2, 2)"), "header is none"),
        (described("<f4", "(True, 2, 2)"), "header is none"),
        (described("<f4", "(1, 2"), "header is none"),
        (described("<f4", "(,)"), "header is none"),
        (described("<f4", "(" + "1" * 150 + ",)"), "not those of float32 [1111"),
        (described("<f4", "7"), "header is none"),
        (described("<f4", "(1, -2, -2)", bytes(16)), "wrong shape"),
        (described("<f4", f"({'1,' * 70})", bytes(4)), "maximum supported dimension"),
    ],
)
def test_an_array_whose_header_is_not_as_it_must_be_is_refused(part: bytes, message: str) -> None:
    assert message in refused(read_npz, zip_of(sequences=part))


def test_headers_may_be_written_in_other_ways() -> None:
    for header in (
        "{'shape': (1, 1, 2), 'fortran_order': False, 'descr': '<f4'}\n",
        "{'descr':'<f4','fortran_order':False,'shape':(1,1,2,)}",
        '{ "descr" : "<f4" , "fortran_order" : True , "shape" : ( 1 , 1 , 2 ) , }',
    ):
        for version in (b"\x01\x00", b"\x02\x00"):
            part = npy_of(header, np.array([1, 2], "<f4").tobytes(), version)
            (sequence,) = read_npz(zip_of(sequences=part)).sequences
            assert sequence.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (described("<U1", "(1,)", b"\xff" * 4), "state tokens, which are ASCII"),
        (described("<U1", "(1,)", struct.pack("<I", 0xD800)), "state tokens, which are ASCII"),
        (described(">U1", "(1,)", struct.pack(">I", 0x100)), "state tokens, which are ASCII"),
        (described("<U1", "(9,)", bytes(36)), "must be numbers"),
        (npy(np.full((1, 4), 1e300)), "/initial_state/0/0: inf is not finite"),
        (npy(np.frombuffer(struct.pack("<Q", 0x7FF0 << 48 | 1) * 4).reshape(1, 4)), "not finite"),
    ],
)
def test_states_that_are_none_are_refused(states: bytes, message: str) -> None:
    assert message in refused(read_npz, zip_of(sequences=GOOD, initial_state=states))


def test_very_many_lengths_or_states_are_refused_before_they_are_gone_through() -> None:
    many = npy(np.zeros(LIMIT - 1000, np.uint8))
    rows = npy(np.zeros((2, 2), np.uint8))
    assert "the limit is 4" in refused(read_npz, zip_of(sequences=rows, lengths=many))
    assert "must be 1 numbers" in refused(read_npz, zip_of(sequences=GOOD, lengths=many))
    strings = npy(np.zeros(LIMIT // 8, "<U1"))
    assert "must be numbers" in refused(read_npz, zip_of(sequences=GOOD, initial_state=strings))


def test_nothing_of_an_archive_is_kept_but_its_numbers() -> None:
    check_kept(read_npz(zip_of(sequences=GOOD, initial_state=npy(np.zeros((1, 4), np.float32)))))


def test_thousands_of_damaged_archives_are_read_or_refused() -> None:
    found = fuzz(read_npz, npz_body, 1000, 1)
    assert found["read"] > 100
    assert found["refused"] > 100
