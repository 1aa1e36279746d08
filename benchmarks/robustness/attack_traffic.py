"""What callers send who mean no good: prepared bytes on raw sockets, paced, from 127.0.0.1."""

import io
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

MEBIBYTE = 1 << 20
SIZE = 8 * MEBIBYTE
FEATURES = 8
TIMEOUT_S = 90.0
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
NO_LENGTH = (b"", b"0")
LINE = b"POST /predict HTTP/1.1\r\nhost: x\r\n"


def post(
    body: bytes, path: bytes = b"/predict", content_type: bytes = b"application/json"
) -> bytes:
    """A whole request."""
    return (
        b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
        % (path, content_type, len(body))
        + body
    )


def filled(start: bytes, item: bytes, end: bytes, size: int = SIZE - 64) -> bytes:
    """A body of one item again and again, `size` bytes."""
    return start + item * ((size - len(start) - len(end)) // len(item)) + item.rstrip(b",") + end


def rows(end: bytes) -> bytes:
    """A body of 31 sequences of some 3,000 time steps."""
    sequences = [filled(b"[", ROW, b"]", SIZE // 32 - 100)] * 31
    return b'{"outputs":"none","states":"none","sequences":[' + b",".join(sequences) + end


ROW = b"[" + b",".join([b"0.123456"] * FEATURES) + b"],"
BODIES: dict[str, Callable[[], bytes]] = {
    "8 MB of `[[]]`": lambda: filled(b'{"sequences":[', b"[[]],", b"]}"),
    "8 MB of `[]`": lambda: filled(b'{"sequences":[', b"[],", b"]}"),
    "8 MB of `{}`": lambda: filled(b'{"sequences":[', b"{},", b"]}"),
    "8 MB of keys": lambda: (
        b'{"sequences":[{' + b",".join(b'"k%06d":1' % n for n in range(SIZE // 12)) + b"}]}"
    ),
    "8 MB in a row": lambda: filled(b'{"sequences":[[[', b"1,", b"]]]}"),
    "8 MB of strings": lambda: filled(b'{"sequences":[', b'"",', b"]}"),
    "8 MB of one number": lambda: filled(b'{"sequences":[[[', b"1", b"]]]}"),
    "8 MB, all but its end valid": lambda: rows(b",[[0]]]}"),
    "8 MB, valid": lambda: rows(b"]}"),
}


def packed() -> bytes:
    """7 KB that unpack to 7 MB: 20 sequences of 10,000 time steps."""
    sink = io.BytesIO()
    np.savez_compressed(
        sink, sequences=np.zeros((200_000, FEATURES), np.float32), lengths=[10_000] * 20
    )
    path = b"/predict?outputs=none&states=none"
    return post(sink.getvalue(), path, b"application/x-npz")


@dataclass
class Traffic:
    """Threads of callers, all of which stop when `stopped` is set.

    Attributes:
        port: of the server.
        stopped: ends them.
        answers: what they were answered, by status, or how they failed.
    """

    port: int
    stopped: threading.Event = field(default_factory=threading.Event)
    answers: Counter[str] = field(default_factory=Counter)

    def connect(self, receive_bytes: int = 0) -> socket.socket:
        """A new connection."""
        made = socket.socket()
        if receive_bytes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(TIMEOUT_S)
        made.bind(("127.0.0.1", 0))
        made.connect(("127.0.0.1", self.port))
        return made

    def again_and_again(self, request: bytes, pause_s: float) -> None:
        """A caller who waits for each answer, then pauses."""
        connection: socket.socket | None = None
        while not self.stopped.is_set():
            try:
                connection = connection or self.connect()
                connection.sendall(request)
                head = self.answer(connection)
                if not head or b"connection: close" in head:
                    connection = None
            except OSError as error:
                self.answers[type(error).__name__] += 1
                connection = None
            self.stopped.wait(pause_s)

    def answer(self, connection: socket.socket) -> bytes:
        """Reads an answer; returns its head in lower case, empty if there is none."""
        data = connection.recv(1 << 16)
        self.answers[data[9:12].decode("latin-1") or "closed"] += 1
        head, _, body = data.partition(b"\r\n\r\n")
        left = int((LENGTH.search(head) or NO_LENGTH)[1]) - len(body)
        while left > 0 and (data := connection.recv(1 << 16)):
            left -= len(data)
        return head.lower()

    def once(self, request: bytes, pause_s: float) -> None:
        """A caller who reads the first answer of each connection."""
        while not self.stopped.is_set():
            try:
                with self.connect() as connection:
                    connection.settimeout(1.0)
                    with suppress(TimeoutError):
                        connection.sendall(request)
                    self.answer(connection)
            except OSError as error:
                self.answers[type(error).__name__] += 1
            self.stopped.wait(pause_s)

    def in_pieces(self, start: bytes, piece: bytes, most: int, pause_s: float) -> None:
        """A caller whose request comes piece by piece, and never ends."""
        while not self.stopped.is_set():
            with suppress(OSError), self.connect() as connection:
                connection.sendall(start)
                for _ in range(most):
                    if self.stopped.wait(pause_s):
                        return
                    connection.sendall(piece)
            self.answers["over"] += 1

    def many_in_pieces(self, count: int, start: bytes, piece: bytes, pause_s: float) -> None:
        """As `in_pieces`, many connections by one thread; each gets a piece in `pause_s`."""
        opened = self._open(count, start)
        while opened and not self.stopped.is_set():
            for connection in list(opened):
                try:
                    connection.send(piece)
                except OSError as error:
                    self.answers[type(error).__name__] += 1
                    opened.remove(connection)
                if self.stopped.wait(pause_s / count):
                    break

    def idle(self, count: int) -> None:
        """Connections that are opened, and used for nothing."""
        opened = self._open(count, b"")
        self.stopped.wait()
        del opened

    def unread(self, count: int, request: bytes) -> None:
        """Callers who ask for large answers, as many as they can, and read none."""
        opened = self._open(count, request, 4096)
        for connection in opened:
            connection.setblocking(False)
        while not self.stopped.wait(0.1):
            for connection in opened:
                with suppress(OSError):
                    connection.send(request)

    def _open(self, count: int, start: bytes, receive_bytes: int = 0) -> list[socket.socket]:
        opened = []
        for _ in range(count):
            if self.stopped.is_set():
                break
            try:
                opened.append(self.connect(receive_bytes))
                opened[-1].sendall(start)
            except OSError as error:
                self.answers[type(error).__name__] += 1
        return opened


@dataclass(frozen=True)
class Attack:
    """What is sent.

    Attributes:
        name: of its row.
        about: how much of it there is.
        callers: threads.
        run: what each does with a request.
        prepare: makes the request, before anything is measured.
        files: the server's limit of open files; 0 for what it is.
    """

    name: str
    about: str
    callers: int
    run: Callable[[Traffic, bytes], None]
    prepare: Callable[[], bytes] = bytes
    files: int = 0

    def start(self, traffic: Traffic) -> list[threading.Thread]:
        """Begins."""
        request = self.prepare()
        threads = [
            threading.Thread(target=self.run, args=(traffic, request), daemon=True)
            for _ in range(self.callers)
        ]
        for thread in threads:
            thread.start()
        return threads


def _closed(pause_s: float) -> Callable[[Traffic, bytes], None]:
    return lambda traffic, request: traffic.again_and_again(request, pause_s)


def _posted(name: str) -> bytes:
    return post(BODIES[name]())


def _long_accept() -> bytes:
    accept = b",".join([b"a/b"] * 15_500)
    return b"GET /models HTTP/1.1\r\nhost: x\r\naccept: %s\r\n\r\n" % accept


def _large_answers() -> bytes:
    rows = b",".join([b"[0,0,0,0,0,0,0,0]"] * 2000)
    return post(b'{"states":"none","sequences":[[' + rows + b"]]}")


def _chunks() -> bytes:
    head = LINE + b"transfer-encoding: chunked\r\n\r\n"
    return head + b"1\r\n \r\n" * (MEBIBYTE // 6) + b"0\r\n\r\n"


ATTACKS: Sequence[Attack] = (
    *(
        Attack(name, "8 connections, a pause of 1 s", 8, _closed(1.0), partial(_posted, name))
        for name in BODIES
    ),
    Attack("long headers", "8 with 62 KB of Accept, 20 ms", 8, _closed(0.02), _long_accept),
    Attack(
        "pieces of heads",
        "8 connections, 8 bytes each 2 ms",
        8,
        lambda t, _: t.in_pieces(LINE + b"x-a: ", b"a" * 8, 8000, 0.002),
    ),
    Attack(
        "slow heads",
        "500 connections, a byte each 2 s",
        1,
        lambda t, _: t.many_in_pieces(500, LINE + b"x-a: ", b"a", 2.0),
    ),
    Attack(
        "slow bodies",
        "500 connections, 1 KB each 2 s",
        1,
        lambda t, _: t.many_in_pieces(
            500, LINE + b"content-length: 8000000\r\n\r\n", b" " * 1024, 2.0
        ),
    ),
    Attack("2,000 idle", "connections without a byte", 1, lambda t, _: t.idle(2000)),
    Attack(
        "readers that do not read",
        "100 connections, 2,000 time steps a request",
        1,
        lambda t, request: t.unread(100, request),
        _large_answers,
    ),
    Attack("packed NPZ", "60 callers, 7 MB from 7 KB, 0.2 s", 60, _closed(0.2), packed),
    Attack(
        "requests in a row",
        "8 connections, 256 KB of the shortest, 1 s",
        8,
        lambda t, request: t.once(request, 1.0),
        lambda: b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n" * 9000,
    ),
    Attack("tiny chunks", "8 connections, 1 MB of them, 1 s", 8, _closed(1.0), _chunks),
    Attack(
        "3,000 connections at 1,024 files",
        "without a byte",
        1,
        lambda t, _: t.idle(3000),
        files=1024,
    ),
)
