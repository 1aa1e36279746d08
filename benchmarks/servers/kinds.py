"""Every server of the benchmark: how it is started, and how it is configured, in a line."""

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.load.workloads import NO_WRAP, Workload, Wrap
from benchmarks.load.wrk import Load, drive
from benchmarks.models.files import BUILD, BenchModel
from benchmarks.processes.environment import peers_python
from benchmarks.processes.process import Process, ServerFailed, free_port

START_TIMEOUT_S = 120.0
# A server rests when it takes less than this part of a core for so many seconds.
RESTING, REST_S, REST_TRIES = 0.1, 0.4, 10
PROBE = b'{"sequences":[[[0,0,0,0,0,0,0,0]]]}'
UNROLL = "unroll"
STRONGEST = "fastapi_onnxruntime"


def available_cores() -> int:
    """Cores that the servers may use."""
    return len(os.sched_getaffinity(0))


# Kernels sum up in other orders: a few 1e-6 is usual, a wrong gate or mask gives 1e-2.
TOLERANCE = 1e-4
# Its rounding gives a few 1e-2 of an output, which are about 1 here.
BFLOAT16_TOLERANCE = 1e-1


@dataclass(frozen=True)
class ServerKind:
    """A server that can be started.

    Attributes:
        name: of its row in the tables.
        module: run with `python -m`.
        about: how it is configured.
        peer: whether it runs in the peers' environment.
        environment: its settings.
        wrap: what goes around the native JSON.
        tolerance: that its numbers may be off by.
    """

    name: str
    module: str
    about: str
    peer: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    wrap: Wrap = NO_WRAP
    tolerance: float = TOLERANCE

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


BUCKETS = {"BENCH_BUCKET": "0.7"}
PROCESSES = {**BUCKETS, "BENCH_PROCESSES": str(available_cores()), "BENCH_WORKERS": "1"}
ONE_THREAD = {"BENCH_THREADS": "1"}
# Where batches are computed by Keras, whose calls are slow, a longer wait fills them better.
LITSERVE = {**ONE_THREAD, "BENCH_WORKERS": "2", "BENCH_WAIT_S": "0.01"}
RAY = {
    **ONE_THREAD,
    "BENCH_REPLICAS": str(available_cores()),
    "BENCH_MAX_BATCH": "32",
    "BENCH_WAIT_S": "0.002",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
}
BENTOML = {**ONE_THREAD, "BENCH_WORKERS": "2"}
BATCH_OF_ONE = Wrap(b'{"requests":[', b"]}")
ONNXRUNTIME = {"BENCH_KERNEL": "onnxruntime"}
BARE = ServerKind(
    "http_json_alone", "benchmarks.servers.bare", "Unroll without a kernel", peer=False
)


def _peer(
    name: str, module: str, about: str, environment: Mapping[str, str], wrap: Wrap = NO_WRAP
) -> ServerKind:
    return ServerKind(name, f"benchmarks.peers.{module}", about, True, environment, wrap)


KINDS = {
    kind.name: kind
    for kind in (
        ServerKind(UNROLL, "app", "all defaults: one worker process a core", peer=False),
        ServerKind(
            "unroll_tensorflow",
            "app",
            "UNROLL_RUNNER=tensorflow, else all defaults: one worker process a core",
            peer=False,
            environment={"UNROLL_RUNNER": "tensorflow"},
        ),
        ServerKind(
            "unroll_bfloat16",
            "app",
            "UNROLL_RUNNER=bfloat16, else all defaults: products of 8 significant bits",
            peer=False,
            environment={"UNROLL_RUNNER": "bfloat16"},
            tolerance=BFLOAT16_TOLERANCE,
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
            "the same, but each batch is sorted by length and cut into groups of at least 8, "
            "whose shortest has at least 0.7 of the longest; each is padded to its own longest",
            BUCKETS,
        ),
        _peer(
            f"{STRONGEST}_processes",
            "fastapi_onnxruntime",
            f"the same with its groups, but {PROCESSES['BENCH_PROCESSES']} processes (uvicorn's "
            "workers, one per core, which share a listening socket), each with 1 worker of one "
            "thread and batches of 32 of its own",
            PROCESSES,
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
            "fastapi_keras_processes",
            "fastapi_keras",
            f"the same with {available_cores()} processes (uvicorn's workers, one per core)",
            {**ONE_THREAD, "BENCH_PROCESSES": str(available_cores())},
        ),
        _peer(
            "bentoml",
            "bentoml_server",
            "adaptive batching (batchable API, 64 at most) in 2 workers; no access log or metrics; "
            "Keras SavedModel, one thread a call; requests are sent as batches of one",
            BENTOML,
            BATCH_OF_ONE,
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
            f"{available_cores()} replicas, one per core; @serve.batch of 32 sequences, wait 2 ms; "
            "HAProxy, RAY_SERVE_THROUGHPUT_OPTIMIZED, no access log; Keras SavedModel, one thread "
            "a call",
            RAY,
        ),
        _peer(
            "bentoml_onnxruntime",
            "bentoml_server",
            "as bentoml, with ONNX Runtime as the kernel",
            {**BENTOML, **ONNXRUNTIME},
            BATCH_OF_ONE,
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
            "as ray_serve, with ONNX Runtime as the kernel and 1 ms",
            {**RAY, **ONNXRUNTIME, "BENCH_WAIT_S": "0.001"},
        ),
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
                self._probe()
                self.rest()
                return
            except OSError:
                time.sleep(0.2)
        raise ServerFailed(f"{self.kind.name} is not ready: see {self.process.log}")

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

    def rest(self) -> None:
        """Waits until the processes do next to nothing; some never rest, so not for long."""
        for _ in range(REST_TRIES):
            before = self.process.cpu_seconds()
            time.sleep(REST_S)
            if self.process.cpu_seconds() - before < RESTING * REST_S:
                return


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
