"""The bytes of a head until it is whole: what is looked at, and whether it may become one."""

from typing import Any

import pytest

from app.server import head_buffer
from app.server.head_buffer import HeadBuffer

SIZE = 1 << 14
# In how many ways a byte is looked at: for the end, for the first line, and where a read begins.
TIMES = 8


class Looked(bytearray):
    """Counts the bytes that are looked at or copied."""

    count = 0

    def find(self, what: Any, start: Any = 0, *end: Any) -> int:
        Looked.count += len(self) - start
        return super().find(what, start, *end)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Looked.count += len(found) if isinstance(found, bytearray) else 1
        return found

    def __add__(self, other: Any) -> Any:
        Looked.count += len(self) + len(other)
        return super().__add__(other)


class LookingPattern:
    """A pattern that counts the bytes it is given."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern

    def match(self, text: Any) -> Any:
        Looked.count += len(text)
        return self._pattern.match(bytes(text))


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * SIZE,
        b"GET / HTTP/1.1\r\nX: " + b"x" * SIZE,
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * (SIZE // 6),
        b"GET / HTTP/1.1\r\n" + b"\r\r\n\r" * (SIZE // 4),
    ],
    ids=["target", "value", "lines", "almost ends"],
)
def test_a_head_in_pieces_is_linear_work(
    monkeypatch: pytest.MonkeyPatch, head: bytes, piece: int
) -> None:
    monkeypatch.setattr(Looked, "count", 0)
    monkeypatch.setattr(head_buffer, "bytearray", Looked, raising=False)
    pattern = LookingPattern(head_buffer.REQUEST_LINE)
    monkeypatch.setattr(head_buffer, "REQUEST_LINE", pattern)
    partial = HeadBuffer()
    for start in range(0, len(head), piece):
        assert partial.extend(head[start : start + piece]) == -1
        assert partial.may_become_head()
    assert Looked.count <= TIMES * len(head)
    assert partial.extend(b"\r\n\r\n") >= len(head) - 4
    assert bytes(partial) == head + b"\r\n\r\n"


def test_the_end_is_found_wherever_it_is_cut() -> None:
    head = b"GET / HTTP/1.1\r\nA: b\r\n\r\nmore"
    for first in range(1, len(head)):
        for second in range(first, len(head)):
            partial = HeadBuffer()
            parts = head[:first], head[first:second], head[second:]
            assert head.index(b"\r\n\r\n") in [partial.extend(part) for part in parts if part]


@pytest.mark.parametrize(
    ("parts", "may"),
    [
        ([b"G"], True),
        ([b"GET"], True),
        ([b"GET /", b" HTTP/1.1\r"], True),
        ([b"GET / HTTP/1.1\r\n"], True),
        ([b"GET / HTTP/1.1\r", b"\n", b"anything\n"], True),
        ([b"GET / HTTP/1.1\n"], False),
        ([b"GET / HTTP/1.1", b"\n"], False),
        ([b"GET /\r\n"], False),
        ([b"GET", b" / HTTP/2\r\n"], False),
        ([b"get"], False),
        ([b"\r\n"], False),
        ([b"\x16\x03"], False),
    ],
)
def test_what_may_become_a_head(parts: list[bytes], may: bool) -> None:
    partial = HeadBuffer()
    for part in parts:
        partial.extend(part)
        found = partial.may_become_head()
    assert found is may
