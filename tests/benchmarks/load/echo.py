"""Servers that stand for real ones. `EchoServer` remembers what it was sent, and answers states
that differ each time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JsonServer(ThreadingHTTPServer):
    """Answers each body with what `answer` makes of it."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    def answer(self, body: bytes) -> bytes:
        """The body of an answer. Called by a thread for each connection."""
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one piece: two would wait for an acknowledgement between them.
    wbufsize = -1
    server: JsonServer

    def do_POST(self) -> None:
        answer = self.server.answer(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(server: JsonServer) -> Iterator[None]:
    """Runs it in a thread."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class EchoServer(JsonServer):
    """Remembers bodies and the states it answered."""

    def __init__(self, status: int, delay_s: float, slow: tuple[int, float]) -> None:
        super().__init__()
        self.status = status
        self.delay_s = delay_s
        self.slow = slow
        self.bodies: list[bytes] = []
        self.states: set[bytes] = set()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/predict"

    def answer(self, body: bytes) -> bytes:
        """See `JsonServer`."""
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            state = b'[[{"h":[0.%d,1],"c":[2]}]]' % number
            self.states.add(state)
            every, slow_s = self.slow
            time.sleep(slow_s if every and number % every == every - 1 else self.delay_s)
        return b'{"outputs":[[[1.0]]],"states":' + state + b"}"


@contextmanager
def echo_server(
    status: int = 200, delay_s: float = 0.0, slow: tuple[int, float] = (0, 0.0)
) -> Iterator[EchoServer]:
    """It answers one request at a time, each after `delay_s`; one of so many after as many seconds
    as `slow` says."""
    server = EchoServer(status, delay_s, slow)
    with serving(server):
        yield server
