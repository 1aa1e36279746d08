"""`AnswerCounts`: how many answers a worker gave, by route and status, and how long they took.

The numbers lie in `AnswerWords`, which a worker has in the memory that all share (`SharedStats`),
so that any worker can tell those of all.
"""

import ctypes
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from time import perf_counter_ns
from typing import Self

# Routes that compute come first: how long they take is counted too.
TIMED = ("predict", "v1", "v2", "stream")
ROUTES = (*TIMED, "sessions", "other")
PREDICT, V1, V2, STREAM, SESSIONS, OTHER = range(len(ROUTES))
LAST_TIMED = STREAM

# Statuses that tell something by themselves; of others only the class is counted.
STATUSES = (
    *(200, 400, 404, 408, 409, 413, 415, 422, 429, 499, 500, 503, 504),
    *("2xx", "3xx", "4xx", "5xx"),
)
LABELS = tuple(map(str, STATUSES))
# There was no answer: the caller had gone.
NOT_GIVEN = 499

# Upper bounds of the buckets, in seconds: from an idle service's answer to the longest wait.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

_BOUNDS_NS = tuple(int(bound * 1e9) for bound in BOUNDS_S)
_COLUMNS = tuple(
    LABELS.index(str(status) if str(status) in LABELS else f"{max(2, status // 100)}xx")
    for status in range(600)
)


class AnswerWords(ctypes.Structure):
    """The numbers, as they lie in memory.

    Attributes:
        answers: how many, by route and status, int64 `[len(ROUTES), len(LABELS)]`.
        buckets: how many of a route that is timed took how long, int64
            `[len(TIMED), len(BOUNDS_S) + 1]`; the last bucket has no bound.
        sums_ns: nanoseconds of all answers of such a route, int64 `[len(TIMED)]`.
    """

    _fields_ = [
        ("answers", ctypes.c_int64 * len(LABELS) * len(ROUTES)),
        ("buckets", ctypes.c_int64 * (len(BOUNDS_S) + 1) * len(TIMED)),
        ("sums_ns", ctypes.c_int64 * len(TIMED)),
    ]

    answers: "ctypes.Array[ctypes.Array[ctypes.c_int64]]"
    buckets: "ctypes.Array[ctypes.Array[ctypes.c_int64]]"
    sums_ns: "ctypes.Array[ctypes.c_int64]"


_AllWords = ctypes.c_int64 * (ctypes.sizeof(AnswerWords) // ctypes.sizeof(ctypes.c_int64))


class AnswerCounts:
    """See the module. Only the event loop of its worker writes a number.

    Args:
        words: where to keep the numbers; memory of its own if None.
    """

    __slots__ = ("_answers", "_buckets", "_sums_ns")

    def __init__(self, words: AnswerWords | None = None) -> None:
        words = words if words is not None else AnswerWords()
        # A row that is looked up anew each time takes twice as long to count in.
        self._answers = list(words.answers)
        self._buckets = list(words.buckets)
        self._sums_ns = words.sums_ns

    @classmethod
    def sum_of(cls, workers: Iterable[AnswerWords]) -> Self:
        """Those of all the given workers, as they are now."""
        total = AnswerWords()
        sums = _AllWords.from_buffer(total)
        columns = zip(*map(_AllWords.from_buffer, workers), strict=True)
        for index, column in enumerate(columns):
            sums[index] = sum(column)
        return cls(total)

    def count(self, route: int, status: int, began_ns: int = 0) -> None:
        """Counts an answer.

        Args:
            route: index in `ROUTES`.
            status: of HTTP, below 600.
            began_ns: when its request did, on `perf_counter_ns`, if the route is timed.
        """
        self._answers[route][_COLUMNS[status]] += 1
        if route <= LAST_TIMED:
            took_ns = perf_counter_ns() - began_ns
            self._buckets[route][bisect_left(_BOUNDS_NS, took_ns)] += 1
            self._sums_ns[route] += took_ns

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Yields route, status and number of answers."""
        for route, row in zip(ROUTES, self._answers, strict=True):
            for status, count in zip(LABELS, row, strict=True):
                yield route, status, count

    def times(self) -> Iterator[tuple[str, list[int], float]]:
        """Yields route, number of answers in each bucket, and seconds of all."""
        for route, row, sum_ns in zip(TIMED, self._buckets, self._sums_ns, strict=True):
            yield route, list(row), sum_ns / 1e9


def route_of(method: str, path: str) -> int:
    """The route, index in `ROUTES`, that a request is counted for."""
    if method == "POST":
        if path == "/predict":
            return PREDICT
        if path.startswith("/v2/") and path.endswith("/infer"):
            return V2
        if path.startswith("/v1/") and path.endswith(":predict"):
            return V1
    return SESSIONS if path.startswith("/sessions/") else OTHER
