import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.responses import ResponseReader

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nwiki\r\n6;x=1\r\npedia \r\nA\r\n\r\n0\r\n\r\nab \r\n0\r\n\r\n"
)
FAILED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"


@given(st.data())
def test_finds_the_end_of_each_response_in_any_pieces(data: st.DataObject) -> None:
    # A client has one request at a time, so a piece never holds more than one response's end.
    reader = ResponseReader()
    for response, expected in ((PLAIN, 200), (CHUNKED, 200), (FAILED, 503), (PLAIN, 200)):
        cuts = data.draw(st.lists(st.integers(1, len(response) - 1), unique=True))
        places = [0, *sorted(cuts), len(response)]
        pieces = [response[a:b] for a, b in zip(places, places[1:], strict=False)]
        found = [reader.feed(piece) for piece in pieces]
        assert found == [None] * (len(pieces) - 1) + [expected]


def test_refuses_a_response_without_a_length() -> None:
    with pytest.raises(ValueError, match="without a length"):
        ResponseReader().feed(b"HTTP/1.1 200 OK\r\n\r\n")
