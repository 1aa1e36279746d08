"""Who gets which connection: the worker that has fewest, of those that can answer."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.stats.shared_stats import Living
from app.workers.dispatcher import BURST_S, PATIENCE_S, Dealer, WorkerLoop, _path
from tests.app.engine.running import until


class FakeBoard:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.workers: dict[int, Living] = {}

    def living(self) -> list[Living]:
        return list(self.workers.values())

    def put(self, pid: int, ready: bool = True, closed: int = 0) -> None:
        self.workers[pid] = Living(pid, ready, closed)


class FakeWorker:
    """Takes what is dealt to it."""

    def __init__(self, home: Path, pid: int) -> None:
        self.path = _path(home, pid)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(20)

    def take(self) -> socket.socket:
        _, (number,), *_ = socket.recv_fds(self.socket, 1, 1)
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


class Table:
    """A dealer at work, and what is around it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.board = FakeBoard()
        self.workers: dict[int, FakeWorker] = {}
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.dealer = Dealer(listener, 100, home, self.board)  # type: ignore[arg-type]
        self.dealer.start()
        self.callers: list[socket.socket] = []

    def add(self, pid: int, ready: bool = True) -> FakeWorker:
        self.workers[pid] = FakeWorker(self.home, pid)
        self.board.put(pid, ready)
        return self.workers[pid]

    def call(self, count: int = 1) -> None:
        for _ in range(count):
            self.callers.append(socket.create_connection(self.address, timeout=20))

    def dealt(self) -> int:
        return sum(self.dealer._dealt.values())

    def wait_for(self, count: int) -> None:
        """Until so many have been dealt in all."""

        async def wait() -> None:
            await until(lambda: self.dealt() >= count)

        asyncio.run(wait())

    def close(self) -> None:
        if self.dealer.is_alive():
            self.dealer.stop()
            self.dealer.join(20)
        self.dealer._sender.close()
        for worker in self.workers.values():
            worker.die()
        for caller in self.callers:
            caller.close()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    table = Table(tmp_path)
    yield table
    table.close()


def test_each_gets_as_many(table: Table) -> None:
    workers = [table.add(pid) for pid in (1, 2, 3)]
    table.call(9)
    table.wait_for(9)
    assert [worker.count() for worker in workers] == [3, 3, 3]


def test_who_has_lost_some_gets_more(table: Table) -> None:
    first, second = table.add(1), table.add(2)
    table.call(8)
    table.wait_for(8)
    assert [first.count(), second.count()] == [4, 4]
    table.board.put(1, closed=3)
    for dealt in (9, 10, 11):
        # Each by itself: those of a burst are spread evenly.
        time.sleep(1.5 * BURST_S)
        table.call(1)
        table.wait_for(dealt)
    assert [first.count(), second.count()] == [3, 0]
    time.sleep(1.5 * BURST_S)
    table.call(2)
    table.wait_for(13)
    assert [first.count(), second.count()] == [1, 1]


def test_a_burst_is_spread_evenly_though_one_has_seen_its_own_go_and_the_other_not(
    table: Table,
) -> None:
    first, second = table.add(1), table.add(2)
    table.call(8)
    table.wait_for(8)
    assert [first.count(), second.count()] == [4, 4]
    table.board.put(1, closed=4)
    time.sleep(1.5 * BURST_S)
    table.call(8)
    table.wait_for(16)
    assert [first.count(), second.count()] == [4, 4]


def test_a_newcomer_gets_its_share_of_a_burst_and_not_what_others_had_before(table: Table) -> None:
    first, second = table.add(1), table.add(2, ready=False)
    table.call(6)
    table.wait_for(6)
    assert [first.count(), second.count()] == [6, 0]
    # The callers of before have gone.
    table.board.put(1, closed=6)
    table.board.put(2)
    table.call(6)
    table.wait_for(12)
    assert [first.count(), second.count()] == [3, 3]


def test_a_burst_ends_though_connections_never_do(table: Table) -> None:
    workers = [table.add(1), table.add(2)]
    began, dealt = time.monotonic(), 0
    while time.monotonic() < began + 3 * BURST_S:
        table.call()
        dealt += 1
        table.wait_for(dealt)
        assert sum(worker.count() for worker in workers) == 1
        time.sleep(BURST_S / 20)
    assert sum(table.dealer._burst.values()) < dealt


def test_who_is_not_ready_gets_none_while_another_is(table: Table) -> None:
    ready, loading = table.add(1), table.add(2, ready=False)
    table.call(4)
    table.wait_for(4)
    assert [ready.count(), loading.count()] == [4, 0]


