"""`LargeBodies`: large bodies are read and printed in a process beside the worker.

Small ones are at once.

To read 8 MiB of JSON takes 0.1 to 0.3 s and holds Python's lock, so a thread would not help: nobody
else would be answered meanwhile. The process runs at a lower priority: a core that workers want is
theirs. It starts with the first large body and ends when none has come for a minute, and its memory
goes with it.

A message between the two is a pickle whose bytes and arrays follow it as they are:

    <Q bytes of the pickle | <Q number of buffers | <Q bytes of each | pickle | buffers
"""

import asyncio
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from app.errors import Overloaded, ShuttingDown, Unavailable

# To read so much takes 2 to 3 ms at most.
LARGE_BYTES = 128 << 10
# Large bodies that a worker holds at once, as many as have the largest size; then it is overloaded.
MAX_LARGE = 16
ROOT = Path(__file__).parents[2]
HEAD = struct.Struct("<QQ")
# Of a pickle, of which there are few kilobytes, and of a socket's own buffer.
SOCKET_BYTES = 1 << 20

A = TypeVar("A")
P = TypeVar("P")
R = TypeVar("R")


class Decoder(NamedTuple, Generic[P, R]):
    """How a body becomes a request.

    Attributes:
        read: understands a body; a picklable function of it alone, whose result can be pickled.
            It raises `UnrollError`.
        make: makes the request of what was read; quick.
        size: bytes that a body is read as: its own, or what it unpacks to. Of more than
            `LARGE_BYTES` others would wait too long while it is read at once.
    """

    read: Callable[[bytes], P]
    make: Callable[[P], R]
    size: Callable[[bytes], int] = len


class Room:
    """Bytes of large bodies that are held, from their arrival until they are read.

    Args:
        limit: of them all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """What a body is held in; the function is told its size whenever that grows.

        Small bodies take none. Beyond the limit the function raises `Overloaded`.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if size <= max(held, LARGE_BYTES):
                return
            if self._taken + size - held > self._limit:
                text = f"large bodies hold {self._taken} bytes, the limit is {self._limit}"
                raise Overloaded(text)
            self._taken += size - held
            held = size

        try:
            yield hold
        finally:
            self._taken -= held


class LargeBodies:
    """See the module. Everything but `_ask` happens on the event loop."""

    def __init__(self) -> None:
        # One thread: they take their turns in the order in which they came.
        self._thread = ThreadPoolExecutor(1, "large bodies")
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_closed = False

    def run(self, function: Callable[[A], P], value: A) -> asyncio.Future[P]:
        """Will be what a function gives for a value, or raise what that raises.

        It raises `Unavailable` if the process ends meanwhile, as one does that has no memory left.

        Args:
            function: can be pickled, as what it gives can.
            value: bytes, or anything that can be pickled.
        """
        return asyncio.get_running_loop().run_in_executor(self._thread, self._ask, function, value)

    def close(self) -> None:
        """Ends the process; nothing is done any more."""
        self._is_closed = True
        if self._process is not None:
            # Whoever waits for it in the thread hears of it.
            self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._end()

    def _ask(self, function: Callable[[A], P], value: A) -> P:
        """Has the process do it. Called in the thread."""
        for _ in range(2):
            if self._is_closed:
                raise ShuttingDown("the service is stopping")
            # It may have ended for want of work, or under the body before.
            connection = self._socket or self._start()
            try:
                send(connection, (function, value))
                found = receive(connection)
            except OSError:
                self._end()
                continue
            if isinstance(found, Exception):
                raise found
            made: P = found
            return made
        raise Unavailable("the process for large bodies has ended, twice")

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "app.service.large_bodies_process", str(number)]
            self._process = subprocess.Popen(command, pass_fds=[number], cwd=ROOT)
        self._socket = ours
        return ours

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def send(connection: socket.socket, value: object) -> None:
    """Sends a value; its arrays, and bytes in a tuple, are not copied. Raises `OSError`."""
    if type(value) is tuple:
        value = tuple(pickle.PickleBuffer(x) if isinstance(x, bytes) else x for x in value)
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))
    connection.sendall(HEAD.pack(len(text), len(views)) + sizes + text)
    for view in views:
        connection.sendall(view)


def receive(connection: socket.socket) -> Any:
    """What the other end has sent, bytes in a tuple as views; raises `OSError` if it has gone."""
    length, count = HEAD.unpack(_exactly(connection, HEAD.size))
    sizes = struct.unpack(f"<{count}Q", _exactly(connection, 8 * count))
    text = _exactly(connection, length)
    memory = _exactly(connection, sum(sizes))
    views, end = [], 0
    for size in sizes:
        views.append(memory[end : end + size])
        end += size
    return pickle.loads(text, buffers=views)


def _exactly(connection: socket.socket, size: int) -> memoryview:
    # Zeros first would be written under Python's lock: 5 ms for 10 MB, in which nobody is answered.
    view, end = np.empty(size, np.uint8).data, 0
    while end < size:
        count = connection.recv_into(view[end:])
        if not count:
            raise ConnectionResetError("the other end has gone")
        end += count
    return view
