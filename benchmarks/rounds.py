"""Measures servers in interleaved rounds, A B C A B C: the machine's drift hits all alike."""

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import wrk
from benchmarks.check import check
from benchmarks.places import BenchModel
from benchmarks.reference import expected
from benchmarks.servers import Server, ServerKind, serve
from benchmarks.workloads import Workload

WARM_UP_S = 1.0


@dataclass(frozen=True)
class Cell:
    """The median of the rounds of one server, workload and number of clients.

    Attributes:
        server, workload, clients: what was measured.
        per_second: good answers a second.
        p50_ms, p99_ms: latency.
        core_s: of the server's processes, for one request.
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


def measure(
    servers: Sequence[Server], workload: Workload, clients: int, rounds: int, seconds: float
) -> list[Cell]:
    """One cell a server, from rounds in turn. Each round begins with a warm-up, not counted."""
    loads: dict[str, list[tuple[wrk.Load, float]]] = {s.kind.name: [] for s in servers}
    for _ in range(rounds):
        for server in servers:
            with awake(server):
                server.load(workload, clients, WARM_UP_S)
                before = server.process.cpu_seconds()
                load = server.load(workload, clients, seconds)
                used = server.process.cpu_seconds() - before
            loads[server.kind.name].append((load, used / max(1, load.requests)))
    return [median_cell(name, workload.name, clients, found) for name, found in loads.items()]


def median_cell(
    server: str, workload: str, clients: int, loads: Sequence[tuple[wrk.Load, float]]
) -> Cell:
    """The medians of rounds, each a load and its core-seconds a request."""
    cell = Cell(
        server=server,
        workload=workload,
        clients=clients,
        per_second=statistics.median(load.per_second for load, _ in loads),
        p50_ms=statistics.median(load.p50_ms for load, _ in loads),
        p99_ms=statistics.median(load.p99_ms for load, _ in loads),
        core_s=statistics.median(core_s for _, core_s in loads),
        errors=sum(load.errors for load, _ in loads),
        rounds=tuple(load.per_second for load, _ in loads),
    )
    say(
        f"{workload:7} {clients:4} clients  {server:22} {cell.per_second:8.0f}/s"
        f"  p50 {cell.p50_ms:8.2f} ms  p99 {cell.p99_ms:8.2f} ms"
        f"  {1e6 * cell.core_s:7.0f} core-us" + (f"  {cell.errors} ERRORS" if cell.errors else "")
    )
    return cell


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
