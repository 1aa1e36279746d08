"""What is counted of answers: each one word, and the bucket that its time belongs to."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stats import answer_counts as module
from app.stats.answer_counts import (
    BOUNDS_S,
    LABELS,
    OTHER,
    PREDICT,
    ROUTES,
    TIMED,
    AnswerCounts,
    route_of,
)
from app.stats.shared_stats import SharedStats
from tests.app.running_service import make_service


def expected_label(status: int) -> str:
    return str(status) if str(status) in LABELS else f"{status // 100}xx"


@given(st.lists(st.tuples(st.integers(0, len(ROUTES) - 1), st.integers(200, 599)), max_size=60))
def test_each_answer_is_counted_once_wherever_they_are_kept(given: list[tuple[int, int]]) -> None:
    shared = SharedStats()
    stats = shared.claim()
    stats.counters.rows = stats.counters.running = 7
    alone = AnswerCounts()
    for route, status in given:
        for kept in (alone, stats.answers):
            kept.count(route, status)
    wanted = Counter((ROUTES[route], expected_label(status)) for route, status in given)
    for kept in (alone, shared.answers()):
        assert {(route, status): n for route, status, n in kept.counts() if n} == wanted
        for name, buckets, _ in kept.times():
            assert sum(buckets) == sum(n for (route, _), n in wanted.items() if route == name)
    assert shared.total("rows") == shared.total("running") == 7


@pytest.mark.parametrize("route", range(len(TIMED)))
@pytest.mark.parametrize(
    ("took_ns", "bucket"),
    [
        (0, 0),
        (500_000, 0),
        (500_001, 1),
        (1_000_000, 1),
        (60_000_000_000, len(BOUNDS_S) - 1),
        (60_000_000_001, len(BOUNDS_S)),
    ],
)
def test_a_time_is_in_the_first_bucket_that_holds_it(
    monkeypatch: pytest.MonkeyPatch, route: int, took_ns: int, bucket: int
) -> None:
    monkeypatch.setattr(module, "perf_counter_ns", lambda: 1000 + took_ns)
    answers = AnswerCounts()
    answers.count(route, 200, 1000)
    for name, buckets, seconds in answers.times():
        found = name == TIMED[route]
        assert buckets == [int(found and index == bucket) for index in range(len(BOUNDS_S) + 1)]
        # A whole number of nanoseconds, divided once.
        assert seconds == (took_ns / 1e9 if found else 0.0)


def test_the_buckets_rise() -> None:
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))
    assert (BOUNDS_S[0], BOUNDS_S[-1]) == (0.0005, 60)


def test_every_route_that_computes_is_known_by_its_path(tiny_dir: Path) -> None:
    with make_service(tiny_dir) as service:
        document = service.get("/openapi.json").json()
    kinds = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            route = ROUTES[route_of(method.upper(), path.replace("{", "").replace("}", ""))]
            computes = "requestBody" in operation
            assert (route in TIMED) == computes, (method, path)
            kinds[path] = route
    assert set(kinds.values()) == set(ROUTES) - {"stream"}
    assert kinds["/sessions/{id}"] == "sessions"


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/predict", PREDICT),
        ("GET", "/predict", OTHER),
        ("POST", "/predict/", OTHER),
        ("GET", "/v2/models/infer", OTHER),
        ("POST", "/v3/models/a/infer", OTHER),
        ("POST", "/sessions", OTHER),
        ("GET", "", OTHER),
    ],
)
def test_what_computes_nothing_is_another_route(method: str, path: str, route: int) -> None:
    assert route_of(method, path) == route
