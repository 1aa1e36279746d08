"""Every server of the benchmark: how it is started, and how it is configured, in a line."""

import os
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


BUCKETS = {"BENCH_MAX_BATCH": "64", "BENCH_BUCKET": "0.7"}
ONE_THREAD = {"BENCH_THREADS": "1"}
# Where batches are computed by Keras, whose calls are slow, a longer wait fills them better.
LITSERVE = {**ONE_THREAD, "BENCH_WORKERS": "2", "BENCH_WAIT_S": "0.01"}
RAY = {
    **ONE_THREAD,
    "BENCH_WORKERS": "2",
    "BENCH_WAIT_S": "0.001",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
}
BENTOML = {**ONE_THREAD, "BENCH_WORKERS": "2"}
ONNXRUNTIME = {"BENCH_KERNEL": "onnxruntime"}
BARE = ServerKind("http_json_alone", "benchmarks.bare", "Unroll without a kernel", peer=False)


def _peer(name: str, module: str, about: str, environment: Mapping[str, str]) -> ServerKind:
    return ServerKind(name, f"benchmarks.peers.{module}", about, environment=environment)


KINDS = {
    kind.name: kind
    for kind in (
        ServerKind(UNROLL, "app", "all defaults", peer=False),
        ServerKind(
            "unroll_tensorflow",
            "app",
            "UNROLL_RUNNER=tensorflow, else all defaults",
            peer=False,
            environment={"UNROLL_RUNNER": "tensorflow"},
        ),
        _peer(
            STRONGEST,
            "fastapi_onnxruntime",
            "FastAPI route from Request to bytes, orjson, uvloop, httptools, one process; ONNX "
            "Runtime's LSTM on batches padded to the longest: 32 sequences at most, computed at "
            "once when a worker is free, two workers of one thread (the best of the sweep)",
            {},
        ),
        _peer(
            "fastapi_onnxruntime_buckets",
            "fastapi_onnxruntime",
            "the same, but a batch of up to 64 is sorted by length and cut into groups, each padded "
            "to its own longest, which is at most 1/0.7 of the next shorter",
            BUCKETS,
        ),
        _peer(
            "fastapi_keras",
            "fastapi_keras",
            "FastAPI, pydantic models, plain def route in its pool of threads; SavedModel of "
            "keras.layers.LSTM, no batching, TensorFlow with one thread a call (faster than its "
            "default of all cores)",
            ONE_THREAD,
        ),
        _peer(
            "bentoml",
            "bentoml_server",
            "adaptive batching (batchable API, 64 at most) in a service of 2 workers behind one of "
            "1 worker, as its documentation does for requests of several fields; no access log, no "
            "metrics; Keras SavedModel, one thread a call",
            BENTOML,
        ),
        _peer(
            "litserve",
            "litserve_server",
            "max_batch_size 64, batch_timeout 10 ms, 2 workers, fast_queue (ZeroMQ); Keras "
            "SavedModel, one thread a call",
            LITSERVE,
        ),
        _peer(
            "ray_serve",
            "ray_serve",
            "@serve.batch of 64, wait 1 ms, 2 batches at a time in threads of 1 replica, HAProxy "
            "and RAY_SERVE_THROUGHPUT_OPTIMIZED; Keras SavedModel, one thread a call",
            RAY,
        ),
        _peer(
            "bentoml_onnxruntime",
            "bentoml_server",
            "as bentoml, with ONNX Runtime as the kernel",
            {**BENTOML, **ONNXRUNTIME},
        ),
        _peer(
            "litserve_onnxruntime",
            "litserve_server",
            "as litserve, with ONNX Runtime as the kernel, 1 worker and 1 ms",
            {**ONE_THREAD, **ONNXRUNTIME},
        ),
        _peer(
            "ray_serve_onnxruntime",
            "ray_serve",
            "as ray_serve, with ONNX Runtime as the kernel",
            {**RAY, **ONNXRUNTIME},
        ),
    )
}


def available_cores() -> int:
    """Cores that the servers may use."""
    return len(os.sched_getaffinity(0))


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
