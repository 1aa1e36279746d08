from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.load.workloads import Workload
from benchmarks.load.wrk import Load
from benchmarks.sections import fairness
from benchmarks.sections.fairness import LONG_STEPS, Round, drive, latency_ms, measure, row_of
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import WARM_UP_S

GOOD = Load(100, 2.0, 0, 10.0, 20.0)
# Refused at once: fast, but no answers.
REFUSED = replace(GOOD, errors=100, p50_ms=0.1, p99_ms=0.2)


class FakeServer:
    """Remembers who asks; refuses the long one."""

    kind = SimpleNamespace(name="unroll")

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, float]] = []

    def load(self, workload: Workload, clients: int, seconds: float) -> Load:
        steps = len(workload.requests[0][0])
        self.asked.append((steps, clients, seconds))
        return REFUSED if steps == LONG_STEPS else GOOD


def test_the_result_of_the_long_one_is_kept() -> None:
    server = FakeServer()
    found = drive(server, 4.0)  # type: ignore[arg-type]
    assert found == Round(GOOD, GOOD, REFUSED)
    assert server.asked[:2] == [(10, 63, WARM_UP_S), (10, 63, 4.0)]
    # The long one is there for as long as the short ones beside it.
    assert sorted(server.asked[2:4]) == [(10, 63, WARM_UP_S), (500, 1, WARM_UP_S)]
    assert sorted(server.asked[4:]) == [(10, 63, 4.0), (500, 1, 4.0)]


def test_a_row_tells_of_both_and_of_their_errors() -> None:
    slower = replace(GOOD, errors=0, p50_ms=30.0, p99_ms=40.0)
    rounds = [Round(GOOD, slower, GOOD), Round(REFUSED, slower, GOOD)]
    row = row_of("a", rounds)
    # The round of errors has the better latency, which does not count.
    assert (row["p50_ms"], row["p50_ms_beside"], row["p50_ms_ratio"]) == (10.0, 30.0, 3.0)
    assert (row["p99_ms"], row["p99_ms_beside"], row["p99_ms_ratio"]) == (20.0, 40.0, 2.0)
    assert (row["long_per_second"], row["long_p50_ms"]) == (50.0, 10.0)
    assert (row["errors"], row["long_errors"]) == (100, 0)


def test_a_server_that_refuses_the_long_one_does_not_look_best() -> None:
    row = row_of("a", [Round(GOOD, GOOD, REFUSED)])
    assert (row["long_per_second"], row["long_p50_ms"], row["long_errors"]) == (0.0, None, 100)


@pytest.mark.parametrize("load", [REFUSED, replace(GOOD, requests=0, p50_ms=0.0)])
def test_without_good_answers_there_is_no_latency(load: Load) -> None:
    assert latency_ms([load], "p50_ms") is None
    row = row_of("a", [Round(GOOD, load, GOOD)])
    assert (row["p50_ms_beside"], row["p50_ms_ratio"]) == (None, None)


def test_servers_are_checked_before_they_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    @contextmanager
    def running(kinds: Any, model: Any, workloads: list[Workload]) -> Iterator[list[FakeServer]]:
        checked.extend(workload.name for workload in workloads)
        yield [FakeServer()]

    monkeypatch.setattr(fairness, "running", running)
    monkeypatch.setattr(fairness, "awake", nullcontext)
    monkeypatch.setattr(fairness, "ensure_model", lambda units: None)
    plan = Plan(servers=("unroll",), rounds=2, seconds=1.0)
    (row,) = measure(plan, {})
    assert checked == ["mixed"]
    assert (row["server"], row["long_errors"]) == ("unroll", 200)
