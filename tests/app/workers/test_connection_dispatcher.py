"""Which worker gets a connection: the one that has fewest, of those that can answer."""

import asyncio
import errno
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.stats.shared_stats import LivingWorker
from app.workers import connection_dispatcher, connection_receiver
from app.workers.connection_dispatcher import (
    BURST_S,
    HANDOVER_TIMEOUT_S,
    Dispatcher,
)
from app.workers.connection_receiver import (
    Acceptor,
    ConnectionLoop,
    MakeProtocol,
    Receiver,
    accept,
    socket_path,
)
from tests.app.engine.running import until


class FakeStats:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.workers: dict[int, LivingWorker] = {}
        self.takers: dict[int, FakeWorker] = {}

    def taken(self, pid: int) -> int:
        return self.takers[pid].taken if pid in self.takers else 0

    def living(self) -> list[LivingWorker]:
        return list(self.workers.values())

    def put(self, pid: int, ready: bool = True, closed: int = 0) -> None:
        self.workers[pid] = LivingWorker(pid, ready, closed)


class FakeWorker:
    """Takes what is dispatched to it."""

    def __init__(self, home: Path, pid: int) -> None:
        self.taken = 0
        self.path = socket_path(home, pid)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(20)

    def take(self) -> socket.socket:
        _, (number,), *_ = socket.recv_fds(self.socket, 1, 1)
        self.taken += 1
        return socket.socket(fileno=number)

    def count(self) -> int:
        """Connections that wait for it now."""
        self.socket.setblocking(False)
        found = 0
        try:
            while True:
                self.take().close()
                found += 1
        except BlockingIOError:
            self.socket.settimeout(20)
            return found

    def die(self) -> None:
        self.socket.close()


