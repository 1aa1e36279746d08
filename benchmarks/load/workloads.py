"""The workloads: seeded request bodies in Unroll's native JSON, the same for every server.

Numbers have four decimals, as sensor data has. Lengths of `mixed` and `many` are log-normal: the
quantiles of the distribution in shuffled order, so that every run has the same median and maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import orjson

from benchmarks.model_files import NUM_FEATURES

SEED = 20131225
FIXED_STEPS = 50
MEDIAN_STEPS = 22
MAX_STEPS = 330
# With it the longest of some 500 sequences has about 15 times the median: 330.
SIGMA = 0.9
SEQUENCES_OF_MANY = 16
STREAM_STEPS = 8
# Of a stream, on average: each tenth request starts a new sequence.
STREAM_PIECES = 10

BODIES = {"fixed": 256, "mixed": 512, "many": 128, "stream": 512}
WORKLOADS = tuple(BODIES)


@dataclass(frozen=True)
class Wrap:
    """What a server wants around the native JSON.

    Attributes:
        before, after: bytes.
    """

    before: bytes = b""
    after: bytes = b""

    def around(self, body: bytes) -> bytes:
        """The body that is sent."""
        return self.before + body + self.after


NO_WRAP = Wrap()


@dataclass(frozen=True)
class Workload:
    """Requests of one kind.

    Attributes:
        name: one of `WORKLOADS`.
        requests: the sequences of each request, float32 `[T, F]`, as parsed from the body.
        bodies: JSON. Those of `stream` have no states: the client adds those it was answered.
    """

    name: str
    requests: tuple[tuple[np.ndarray, ...], ...]
    bodies: tuple[bytes, ...]

    @property
    def streams(self) -> bool:
        """Whether the client sends back the states of earlier answers."""
        return self.name == "stream"


def log_normal_lengths(count: int, random: np.random.Generator) -> list[int]:
    """`count` lengths in time steps: log-normal, in random order, at most `MAX_STEPS`."""
    normal = NormalDist()
    scores = np.array([normal.inv_cdf((i + 0.5) / count) for i in range(count)])
    lengths = np.rint(MEDIAN_STEPS * np.exp(SIGMA * scores)).astype(int)
    shuffled: list[int] = random.permutation(np.clip(lengths, 1, MAX_STEPS)).tolist()
    return shuffled


def make(name: str) -> Workload:
    """A workload.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in BODIES:
        raise ValueError(f"there is no workload {name!r}; there are {', '.join(WORKLOADS)}")
    count = BODIES[name]
    random = np.random.default_rng([SEED, WORKLOADS.index(name)])
    if name == "fixed":
        lengths = [[FIXED_STEPS]] * count
    elif name == "stream":
        lengths = [[STREAM_STEPS]] * count
    else:
        each = SEQUENCES_OF_MANY if name == "many" else 1
        flat = log_normal_lengths(count * each, random)
        lengths = [flat[i : i + each] for i in range(0, len(flat), each)]
    drawn = [[sensor_rows(steps, random) for steps in request] for request in lengths]
    return workload_of(name, drawn)


def workload_of(name: str, drawn: Sequence[Sequence[np.ndarray]]) -> Workload:
    """A workload of these sequences, float64 `[T, F]`, request by request."""
    bodies = tuple(
        orjson.dumps({"sequences": request}, option=orjson.OPT_SERIALIZE_NUMPY) for request in drawn
    )
    requests = tuple(tuple(rows.astype(np.float32) for rows in request) for request in drawn)
    return Workload(name, requests, bodies)


def sensor_rows(steps: int, random: np.random.Generator) -> np.ndarray:
    """float64 `[steps, F]` of standardised readings with four decimals."""
    return random.normal(size=(steps, NUM_FEATURES)).round(4)
