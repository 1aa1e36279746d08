"""A running server: starts it, waits until it answers, asks it, and ends it."""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.load.workloads import Workload
from benchmarks.load.wrk import Load, drive
from benchmarks.model_files import BenchModel
from benchmarks.paths import BUILD
from benchmarks.processes.failure_line import last_complaint
from benchmarks.processes.process import Process, free_port
from benchmarks.servers.kinds import ServerKind

START_TIMEOUT_S = 120.0
# A server rests when it takes less than this part of a core for so many seconds.
RESTING, REST_S, REST_TRIES = 0.1, 0.4, 10
PROBE = b'{"sequences":[[[0,0,0,0,0,0,0,0]]]}'
# What Unroll logs of a model that it will not serve. It does not end: it waits for another one.
REFUSED = " refused "


class ServerFailed(Exception):
    """A server did not start, ended, or answered wrong; the text names it."""


class Server:
    """A running server.

    Attributes:
        kind: what it is.
        process: all of its processes.
        port: of 127.0.0.1.
    """

    def __init__(self, kind: ServerKind, process: Process, port: int) -> None:
        self.kind = kind
        self.process = process
        self.port = port

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}/predict"

    def load(self, workload: Workload, clients: int, seconds: float) -> Load:
        """Drives it with `wrk`; see `wrk.drive`."""
        return drive(self.url, workload, clients, seconds, self.kind.wrap)

    def answer(self, body: bytes, timeout_s: float = 60.0) -> bytes:
        """The answer to one request in native JSON, in whatever its wrap makes of it.

        Raises:
            OSError: no answer, or not a good one.
        """
        request = urllib.request.Request(
            self.url, self.kind.wrap.around(body), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer: bytes = response.read()
            return answer

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until it answers.

        Raises:
            ServerFailed: it ended, refused its model, or takes longer.
        """
        deadline = time.monotonic() + timeout_s
        log = self.process.log
        while time.monotonic() < deadline:
            if self.process.ended:
                raise ServerFailed(f"{self.kind.name} ended, see {log}: {last_complaint(log)}")
            try:
                self._probe()
                self.rest()
                return
            except OSError:
                if self._refused():
                    break
                time.sleep(0.2)
        raise ServerFailed(f"{self.kind.name} is not ready, see {log}: {last_complaint(log)}")

    def _probe(self) -> None:
        """Succeeds once every process answers.

        Unroll says so itself. A peer's processes start together: once one answers and none
        computes any more (`rest`), all do.
        """
        if self.kind.peer:
            self.answer(PROBE, timeout_s=10.0)
        else:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10.0):
                self.answer(PROBE, timeout_s=10.0)

    def _refused(self) -> bool:
        lines = self.process.log.read_text(errors="replace").splitlines()
        return not self.kind.peer and any(" ERROR " in line and REFUSED in line for line in lines)

    def rest(self) -> None:
        """Waits until the processes do next to nothing; some never rest, so not for long."""
        for _ in range(REST_TRIES):
            before = self.process.cpu_seconds()
            time.sleep(REST_S)
            if self.process.cpu_seconds() - before < RESTING * REST_S:
                return


@contextmanager
def serve(
    kind: ServerKind, model: BenchModel, timeout_s: float = START_TIMEOUT_S
) -> Iterator[Server]:
    """Starts a server, waits until it answers, and ends it with all of its processes.

    Raises:
        ServerFailed: it does not start; the text has what its log complains of.
    """
    port = free_port()
    log = BUILD / "logs" / f"{kind.name}-{model.units}.log"
    process = Process(kind.command(), kind.settings(model, port), log)
    try:
        server = Server(kind, process, port)
        server.wait(timeout_s)
        yield server
    finally:
        process.stop()
