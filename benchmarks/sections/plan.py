"""What a run measures: the full plan, the quick one, or a part that the command asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.servers.kinds import (
    FASTAPI,
    FASTAPI_BUCKETS,
    FASTAPI_PROCESSES,
    GRANIAN,
    KERAS,
    KERAS_PROCESSES,
    UNROLL,
)

# A large request takes so many times as long as a usual one, at least where many send them.
LARGE = 3


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long.

    Attributes:
        sections: of `registry.SECTIONS`; all of them if none is named.
        servers: of the closed and the open loop.
        clients: for each workload of the closed loop.
        rounds, seconds: of each cell; `seconds_of` knows better.
        parts: workloads of the servers that do not get all of them.
        slow: servers that are several times slower, where little depends on a round.
        slow_rounds: of their cells, at most.
        units: of the model's layers.
        frameworks: servers of the section `frameworks`, with ONNX Runtime as their kernel.
        large_servers: of the section `large`, the model of 512 units.
        large_clients: of it, with `mixed`.
        large_seconds: of its rounds, since its requests take longer.
        open_rounds, open_seconds: of the open loop, whose rounds start their servers: at most.
        kernel_units: models of the section `kernel`.
        streams: open ones of the section `streams`.
        requests: of the section `memory`.
    """

    sections: tuple[str, ...] = ()
    servers: tuple[str, ...] = (
        UNROLL,
        "unroll_tensorflow",
        FASTAPI,
        FASTAPI_BUCKETS,
        FASTAPI_PROCESSES,
        GRANIAN,
        KERAS,
        KERAS_PROCESSES,
        "bentoml",
        "litserve",
        "ray_serve",
    )
    clients: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "fixed": (1, 16, 64, 128),
            "mixed": (1, 16, 64, 128),
            "many": (1, 64),
            "stream": (1, 64),
        }
    )
    parts: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: dict.fromkeys(
            (FASTAPI_PROCESSES, KERAS_PROCESSES), ("fixed", "mixed")
        )
    )
    slow: tuple[str, ...] = (
        KERAS,
        KERAS_PROCESSES,
        "bentoml",
        "litserve",
        "ray_serve",
    )
    slow_rounds: int = 1
    rounds: int = 3
    seconds: float = 2.0
    units: int = 100
    frameworks: tuple[str, ...] = (
        UNROLL,
        "bentoml_onnxruntime",
        "litserve_onnxruntime",
        "ray_serve_onnxruntime",
    )
    large_servers: tuple[str, ...] = (
        UNROLL,
        "unroll_tensorflow",
        "unroll_bfloat16",
        FASTAPI,
        FASTAPI_BUCKETS,
        FASTAPI_PROCESSES,
        GRANIAN,
    )
    large_clients: tuple[int, ...] = (1, 64)
    large_seconds: float = 6.0
    open_rounds: int = 3
    open_seconds: float = 5.0
    kernel_units: tuple[int, ...] = (100, 512)
    streams: tuple[int, ...] = (250, 500, 1000)
    requests: int = 300_000

    def rounds_of(self, server: str) -> int:
        """Rounds of a server's cells."""
        return min(self.rounds, self.slow_rounds) if server in self.slow else self.rounds

    def seconds_of(self, workload: str, clients: int) -> float:
        """Seconds of a round: enough that the slowest server answers each client several times."""
        return self.seconds * (LARGE if workload == "many" and clients > 1 else 1)

    def has(self, server: str, workload: str) -> bool:
        """Whether a server is measured with a workload."""
        return workload in self.parts.get(server, (workload,))


FULL = Plan()
QUICK = Plan(
    sections=("closed", "open"),
    servers=(UNROLL, FASTAPI, FASTAPI_PROCESSES),
    clients={"fixed": (1, 64), "mixed": (64,)},
    rounds=2,
    open_rounds=1,
)
