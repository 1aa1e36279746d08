"""`HeadBuffer`: a request's head until it is whole; and what raw heads are searched for."""

import re

END = b"\r\n\r\n"
REQUEST_LINE = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[0-9]\r\n")
PATH = re.compile(rb"[A-Z]+ (/[^ ?\r\n]*)")
# Java's HTTP client and `curl --http2` offer to speak HTTP/2 like this. The parser would take what
# follows the head for HTTP/2, and lose the body; an offer may be ignored (RFC 9110, section 7.8).
UPGRADE = re.compile(rb"\r\nupgrade:(?![ \t]*websocket[ \t]*(?:\r|$))[^\r\n]*", re.IGNORECASE)


class HeadBuffer:
    """See the module. However a head is cut, the work is linear in its bytes.

    Each byte is copied once and searched twice, for the end of the head and of its first line.
    """

    __slots__ = ("_bytes", "_has_request_line", "_searched")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._has_request_line = False
        # Bytes in which the end of the first line is not.
        self._searched = 0

    def __len__(self) -> int:
        return len(self._bytes)

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)

    def extend(self, data: bytes) -> int:
        """Takes what was read; returns where `END` begins, or -1 if it is not there yet."""
        # It may begin in what came before.
        start = max(0, len(self._bytes) - len(END) + 1)
        self._bytes += data
        return self._bytes.find(END, start)

    def may_become_head(self) -> bool:
        """Whether it begins with a request line, or with what may become one."""
        if not self._has_request_line:
            newline = self._bytes.find(b"\n", self._searched)
            self._searched = len(self._bytes)
            if newline < 0:
                return self._bytes[:1].isupper()
            self._has_request_line = REQUEST_LINE.match(self._bytes) is not None
        return self._has_request_line


def path_of(head: bytes) -> bytes:
    """The path that a head asks for; empty if it has none yet."""
    found = PATH.match(head)
    return found[1] if found else b""
