"""What a run measures: the full plan, the quick one, or a part that the command asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.memory import REQUESTS
from benchmarks.servers import STRONGEST, UNROLL
from benchmarks.sweep import SETTINGS

BUCKETS = f"{STRONGEST}_buckets"
SECTIONS = (
    "closed",
    "kernels",
    "large",
    "open",
    "kernel",
    "bound",
    "fairness",
    "memory",
    "sweep",
)


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long.

    Attributes:
        sections: of `SECTIONS`.
        servers: of the closed and the open loop.
        clients: for each workload of the closed loop.
        rounds, seconds: of each cell.
        units: of the model's layers.
        other_kernels: servers of the section `kernels`: frameworks with ONNX Runtime as kernel.
        large_servers: of the section `large`, the model of 512 units.
        large_clients: of it, with `mixed`.
        large_seconds: of its rounds, since its requests take longer.
        open_seconds: of each round of the open loop.
        kernel_units: models of the section `kernel`.
        requests: of the section `memory`.
        settings: of the section `sweep`.
    """

    sections: tuple[str, ...] = SECTIONS
    servers: tuple[str, ...] = (
        UNROLL,
        "unroll_tensorflow",
        STRONGEST,
        BUCKETS,
        "fastapi_keras",
        "bentoml",
        "litserve",
        "ray_serve",
    )
    clients: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "fixed": (1, 16, 64, 128),
            "mixed": (1, 16, 64, 128),
            "many": (1, 16, 64),
            "stream": (1, 16, 64),
        }
    )
    rounds: int = 3
    seconds: float = 2.0
    units: int = 100
    other_kernels: tuple[str, ...] = (
        UNROLL,
        "bentoml_onnxruntime",
        "litserve_onnxruntime",
        "ray_serve_onnxruntime",
    )
    large_servers: tuple[str, ...] = (UNROLL, "unroll_tensorflow", STRONGEST, BUCKETS)
    large_clients: tuple[int, ...] = (1, 64)
    large_seconds: float = 6.0
    open_seconds: float = 5.0
    kernel_units: tuple[int, ...] = (100, 512)
    requests: int = REQUESTS
    settings: tuple[str, ...] = tuple(SETTINGS)


FULL = Plan()
QUICK = Plan(
    sections=("closed", "open", "kernel", "bound"),
    servers=(UNROLL, STRONGEST, BUCKETS),
    clients={"fixed": (1, 64), "mixed": (64,)},
    rounds=2,
    open_seconds=3.0,
    kernel_units=(100,),
)
