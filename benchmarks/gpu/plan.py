"""What the sections measure, and for how long: the full plan and the quick one.

Each section is a process of its own and gets its part as JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.training.case import Case


@dataclass(frozen=True)
class TrainingPlan:
    """Of the section `training`.

    Attributes:
        cases: what is trained.
        rounds: in which the sides take turns; fewer if the time is over before.
        burst_s: seconds of a side's turn, about.
        groups: of `training.GROUPS`, in which the sides are compared.
        limit_s: seconds of the section.
    """

    cases: Sequence[Case] = (Case(3, 100, 128, 72), Case(4, 1024, 256, 128))
    rounds: int = 4
    burst_s: float = 0.3
    groups: Sequence[str] = ("plain", "dropout", "TF32")
    limit_s: float = 80.0


@dataclass(frozen=True)
class ChunksPlan:
    """Of the section `chunks`.

    Attributes:
        units: of the three layers, a model each.
        rows, steps: of chunks; each with each.
        rounds: in which kernels take turns.
        burst_s: seconds of a kernel's turn, about.
        cpu_s: chunks of which the processor needs more seconds are left out there.
        limit_s: seconds of the section.
    """

    units: Sequence[int] = (512, 100)
    rows: Sequence[int] = (1, 64, 512)
    steps: Sequence[int] = (32, 128)
    rounds: int = 3
    burst_s: float = 0.15
    cpu_s: float = 2.0
    limit_s: float = 45.0


@dataclass(frozen=True)
class ServicePlan:
    """Of the section `service`.

    Attributes:
        units: of the three layers.
        workers: of the service on the GPU, a server each.
        loads: workload and clients, the most telling first.
        rounds: in which servers take turns; fewer if the time is over before.
        seconds: of a round.
        start_s: seconds that a server has to get ready.
        limit_s: seconds of the section.
    """

    units: int = 512
    workers: Sequence[int] = (1, 2, 4, 8)
    loads: Sequence[tuple[str, int]] = (
        ("mixed", 256),
        ("mixed", 64),
        ("fixed", 256),
        ("fixed", 64),
    )
    rounds: int = 2
    seconds: float = 2.0
    start_s: float = 60.0
    limit_s: float = 120.0


@dataclass(frozen=True)
class DevicesPlan:
    """Of the section `devices`.

    Attributes:
        case: what is trained on one device and on two.
        rounds: in which schedules take turns.
        burst: batches of a schedule's turn.
        limit_s: seconds of the section.
    """

    case: Case = Case(4, 512, 64, 128)
    rounds: int = 5
    burst: int = 10
    limit_s: float = 40.0


@dataclass(frozen=True)
class Plan:
    """All sections, in the order in which they run. None is left out."""

    training: TrainingPlan | None = field(default_factory=TrainingPlan)
    chunks: ChunksPlan | None = field(default_factory=ChunksPlan)
    service: ServicePlan | None = field(default_factory=ServicePlan)
    devices: DevicesPlan | None = field(default_factory=DevicesPlan)

    def sections(self) -> dict[str, Any]:
        """The parts by name, without those left out."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: part for name, part in parts.items() if part is not None}

    def models(self) -> list[int]:
        """Units of the benchmark models that the sections serve."""
        found = list(self.chunks.units) if self.chunks else []
        return list(dict.fromkeys(found + ([self.service.units] if self.service else [])))


FULL = Plan()
QUICK = Plan(
    training=TrainingPlan(rounds=2, burst_s=0.2, groups=("plain", "TF32"), limit_s=45.0),
    chunks=ChunksPlan(units=(512,), steps=(32,), rounds=2, limit_s=25.0),
    service=ServicePlan(
        workers=(1, 4),
        loads=(("mixed", 256), ("mixed", 64)),
        rounds=1,
        start_s=45.0,
        limit_s=75.0,
    ),
    devices=DevicesPlan(rounds=3, burst=5, limit_s=35.0),
)


def dump(part: Any) -> str:
    """A section's plan as JSON."""
    return json.dumps(asdict(part))


def load_training(text: str) -> TrainingPlan:
    """From JSON."""
    fields = json.loads(text)
    return TrainingPlan(**{**fields, "cases": [Case(**case) for case in fields["cases"]]})


def load_devices(text: str) -> DevicesPlan:
    """From JSON."""
    fields = json.loads(text)
    return DevicesPlan(**{**fields, "case": Case(**fields["case"])})
