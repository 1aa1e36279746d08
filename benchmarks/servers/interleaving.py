"""Measures servers in interleaved rounds, A B C A B C: the machine's drift hits all alike."""

import os
import resource
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.load import wrk
from benchmarks.load.workloads import Workload
from benchmarks.model_files import BenchModel
from benchmarks.models.expected_answers import expected
from benchmarks.processes.process import busy_core_seconds
from benchmarks.progress import say
from benchmarks.servers.check import check
from benchmarks.servers.kinds import ServerKind
from benchmarks.servers.server import Server, serve

WARM_UP_S = 1.0
# Who measures should know when others take so much of the cores.
MUCH = 0.05


@dataclass(frozen=True)
class Cell:
    """The median of the rounds of one server, workload and number of clients.

    Attributes:
        server, workload, clients: what was measured.
        per_second: good answers a second.
        p50_ms, p99_ms: latency.
        core_s: of the server's processes, for one request.
        load_core_s: of the load generator, for one request.
        others: part of the cores that other processes and the hypervisor took.
        errors: in all rounds.
        rounds: answers a second of each round.
    """

    server: str
    workload: str
    clients: int
    per_second: float
    p50_ms: float
    p99_ms: float
    core_s: float
    load_core_s: float
    others: float
    errors: int
    rounds: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@contextmanager
def running(
    kinds: Sequence[ServerKind], model: BenchModel, workloads: Sequence[Workload]
) -> Iterator[list[Server]]:
    """All servers started, checked, and paused.

    Raises:
        ServerFailed: one does not start, or answers wrong.
    """
    answers = expected(model)
    with ExitStack() as stack:
        servers = []
        for kind in kinds:
            say(f"starting {kind.name}")
            server = stack.enter_context(serve(kind, model))
            for workload in workloads:
                check(server, workload, answers)
            server.process.pause()
            servers.append(server)
        yield servers


@contextmanager
def awake(server: Server) -> Iterator[None]:
    """Lets a paused server run; all others cost nothing meanwhile."""
    server.process.resume()
    try:
        yield
    finally:
        server.process.pause()


def check_together(
    servers: Sequence[Server], model: BenchModel, workloads: Sequence[Workload]
) -> None:
    """Whether they answer many callers at once as they answer one.

    Raises:
        ServerFailed: one does not.
    """
    answers = expected(model)
    for server in servers:
        with awake(server):
            for workload in workloads:
                check(server, workload, answers, together=True)


@dataclass(frozen=True)
class Round:
    """One measurement of a cell.

    Attributes:
        load: what the load generator saw.
        core_s: of the server, for one request.
        load_core_s: of the load generator, for one request.
        others: part of the machine's cores that neither of them took, nor was idle.
    """

    load: wrk.Load
    core_s: float
    load_core_s: float
    others: float


def measure(
    servers: Sequence[Server],
    workload: Workload,
    clients: int,
    rounds: int | Callable[[str], int],
    seconds: float,
) -> list[Cell]:
    """One cell a server, from rounds in turn. Each round begins with a warm-up, not counted.

    Args:
        servers: running, paused.
        workload: what to send.
        clients: connections.
        rounds: how many, for all or by a server's name.
        seconds: of a round. Who has fewer rounds has longer ones: as many seconds in all.
    """
    found: dict[str, list[Round]] = {server.kind.name: [] for server in servers}
    left = {name: rounds(name) if callable(rounds) else rounds for name in found}
    most = max(left.values(), default=0)
    for number in range(most):
        for server in servers:
            name = server.kind.name
            if number >= left[name]:
                continue
            with awake(server):
                server.load(workload, clients, WARM_UP_S)
                # Some go on computing what nobody waits for any more.
                server.rest()
                long = seconds * most / left[name]
                found[name].append(_round(server, workload, clients, long))
    return [median_cell(name, workload.name, clients, each) for name, each in found.items()]


def _round(server: Server, workload: Workload, clients: int, seconds: float) -> Round:
    def clocks() -> tuple[float, float, float]:
        return busy_core_seconds(), server.process.cpu_seconds(), _children_core_seconds()

    before = clocks()
    load = server.load(workload, clients, seconds)
    busy, used, driving = (b - a for a, b in zip(before, clocks(), strict=True))
    requests = max(1, load.requests)
    others = max(0.0, busy - used - driving) / (load.duration_s * (os.cpu_count() or 1))
    return Round(load, used / requests, driving / requests, others)


def _children_core_seconds() -> float:
    """Of the processes that this one has waited for: the load generator."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def median_cell(server: str, workload: str, clients: int, rounds: Sequence[Round]) -> Cell:
    """The medians of rounds."""

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    cell = Cell(
        server=server,
        workload=workload,
        clients=clients,
        per_second=median(lambda r: r.load.per_second),
        p50_ms=median(lambda r: r.load.p50_ms),
        p99_ms=median(lambda r: r.load.p99_ms),
        core_s=median(lambda r: r.core_s),
        load_core_s=median(lambda r: r.load_core_s),
        others=median(lambda r: r.others),
        errors=sum(r.load.errors for r in rounds),
        rounds=tuple(r.load.per_second for r in rounds),
    )
    noise = f"  OTHERS TOOK {cell.others:.0%}" if cell.others > MUCH else ""
    say(
        f"{workload:7} {clients:4} clients  {server:29} {cell.per_second:8.0f}/s"
        f"  p50 {cell.p50_ms:8.2f} ms  p99 {cell.p99_ms:8.2f} ms"
        f"  {1e6 * cell.core_s:7.0f} core-us"
        + (f"  {cell.errors} ERRORS" if cell.errors else "")
        + noise
    )
    return cell
