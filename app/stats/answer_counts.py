"""`Answers`: how many answers a worker gave, by route and status, and how long they took.

The numbers are words of the board, of a fixed layout, so that any worker can tell those of all.
"""

from bisect import bisect_left
from collections.abc import Iterator
from time import perf_counter_ns

# What computes comes first: how long it takes is counted too.
TIMED = ("predict", "v1", "v2", "stream")
ROUTES = (*TIMED, "sessions", "other")
PREDICT, V1, V2, STREAM, SESSIONS, OTHER = range(len(ROUTES))
LAST_TIMED = STREAM

# Those that tell something by themselves; of others only the class is counted.
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
# Of a route that is timed: its buckets, the last one without a bound, and the sum in nanoseconds.
_SUM = len(BOUNDS_S) + 1
_ROW, _TIMES = len(LABELS), _SUM + 1
_FIRST_TIME = len(ROUTES) * _ROW

# Words that `Answers` needs.
SIZE = _FIRST_TIME + len(TIMED) * _TIMES


class Answers:
    """See the module. A word is written by the event loop of its worker only.

    Args:
        words: where to keep them, int64 `[SIZE]`; memory of its own if None.
    """

    __slots__ = ("_words",)

    def __init__(self, words: memoryview | None = None) -> None:
        self._words = words if words is not None else memoryview(bytearray(8 * SIZE)).cast("q")

    def count(self, route: int, status: int, began_ns: int = 0) -> None:
        """Counts an answer.

        Args:
            route: index in `ROUTES`.
            status: of HTTP, below 600.
            began_ns: when its request did, on `perf_counter_ns`, if the route is timed.
        """
        words = self._words
        words[route * _ROW + _COLUMNS[status]] += 1
        if route <= LAST_TIMED:
            took_ns, at = perf_counter_ns() - began_ns, _FIRST_TIME + route * _TIMES
            words[at + bisect_left(_BOUNDS_NS, took_ns)] += 1
            words[at + _SUM] += took_ns

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Yields route, status and number of answers."""
        for row, route in enumerate(ROUTES):
            for column, status in enumerate(LABELS, start=row * _ROW):
                yield route, status, self._words[column]

    def times(self) -> Iterator[tuple[str, list[int], float]]:
        """Yields route, number of answers in each bucket, and seconds of all."""
        for at, route in zip(range(_FIRST_TIME, SIZE, _TIMES), TIMED, strict=True):
            *buckets, sum_ns = self._words[at : at + _TIMES]
            yield route, buckets, sum_ns / 1e9


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