class Service:
    """A dispatcher at work, and what is around it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stats = FakeStats()
        self.workers: dict[int, FakeWorker] = {}
        self.stats.takers = self.workers
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.dispatcher = Dispatcher(listener, 100, home, self.stats)  # type: ignore[arg-type]
        self.dispatcher.start()
        self.callers: list[socket.socket] = []

    def add(self, pid: int, ready: bool = True) -> FakeWorker:
        self.workers[pid] = FakeWorker(self.home, pid)
        self.stats.put(pid, ready)
        return self.workers[pid]

    def call(self, count: int = 1) -> None:
        for _ in range(count):
            self.callers.append(socket.create_connection(self.address, timeout=20))

    def given(self) -> int:
        return sum(self.dispatcher._given.values())

    def wait_for(self, count: int) -> None:
        """Until so many have been dispatched in all."""

        async def wait() -> None:
            await until(lambda: self.given() >= count)

        asyncio.run(wait())

    def close(self) -> None:
        for worker in self.workers.values():
            # Else the dispatcher would wait until they are taken.
            with suppress(OSError):
                worker.count()
        if self.dispatcher.is_alive():
            self.dispatcher.stop()
            self.dispatcher.join(20)
        self.dispatcher._sender.close()
        for worker in self.workers.values():
            worker.die()
        for caller in self.callers:
            caller.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


def test_each_gets_as_many(service: Service) -> None:
    workers = [service.add(pid) for pid in (1, 2, 3)]
    service.call(9)
    service.wait_for(9)
    assert [worker.count() for worker in workers] == [3, 3, 3]


@pytest.mark.long
def test_who_has_lost_some_gets_more(service: Service) -> None:
    first, second = service.add(1), service.add(2)
    service.call(8)
    service.wait_for(8)
    assert [first.count(), second.count()] == [4, 4]
    service.stats.put(1, closed=3)
    for given in (9, 10, 11):
        # Each by itself: those of a burst are spread evenly.
        time.sleep(1.5 * BURST_S)
        service.call(1)
        service.wait_for(given)
    assert [first.count(), second.count()] == [3, 0]
    time.sleep(1.5 * BURST_S)
    service.call(2)
    service.wait_for(13)
    assert [first.count(), second.count()] == [1, 1]


def test_a_burst_is_spread_evenly_though_one_has_seen_its_own_go_and_the_other_not(
    service: Service,
) -> None:
    first, second = service.add(1), service.add(2)
    service.call(8)
    service.wait_for(8)
    assert [first.count(), second.count()] == [4, 4]
    service.stats.put(1, closed=4)
    time.sleep(1.5 * BURST_S)
    service.call(8)
    service.wait_for(16)
    assert [first.count(), second.count()] == [4, 4]


def test_a_newcomer_gets_its_share_of_a_burst_and_not_what_others_had_before(
    service: Service,
) -> None:
    first, second = service.add(1), service.add(2, ready=False)
    service.call(6)
    service.wait_for(6)
    assert [first.count(), second.count()] == [6, 0]
    # The callers of before have gone.
    service.stats.put(1, closed=6)
    service.stats.put(2)
    service.call(6)
    service.wait_for(12)
    assert [first.count(), second.count()] == [3, 3]


def test_a_burst_ends_though_connections_never_do(service: Service) -> None:
    workers = [service.add(1), service.add(2)]
    began, given = time.monotonic(), 0
    while time.monotonic() < began + 3 * BURST_S:
        service.call()
        given += 1
        service.wait_for(given)
        assert sum(worker.count() for worker in workers) == 1
        time.sleep(BURST_S / 20)
    assert sum(service.dispatcher._burst.values()) < given


def test_who_is_not_ready_gets_none_while_another_is(service: Service) -> None:
    ready, loading = service.add(1), service.add(2, ready=False)
    service.call(4)
    service.wait_for(4)
    assert [ready.count(), loading.count()] == [4, 0]


def test_while_nobody_is_ready_somebody_says_so(service: Service) -> None:
    workers = [service.add(pid, ready=False) for pid in (1, 2)]
    service.call(4)
    service.wait_for(4)
    assert [worker.count() for worker in workers] == [2, 2]


def test_a_worker_that_is_dead_is_passed_over(service: Service) -> None:
    """The stats name it for a moment after its end."""
    dead, alive = service.add(1), service.add(2)
    dead.die()
    service.call(4)
    service.wait_for(4)
    assert alive.count() == 4


def test_one_that_hangs_holds_up_one_connection_and_gets_some_again_when_it_goes_on(
    service: Service,
) -> None:
    hanging, other = service.add(1), service.add(2)
    held = 1 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    began = time.monotonic()
    for given in range(1, 3 * held + 1):
        service.call()
        service.wait_for(given)
        other.count()
    assert hanging.count() == held
    assert time.monotonic() < began + HANDOVER_TIMEOUT_S * held / 2
    service.call(held)
    service.wait_for(4 * held)
    assert hanging.count() > 0


def test_waiting_for_one_that_hangs_takes_no_processor(service: Service) -> None:
    hanging = service.add(1)
    service.call(2 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()))
    began = time.process_time()
    time.sleep(5 * HANDOVER_TIMEOUT_S)
    assert time.process_time() < began + 2 * HANDOVER_TIMEOUT_S
    hanging.take().close()
    service.wait_for(len(service.callers))


def test_callers_wait_until_somebody_is_there(service: Service) -> None:
    service.call(3)
    service.stats.put(1)  # in the stats, and without a socket yet
    worker = service.add(2)
    service.wait_for(3)
    assert worker.count() == 3


def test_a_successor_begins_with_none(service: Service) -> None:
    first, second = service.add(1), service.add(2)
    service.call(6)
    service.wait_for(6)
    assert [first.count(), second.count()] == [3, 3]
    first.die()
    del service.stats.workers[1]
    third = service.add(3)
    for _ in range(3):
        # Each by itself: those of a burst are spread evenly.
        service.call()
        third.take().close()
        time.sleep(1.5 * BURST_S)
    assert second.count() == 0


def test_the_connection_is_the_callers_own(service: Service) -> None:
    worker = service.add(1)
    service.call()
    with worker.take() as connection:
        connection.sendall(b"hello")
        assert service.callers[0].recv(5) == b"hello"
        assert connection.getpeername() == service.callers[0].getsockname()
    # Nobody else holds it: the caller sees the end.
    assert service.callers[0].recv(1) == b""


def test_what_a_worker_had_not_taken_when_it_died_goes_to_another(service: Service) -> None:
    """It was killed while connections waited for it."""
    first, second = service.add(1), service.add(2)
    service.call(6)
    service.wait_for(6)
    first.take().close()
    first.die()
    service.wait_for(8)
    assert second.count() == 3 + 2


def test_a_stop_hands_over_whoever_waits_in_the_kernels_queue(service: Service) -> None:
    """Else they would be reset."""
    service.call(5)
    worker, taken = service.add(1), []

    def take() -> None:
        for _ in range(5):
            taken.append(worker.take())
            taken[-1].close()

    taking = threading.Thread(target=take)
    taking.start()
    service.dispatcher.stop()
    taking.join(20)
    assert len(taken) == 5


@pytest.mark.long
@pytest.mark.parametrize("held", [0, 1])
def test_after_a_stop_callers_are_refused(service: Service, held: int) -> None:
    """Though one was still waiting for a worker."""
    service.call(held)
    service.dispatcher.stop()
    service.dispatcher.join(20)
    assert not service.dispatcher.is_alive()
    with pytest.raises(OSError, match="refused"):
        service.call()


class LateCaller:
    """Begins a connection when the last that waits is accepted: just before a listener closes."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self._socket = socket.socket()
        self._socket.setblocking(False)

    def accept(self, listener: socket.socket) -> socket.socket | None:
        """As `accept`."""
        connection = accept(listener)
        if connection is None:
            self._socket.connect_ex(self._address)
        return connection

    def end(self) -> int:
        """The error that its connection ends with."""
        select.select([self._socket], [], [], 20)
        with self._socket:
            error: int = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return error


