"""Every server of the benchmark: how it is started, and how it is configured, in a line."""

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.environment import peers_python
from benchmarks.places import BUILD, BenchModel
from benchmarks.processes import Process, ServerFailed, free_port

START_TIMEOUT_S = 120.0
PROBE = b'{"sequences":[[[0,0,0,0,0,0,0,0]]]}'
UNROLL = "unroll"
STRONGEST = "fastapi_onnxruntime"


@dataclass(frozen=True)
class ServerKind:
    """A server that can be started.

    Attributes:
        name: of its row in the tables.
        module: run with `python -m`.
        about: how it is configured.
        peer: whether it runs in the peers' environment.
        environment: its settings.
    """

    name: str
    module: str
    about: str
    peer: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """Program and arguments."""
        python = str(peers_python()) if self.peer else sys.executable
        return [python, "-m", self.module]

    def settings(self, model: BenchModel, port: int) -> dict[str, str]:
        """Its environment."""
        if self.peer:
            given = {"BENCH_UNITS": str(model.units), "BENCH_PORT": str(port)}
        else:
            given = {
                "UNROLL_MODELS_DIR": str(model.models_dir),
                "UNROLL_MODEL": model.name,
                "UNROLL_PORT": str(port),
            }
        return {**given, **self.environment}


KINDS = {
    kind.name: kind
    for kind in (
        ServerKind("unroll", "app", "all defaults", peer=False),
        ServerKind(
            "unroll_tensorflow",
            "app",
            "UNROLL_RUNNER=tensorflow, else all defaults",
            peer=False,
            environment={"UNROLL_RUNNER": "tensorflow"},
        ),
        ServerKind(
            "fastapi_onnxruntime",
            "benchmarks.peers.fastapi_onnxruntime",
            "one process, padded dynamic batching",
        ),
        ServerKind("fastapi_keras", "benchmarks.peers.fastapi_keras", "no batching"),
        ServerKind("bentoml", "benchmarks.peers.bentoml_server", "adaptive batching"),
        ServerKind("litserve", "benchmarks.peers.litserve_server", "batches of 64"),
        ServerKind("ray_serve", "benchmarks.peers.ray_serve", "@serve.batch"),
    )
}


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

    def answer(self, body: bytes, timeout_s: float = 60.0) -> bytes:
        """The answer to one request.

        Raises:
            OSError: no answer, or not a good one.
        """
        request = urllib.request.Request(
            self.url, body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer: bytes = response.read()
            return answer

    def wait(self) -> None:
        """Until it answers.

        Raises:
            ServerFailed: it ended, or takes too long.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.ended:
                raise ServerFailed(f"{self.kind.name} ended at once: see {self.process.log}")
            try:
                self.answer(PROBE, timeout_s=10.0)
                return
            except OSError:
                time.sleep(0.2)
        raise ServerFailed(f"{self.kind.name} is not ready: see {self.process.log}")


@contextmanager
def serve(
    kind: ServerKind, model: BenchModel, extra: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Starts a server, waits until it answers, and ends it with all of its processes.

    Raises:
        ServerFailed: it does not start.
    """
    port = free_port()
    log = BUILD / "logs" / f"{kind.name}-{model.units}.log"
    settings = {**kind.settings(model, port), **(extra or {})}
    process = Process(kind.command(), settings, log)
    try:
        server = Server(kind, process, port)
        server.wait()
        yield server
    finally:
        process.stop()
