"""`LargeBodies`: large bodies are read and printed in a process beside the worker.

Small ones are at once. Callers take turns, by the seconds that it works for each.

To read 8 MiB of JSON takes 0.1 to 0.3 s and holds Python's lock, so a thread would not help: nobody
else would be answered meanwhile. The process runs at a lower priority: a core that workers want is
theirs. It starts with the first large body and ends when none has come for a minute, and its memory
goes with it.

A message between the two is a pickle whose bytes and arrays follow it as they are:

    <Q bytes of the pickle | <Q number of buffers | <Q bytes of each | pickle | buffers
"""

import asyncio
import logging
import math
import mmap
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from app.engine.waiting_queue import Turns
from app.errors import ShuttingDown, Unavailable

# To read so much takes 2 to 3 ms at most.
LARGE_BYTES = 128 << 10
ROOT = Path(__file__).parents[2]
HEAD = struct.Struct("<QQ")
# A process that says nothing for so many seconds hangs, and is replaced, as a worker is. What takes
# longest is read or printed in some seconds, on a busy machine too.
HANG_S = 60.0
# Of a pickle, of which there are few kilobytes, and of a socket's own buffer.
SOCKET_BYTES = 1 << 20
# Memory of this process alone.
MAP = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

logger = logging.getLogger(__name__)


class Waiting(Protocol):
    """A request that may have waited until it was understood; see `InferenceRequest`."""

    waited_s: float


A = TypeVar("A")
P = TypeVar("P")
R = TypeVar("R", bound=Waiting)


class Decoder(NamedTuple, Generic[P, R]):
    """How a body becomes a request.

    Attributes:
        read: understands a body; a picklable function of it alone, whose result can be pickled.
            It raises `UnrollError`.
        make: makes the request of what was read; quick.
        size: bytes that a body is read as: its own, or what it unpacks to. Of more than
            `LARGE_BYTES` others would wait too long while it is read at once.
        timeout_s: seconds that its caller has, as far as the head says in words of this route.
    """

    read: Callable[[bytes], P]
    make: Callable[[P], R]
    size: Callable[[bytes], int] = len
    timeout_s: float = math.inf


class LargeBodies:
    """See the module. Everything but `_ask` happens on the event loop."""

    def __init__(self) -> None:
        # One thread: the process does one thing at a time.
        self._thread = ThreadPoolExecutor(1, "large bodies")
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_closed = False
        # What each caller waits for, in its order: a function and its value.
        self._waiting: dict[str, dict[asyncio.Future[Any], tuple[Callable[[Any], Any], Any]]] = {}
        self._turns = Turns()
        self._is_busy = False

    def run(self, function: Callable[[A], P], value: A, caller: str = "") -> asyncio.Future[P]:
        """Will be what a function gives for a value, or raise what that raises.

        It raises `Unavailable` if the process ends meanwhile, as one does that has no memory left,
        or hangs, or cannot be started.
        Who cancels it lets go of the value, unless it has its turn already.

        Args:
            function: can be pickled, as what it gives can.
            value: bytes, or anything that can be pickled.
            caller: whose turn it is to be.
        """
        future: asyncio.Future[P] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, {})[future] = function, value
        future.add_done_callback(partial(self._forget, caller))
        self._go_on()
        return future

    def close(self) -> None:
        """Ends the process; nothing is done any more."""
        self._is_closed = True
        for future in [future for own in self._waiting.values() for future in own]:
            future.cancel()
        if (process := self._process) is not None:
            # Whoever waits for it in the thread hears of it.
            process.kill()
        self._thread.shutdown()
        self._end()

    def _forget(self, caller: str, future: asyncio.Future[Any]) -> None:
        """Takes out what nobody waits for any more, or has had its turn."""
        own = self._waiting.get(caller, {})
        own.pop(future, None)
        if not own:
            self._waiting.pop(caller, None)

    def _go_on(self) -> None:
        """Has the next done, of the caller whose turn it is, unless something is."""
        if self._is_busy or not self._waiting:
            return
        turns = self._turns
        caller = min(self._waiting, key=turns.begin_of)
        future = next(iter(self._waiting[caller]))
        function, value = self._waiting[caller][future]
        self._forget(caller, future)
        turns.now = turns.begin_of(caller)
        self._is_busy = True
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._thread, self._ask, function, value)
        asked.add_done_callback(partial(self._answered, caller, loop.time(), future))

    def _answered(
        self, caller: str, began: float, future: asyncio.Future[Any], asked: asyncio.Future[Any]
    ) -> None:
        self._is_busy = False
        turns = self._turns
        turns.ends[caller] = turns.now + asyncio.get_running_loop().time() - began
        turns.forget(len(self._waiting))
        error = asked.exception()
        if not future.done():
            found = error or asked.result()
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)
        self._go_on()

    def _ask(self, function: Callable[[A], P], value: A) -> P | Exception:
        """What the process gives for it, or why it does not. Called in the thread.

        Nothing is raised: the error would hold this frame, and with it the value.
        """
        for _ in range(2):
            try:
                # It may have ended for want of work, or under the body before.
                connection = self._socket or self._start()
            except OSError as error:
                # There are too many files or processes, or too little memory.
                return Unavailable(f"the process for large bodies does not start: {error.strerror}")
            if self._is_closed:
                return ShuttingDown("the service is stopping")
            try:
                send(connection, (function, value))
                found: P | Exception = receive(connection)
            except TimeoutError:
                self._end()
                text = f"the process for large bodies did nothing for {HANG_S:g} s"
                logger.error("%s: it is replaced", text)
                return Unavailable(text)
            except OSError:
                self._end()
            else:
                return found
        return Unavailable("the process for large bodies has ended, twice")

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        ours.settimeout(HANG_S)
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "app.service.large_bodies_process", str(number)]
            try:
                self._process = subprocess.Popen(command, pass_fds=[number], cwd=ROOT)
            except OSError:
                ours.close()
                raise
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
    # A map's memory goes back with it. That of the heap would stay: this thread has a heap of its
    # own, whose end glibc keeps as long as it is shorter than `heap` says.
    memory = mmap.mmap(-1, size, flags=MAP) if size > LARGE_BYTES else bytearray(size)
    view, end = memoryview(memory), 0
    while end < size:
        count = connection.recv_into(view[end:])
        if not count:
            raise ConnectionResetError("the other end has gone")
        end += count
    return view
