"""Finds where an HTTP response ends, and its status: no more than a load generator needs."""

HEAD_END = b"\r\n\r\n"


class ResponseReader:
    """Takes the bytes of one response after another, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._status = 0
        # Bytes of the buffer that make the response whole; None while the head is not.
        self._wanted: int | None = None
        self._chunked = False

    def feed(self, data: bytes) -> int | None:
        """Adds bytes; the status of the response that is whole now, else None.

        Raises:
            ValueError: it is not HTTP/1.1, or has no length.
        """
        self._buffer += data
        if self._wanted is None and not self._read_head():
            return None
        if self._chunked and not self._read_chunks():
            return None
        assert self._wanted is not None
        if len(self._buffer) < self._wanted:
            return None
        del self._buffer[: self._wanted]
        self._wanted, self._chunked = None, False
        return self._status

    def _read_head(self) -> bool:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        self._status = int(lines[0].split(b" ", 2)[1])
        headers = dict(line.lower().split(b":", 1) for line in lines[1:])
        body = end + len(HEAD_END)
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            self._chunked = True
            self._wanted = body
        elif b"content-length" in headers:
            self._wanted = body + int(headers[b"content-length"])
        else:
            raise ValueError(f"a response without a length: {lines[0]!r}")
        return True

    def _read_chunks(self) -> bool:
        """Moves over whole chunks; True after the last one."""
        assert self._wanted is not None
        while (line := self._buffer.find(b"\r\n", self._wanted)) >= 0:
            size = int(self._buffer[self._wanted : line].split(b";")[0], 16)
            end = line + 2 + size + 2
            if len(self._buffer) < end:
                return False
            self._wanted = end
            if size == 0:
                return True
        return False