def test_while_nobody_is_ready_somebody_says_so(table: Table) -> None:
    workers = [table.add(pid, ready=False) for pid in (1, 2)]
    table.call(4)
    table.wait_for(4)
    assert [worker.count() for worker in workers] == [2, 2]


def test_a_worker_that_is_dead_is_passed_over(table: Table) -> None:
    """It stands on the board for a moment after its end."""
    dead, alive = table.add(1), table.add(2)
    dead.die()
    table.call(4)
    table.wait_for(4)
    assert alive.count() == 4


def test_one_that_hangs_holds_up_one_connection_and_gets_some_again_when_it_goes_on(
    table: Table,
) -> None:
    hanging, other = table.add(1), table.add(2)
    held = 1 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    began = time.monotonic()
    for dealt in range(1, 3 * held + 1):
        table.call()
        table.wait_for(dealt)
        other.count()
    assert hanging.count() == held
    assert time.monotonic() < began + PATIENCE_S * held / 2
    table.call(held)
    table.wait_for(4 * held)
    assert hanging.count() > 0


def test_waiting_for_one_that_hangs_takes_no_processor(table: Table) -> None:
    hanging = table.add(1)
    table.call(2 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()))
    began = time.process_time()
    time.sleep(5 * PATIENCE_S)
    assert time.process_time() < began + 2 * PATIENCE_S
    hanging.take().close()
    table.wait_for(len(table.callers))


def test_callers_wait_until_somebody_is_there(table: Table) -> None:
    table.call(3)
    table.board.put(1)  # on the board, and without a socket yet
    worker = table.add(2)
    table.wait_for(3)
    assert worker.count() == 3


def test_a_successor_begins_with_none(table: Table) -> None:
    first, second = table.add(1), table.add(2)
    table.call(6)
    table.wait_for(6)
    assert [first.count(), second.count()] == [3, 3]
    first.die()
    del table.board.workers[1]
    third = table.add(3)
    for _ in range(3):
        # Each by itself: those of a burst are spread evenly.
        table.call()
        third.take().close()
        time.sleep(1.5 * BURST_S)
    assert second.count() == 0


def test_the_connection_is_the_callers_own(table: Table) -> None:
    worker = table.add(1)
    table.call()
    with worker.take() as connection:
        connection.sendall(b"hello")
        assert table.callers[0].recv(5) == b"hello"
        assert connection.getpeername() == table.callers[0].getsockname()
    # Nobody else holds it: the caller sees the end.
    assert table.callers[0].recv(1) == b""


@pytest.mark.parametrize("held", [0, 1])
def test_after_a_stop_callers_are_refused(table: Table, held: int) -> None:
    """Though one was still waiting for a worker."""
    table.call(held)
    table.dealer.stop()
    table.dealer.join(20)
    assert not table.dealer.is_alive()
    with pytest.raises(OSError, match="refused"):
        table.call()


# The worker's side.


class Greeter(asyncio.Protocol):
    def __init__(self, greeted: list[asyncio.BaseTransport]) -> None:
        self._greeted = greeted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._greeted.append(transport)
        transport.write(b"hello")  # type: ignore[attr-defined]


def with_receiver(home: Path, check: Callable[..., object]) -> None:
    """Runs `check(loop, receiver, deal, greeted)` on a worker's loop."""
    loop = WorkerLoop(home, 1)
    greeted: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        sender = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

        def deal() -> socket.socket:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ours = stack.enter_context(socket.create_connection(listener.getsockname()))
                theirs, _ = listener.accept()
            with theirs:
                sender.connect(str(_path(home, 1)))
                socket.send_fds(sender, [b"c"], [theirs.fileno()])
            return ours

        async def run() -> None:
            receiver = await loop.create_server(lambda: Greeter(greeted))
            try:
                await check(receiver, deal, greeted)  # type: ignore[misc]
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


def test_what_is_dealt_is_served(tmp_path: Path) -> None:
    async def check(receiver: object, deal: Callable[[], socket.socket], greeted: list) -> None:
        callers = [deal() for _ in range(5)]
        await until(lambda: len(greeted) == 5)
        await asyncio.sleep(0)
        assert [caller.recv(5) for caller in callers] == [b"hello"] * 5

    with_receiver(tmp_path, check)


def test_what_was_dealt_before_a_close_is_served_and_nothing_after(tmp_path: Path) -> None:
    async def check(receiver: object, deal: Callable[[], socket.socket], greeted: list) -> None:
        caller = deal()
        receiver.close()  # type: ignore[attr-defined]
        receiver.close()  # type: ignore[attr-defined]
        await until(lambda: len(greeted) == 1)
        await asyncio.sleep(0)
        assert caller.recv(5) == b"hello"
        with pytest.raises(OSError, match="No such file"):
            deal()

    with_receiver(tmp_path, check)