@pytest.mark.long
def test_who_comes_just_before_a_stop_is_refused_and_not_reset(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateCaller(service.address)
    monkeypatch.setattr(connection_dispatcher, "accept", late.accept)
    service.dispatcher.stop()
    assert late.end() == errno.ECONNREFUSED


# The worker's side.


class CountingStats:
    def __init__(self) -> None:
        self.taken = self.lost = 0

    def count_taken(self) -> None:
        self.taken += 1

    def count_closed(self) -> None:
        self.lost += 1


class Greeter(asyncio.Protocol):
    def __init__(self, greeted: list[asyncio.BaseTransport]) -> None:
        self._greeted = greeted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._greeted.append(transport)
        transport.write(b"hello")  # type: ignore[attr-defined]


def with_receiver(
    home: Path,
    check: Callable[..., object],
    protocol: Callable[[list[asyncio.BaseTransport]], asyncio.Protocol] = Greeter,
) -> int:
    """Runs `check(receiver, dispatch, greeted)` on a worker's loop.

    Returns:
        How many connections were counted as lost.
    """
    stats = CountingStats()

    def make(loop: ConnectionLoop, listener: socket.socket, make_protocol: MakeProtocol) -> Any:
        return Receiver(socket_path(home, 1), loop, make_protocol, stats)

    loop = ConnectionLoop(make)
    greeted: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        sender = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

        def dispatch() -> socket.socket:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ours = stack.enter_context(socket.create_connection(listener.getsockname()))
                theirs, _ = listener.accept()
            with theirs:
                sender.connect(str(socket_path(home, 1)))
                socket.send_fds(sender, [b"c"], [theirs.fileno()])
            return ours

        async def run() -> None:
            with socket.socket() as none:
                receiver = await loop.create_server(lambda: protocol(greeted), sock=none)
            try:
                await check(receiver, dispatch, greeted)  # type: ignore[misc]
            finally:
                receiver.close()
                await receiver.wait_closed()
                for transport in greeted:
                    transport.close()
                await asyncio.sleep(0)

        try:
            loop.run_until_complete(run())
        finally:
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
    return stats.lost


def test_what_is_dispatched_is_served(tmp_path: Path) -> None:
    async def check(receiver: object, dispatch: Callable[[], socket.socket], greeted: list) -> None:
        callers = [dispatch() for _ in range(5)]
        await until(lambda: len(greeted) == 5)
        await asyncio.sleep(0)
        assert [caller.recv(5) for caller in callers] == [b"hello"] * 5

    assert with_receiver(tmp_path, check) == 0


def test_what_was_dispatched_before_a_close_is_served_and_nothing_after(tmp_path: Path) -> None:
    async def check(receiver: object, dispatch: Callable[[], socket.socket], greeted: list) -> None:
        caller = dispatch()
        receiver.close()  # type: ignore[attr-defined]
        receiver.close()  # type: ignore[attr-defined]
        await until(lambda: len(greeted) == 1)
        await asyncio.sleep(0)
        assert caller.recv(5) == b"hello"
        with pytest.raises(OSError, match="No such file"):
            dispatch()

    with_receiver(tmp_path, check)


@pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])
def test_who_has_left_before_it_is_served_costs_nothing(tmp_path: Path, resets: bool) -> None:
    async def check(receiver: object, dispatch: Callable[[], socket.socket], greeted: list) -> None:
        for _ in range(3):
            gone = dispatch()
            gone.sendall(b"a request")
            if resets:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
        caller = dispatch()
        await until(lambda: len(greeted) == 1)
        await asyncio.sleep(0)
        assert caller.recv(5) == b"hello"
        assert len(greeted) == 1

    assert with_receiver(tmp_path, check) == 3


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process may open no further file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_connection_that_is_lost_for_want_of_files_does_not_count_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the worker would get fewer connections than others from then on."""

    async def check(receiver: object, dispatch: Callable[[], socket.socket], greeted: list) -> None:
        callers = [dispatch(), dispatch()]
        with no_more_files():
            await until(lambda: len(caplog.records) == 2)
        assert [caller.recv(1) for caller in callers] == [b"", b""]
        # The next one is served.
        caller = dispatch()
        await until(lambda: len(greeted) == 1)
        await asyncio.sleep(0)
        assert caller.recv(5) == b"hello"

    assert with_receiver(tmp_path, check) == 2
    assert {record.getMessage() for record in caplog.records} == {
        "a connection is lost: this process has too many open files"
    }


def test_a_connection_that_gets_no_protocol_is_closed_and_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: object) -> asyncio.Protocol:
        raise MemoryError

    async def check(receiver: object, dispatch: Callable[[], socket.socket], greeted: list) -> None:
        caller = dispatch()
        await until(lambda: len(caplog.records) == 1)
        assert caller.recv(1) == b""

    assert with_receiver(tmp_path, check, fails) == 1


def test_the_task_that_serves_a_connection_is_kept_until_it_is_over(tmp_path: Path) -> None:
    """An event loop keeps none alive: the garbage collector could take it."""

    async def check(receiver: Any, dispatch: Callable[[], socket.socket], greeted: list) -> None:
        dispatch()
        receiver._receive()
        (task,) = receiver._tasks
        await until(task.done)
        await until(lambda: not receiver._tasks)
        assert len(greeted) == 1

    assert with_receiver(tmp_path, check) == 0


@pytest.mark.long
def test_who_comes_just_before_a_lone_worker_stops_is_refused_and_not_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    late = LateCaller(listener.getsockname())
    monkeypatch.setattr(connection_receiver, "accept", late.accept)

    def make(loop: ConnectionLoop, listener: socket.socket, make_protocol: MakeProtocol) -> Any:
        return Acceptor(listener, 8, False, loop, make_protocol, CountingStats())

    loop = ConnectionLoop(make)

    async def stop() -> None:
        server = await loop.create_server(asyncio.Protocol, sock=listener)
        server.close()

    loop.run_until_complete(stop())
    loop.close()
    assert late.end() == errno.ECONNREFUSED
