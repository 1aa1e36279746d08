import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.load import wrk
from benchmarks.load.workloads import Wrap, make
from benchmarks.servers.interleaving import Round, median_cell
from tests.benchmarks.load.echo import echo_server

PRINTED = """Running 1s test @ http://127.0.0.1:1/predict
{"requests":3000,"duration_us":1500000,"status_errors":20,"socket_errors":10,\
"latencies_us":[[1250,60],[2000,38],[9001,2]]}
"""

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture(autouse=True)
def _bodies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrk, "BUILD", tmp_path)


def test_reads_what_the_script_prints() -> None:
    load = wrk.parse(PRINTED, clients=8)
    assert (load.requests, load.duration_s, load.errors) == (3000, 1.5, 30)
    assert (load.p50_ms, load.p99_ms) == (1.25, 9.001)


def test_errors_are_not_answers() -> None:
    assert wrk.parse(PRINTED, clients=8).per_second == pytest.approx((3000 - 30) / 1.5)


@pytest.mark.parametrize("output", ["", "unable to connect", PRINTED + PRINTED])
def test_says_when_there_is_no_result(output: str) -> None:
    with pytest.raises(wrk.WrkFailed, match="no result"):
        wrk.parse(output, clients=1)


def corrected_by_wrk(recorded: dict[int, int], interval: int) -> dict[int, int]:
    """`stats_correct` of wrk's stats.c, line by line."""
    data = Counter(recorded)
    for n in range(2 * interval, max(recorded, default=0) + 1):
        count = data[n]
        m = n - interval
        while count and m > interval:
            data[m] += count
            m -= interval
    return {value: count for value, count in data.items() if count}


@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 100))
@example([5, 5, 300], 7)
def test_what_wrk_adds_is_taken_away_again(latencies: list[int], interval: int) -> None:
    recorded = Counter(latencies)
    found = wrk.as_recorded(corrected_by_wrk(recorded, interval), interval)
    assert {value: count for value, count in found.items() if count} == recorded


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.sampled_from([1, 50, 99, 100]))
def test_a_percentile_is_a_latency_that_so_many_do_not_exceed(
    latencies: list[int], percent: int
) -> None:
    found = wrk.percentile(Counter(latencies), percent)
    assert sum(latency <= found for latency in latencies) >= percent / 100 * len(latencies)
    assert sum(latency < found for latency in latencies) < percent / 100 * len(latencies)


def test_without_an_answer_there_is_no_latency() -> None:
    printed = '{"requests":0,"duration_us":9,"status_errors":0,"socket_errors":3,"latencies_us":[]}'
    load = wrk.parse(printed, clients=4)
    assert (load.per_second, load.errors, load.p99_ms) == (0, 3, 0)


@needs_wrk
def test_a_rare_slow_answer_is_counted_once() -> None:
    """One of 100 answers takes long: as many of the latencies, not as many as would fit into it."""
    with echo_server(slow=(100, 0.1)) as server:
        found = wrk.drive(server.url, make("fixed"), clients=1, seconds=2)
    assert found.requests > 200
    assert found.p99_ms < 50


def test_says_when_wrk_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(wrk.WrkFailed, match="apt-get install wrk"):
        wrk.drive("http://127.0.0.1:1/", make("fixed"), 1, 1)


def load(per_second: float, p50_ms: float, errors: int = 0) -> wrk.Load:
    return wrk.Load(int(per_second * 2) + errors, 2.0, errors, p50_ms, 10 * p50_ms)


def test_cells_are_medians_of_rounds() -> None:
    rounds = [
        Round(load(100, 3.0), 0.3, 0.03, 0.0),
        Round(load(300, 1.0, errors=2), 0.1, 0.01, 0.5),
        Round(load(200, 2.0), 0.2, 0.02, 0.1),
    ]
    cell = median_cell("a", "fixed", 64, rounds)
    assert (cell.per_second, cell.p50_ms, cell.p99_ms) == (200, 2.0, 20.0)
    assert (cell.core_s, cell.load_core_s, cell.others) == (0.2, 0.02, 0.1)
    assert cell.errors == 2
    assert cell.rounds == (100, 300, 200)


@needs_wrk
def test_sends_every_body_in_turn() -> None:
    workload = make("fixed")
    with echo_server() as server:
        found = wrk.drive(server.url, workload, clients=2, seconds=1)
    assert found.errors == 0
    assert set(server.bodies) == set(workload.bodies)
    assert abs(found.requests - len(server.bodies)) <= 2


@needs_wrk
def test_counts_what_is_no_good_answer() -> None:
    with echo_server(status=503) as server:
        found = wrk.drive(server.url, make("fixed"), clients=1, seconds=1)
    assert found.errors == found.requests > 0
    assert found.per_second == 0


@needs_wrk
@pytest.mark.parametrize("wrap", [Wrap(), Wrap(b'{"requests":[', b"]}")])
def test_stream_sends_back_the_states_it_was_answered(wrap: Wrap) -> None:
    with echo_server() as server:
        wrk.drive(server.url, make("stream"), clients=3, seconds=1, wrap=wrap)
    bodies = [body.removeprefix(wrap.before).removesuffix(wrap.after) for body in server.bodies]
    begun = [body for body in bodies if b"initial_states" not in body]
    # Each tenth starts anew, and the first of each client.
    assert len(begun) / len(bodies) == pytest.approx(0.1, abs=0.02)
    # The states go along unchanged, each set once.
    states = [body.partition(b'"initial_states":')[2] for body in bodies if body not in begun]
    assert len(set(states)) == len(states)
    assert all(state[:-1] in server.states for state in states)
