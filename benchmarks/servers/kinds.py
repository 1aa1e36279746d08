"""Every server of the benchmark: how it is started, and how it is configured, in a line."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.load.workloads import NO_WRAP, Wrap
from benchmarks.model_files import BenchModel
from benchmarks.processes.peers_venv import peers_python
from benchmarks.processes.process import available_cores

UNROLL = "unroll"
FASTAPI = "fastapi_onnxruntime"
FASTAPI_BUCKETS = f"{FASTAPI}_buckets"
FASTAPI_PROCESSES = f"{FASTAPI}_processes"
FASTAPI_THREADS = f"{FASTAPI}_threads"
GRANIAN = "granian_onnxruntime"
ONE_THREAD_ALONE = "unroll_one_thread"
KERAS, KERAS_PROCESSES = "fastapi_keras", "fastapi_keras_processes"

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


def unroll(
    name: str, about: str, environment: Mapping[str, str], tolerance: float = TOLERANCE
) -> ServerKind:
    """Unroll with these settings, else all defaults."""
    return ServerKind(name, "app", about, False, environment, tolerance=tolerance)


def _peer(
    name: str, module: str, about: str, environment: Mapping[str, str], wrap: Wrap = NO_WRAP
) -> ServerKind:
    return ServerKind(name, f"benchmarks.peers.{module}", about, True, environment, wrap)


CORES = str(available_cores())
BY_LENGTH = {"BENCH_BUCKET": "0.7"}
ONE_THREAD = {"BENCH_THREADS": "1"}
# Where batches are computed by Keras, whose calls are slow, a longer wait fills them better.
LITSERVE = {**ONE_THREAD, "BENCH_WORKERS": "2", "BENCH_WAIT_S": "0.01"}
RAY = {
    **ONE_THREAD,
    "BENCH_REPLICAS": CORES,
    "BENCH_WAIT_S": "0.002",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
}
BATCH_OF_ONE = Wrap(b'{"requests":[', b"]}")
ONNXRUNTIME = {"BENCH_KERNEL": "onnxruntime"}
WITHOUT_KERNEL = ServerKind(
    "http_json_alone", "benchmarks.servers.without_kernel", "Unroll without a kernel", peer=False
)

UNROLLS = (
    unroll(UNROLL, "all defaults: one worker process a core", {}),
    unroll(
        "unroll_tensorflow",
        "UNROLL_RUNNER=tensorflow, else all defaults: one worker process a core",
        {"UNROLL_RUNNER": "tensorflow"},
    ),
    unroll(
        "unroll_bfloat16",
        "UNROLL_RUNNER=bfloat16, else all defaults: products of 8 significant bits",
        {"UNROLL_RUNNER": "bfloat16"},
        BFLOAT16_TOLERANCE,
    ),
)
# In the section `alone`.
FOR_LONE_CALLERS = (
    ServerKind(
        ONE_THREAD_ALONE,
        "benchmarks.servers.one_thread",
        "Unroll where idle cores compute nothing",
        peer=False,
    ),
    _peer(
        FASTAPI_THREADS,
        "fastapi_onnxruntime",
        f"as {FASTAPI}, but one worker, in whose calls are two threads",
        {"BENCH_WORKERS": "1", "BENCH_THREADS": "2"},
    ),
)
WITH_ONNXRUNTIME = (
    _peer(
        FASTAPI,
        "fastapi_onnxruntime",
        "FastAPI route from Request to bytes, orjson, uvloop, httptools, one process; ONNX "
        "Runtime's LSTM on batches padded to the longest: 32 sequences at most, computed at "
        "once when a worker is free, two workers of one thread (the best of 14 settings)",
        {},
    ),
    _peer(
        FASTAPI_BUCKETS,
        "fastapi_onnxruntime",
        "the same, but each batch is sorted by length and cut into groups of at least 8, "
        "whose shortest has at least 0.7 of the longest; each is padded to its own longest",
        BY_LENGTH,
    ),
    _peer(
        FASTAPI_PROCESSES,
        "fastapi_onnxruntime",
        f"the same with its groups, but {CORES} processes (uvicorn's workers, one per core, which "
        "share a listening socket), each with 1 worker of one thread and batches of 32 of its own",
        {**BY_LENGTH, "BENCH_PROCESSES": CORES, "BENCH_WORKERS": "1"},
    ),
    _peer(
        GRANIAN,
        "granian_onnxruntime",
        f"granian with RSGI, HTTP/1.1 and uvloop, {CORES} workers (processes, one per core), "
        "orjson; each batches on its event loop, and computes there: at most 16 sequences, those "
        "nearest in length to the oldest, padded to the longest; ONNX Runtime's LSTM, one thread",
        {"BENCH_PROCESSES": CORES},
    ),
)
FRAMEWORKS = (
    _peer(
        KERAS,
        "fastapi_keras",
        "FastAPI, pydantic models, plain def route in its pool of threads; SavedModel of "
        "keras.layers.LSTM, no batching, TensorFlow with one thread a call (faster than its "
        "default of all cores)",
        ONE_THREAD,
    ),
    _peer(
        KERAS_PROCESSES,
        "fastapi_keras",
        f"the same with {CORES} processes (uvicorn's workers, one per core)",
        {**ONE_THREAD, "BENCH_PROCESSES": CORES},
    ),
    _peer(
        "bentoml",
        "bentoml_server",
        "adaptive batching (batchable API, 64 at most) in 2 workers; no access log or metrics; "
        "Keras SavedModel, one thread a call; requests are sent as batches of one",
        ONE_THREAD,
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
        f"{CORES} replicas, one per core; @serve.batch of 32 sequences, wait 2 ms; HAProxy, "
        "RAY_SERVE_THROUGHPUT_OPTIMIZED, no access log; Keras SavedModel, one thread a call",
        RAY,
    ),
    _peer(
        "bentoml_onnxruntime",
        "bentoml_server",
        "as bentoml, with ONNX Runtime as the kernel",
        {**ONE_THREAD, **ONNXRUNTIME},
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
KINDS = {kind.name: kind for kind in (*UNROLLS, *FOR_LONE_CALLERS, *WITH_ONNXRUNTIME, *FRAMEWORKS)}
