"""Numbers that add up over all workers there are and were."""

import gc
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.counters import COUNTERS, GAUGES, Counters
from app.stats.answer_counts import PREDICT
from app.stats.shared_stats import SharedStats, WorkerStats
from app.stats.shared_words import BUSY_NS

fork = multiprocessing.get_context("fork")


def _work(path: Path, workers: int, orders: Connection) -> None:
    stats = SharedStats(workers, path).claim()
    orders.send(os.getpid())
    while (order := orders.recv()) is not None:
        name, value = order
        if name == "ready":
            stats.set_ready(value)
        elif name == "failing":
            stats.set_ready(False, failing=True)
        elif name == "closed":
            stats.count_closed()
        elif name == "taken":
            stats.count_taken()
        elif name == "beat":
            stats.beat()
        elif name == "answer":
            stats.answers.count(PREDICT, value)
        else:
            setattr(stats.counters, name, getattr(stats.counters, name) + value)
        orders.send("done")


class Worker:
    """A process with a row of its own."""

    def __init__(self, path: Path, workers: int = 2) -> None:
        self._orders, theirs = fork.Pipe()
        self.process = fork.Process(target=_work, args=(path, workers, theirs), daemon=True)
        self.process.start()
        self.pid = self.reply()

    def reply(self) -> Any:
        assert self._orders.poll(30)
        return self._orders.recv()

    def do(self, name: str, value: int = 1) -> None:
        self._orders.send((name, value))
        self.reply()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.touch()
    return path


def test_counters_and_gauges_add_up_over_workers(path: Path) -> None:
    shared, workers = SharedStats(2, path), [Worker(path), Worker(path)]
    for name in (*COUNTERS, *GAUGES):
        for number, worker in enumerate(workers, start=1):
            worker.do(name, number)
        assert shared.total(name) == 3, name
    for worker in workers:
        worker.kill()


def test_workers_that_begin_together_have_a_row_each(path: Path) -> None:
    workers = [Worker(path, 5) for _ in range(5)]
    shared = SharedStats(5, path)
    for worker in workers:
        worker.do("chunks", 10)
    assert shared.total("chunks") == 50
    assert {living.pid for living in shared.living()} == {worker.pid for worker in workers}
    for worker in workers:
        worker.kill()


def test_what_the_dead_have_done_counts_and_what_they_had_to_do_does_not(path: Path) -> None:
    shared, first, second = SharedStats(2, path), Worker(path), Worker(path)
    for worker in (first, second):
        for order in ("chunks", "waiting", "running", "ready", "closed"):
            worker.do(order)
    assert shared.ready
    first.kill()
    assert [living.pid for living in shared.living()] == [second.pid]
    assert (shared.total("chunks"), shared.total("waiting"), shared.total("running")) == (2, 1, 1)
    assert shared.workers_ready == 1
    # Its successor goes on with its row.
    third = Worker(path)
    assert (shared.total("chunks"), shared.total("waiting"), shared.total("running")) == (2, 1, 1)
    assert shared.workers_ready == 1
    assert {tuple(living) for living in shared.living()} == {
        (second.pid, True, 1),
        (third.pid, False, 0),
    }
    third.do("chunks", 5)
    third.do("ready")
    assert shared.total("chunks") == 7
    assert shared.workers_ready == 2
    second.kill()
    third.kill()


def test_the_answers_of_the_dead_and_of_those_in_their_place_add_up(path: Path) -> None:
    shared, first, second = SharedStats(2, path), Worker(path), Worker(path)
    for worker in (first, second):
        worker.do("answer", 200)
    first.do("answer", 503)
    first.kill()
    third = Worker(path)
    third.do("answer", 200)
    answers = shared.answers()
    counts = {status: n for route, status, n in answers.counts() if n and route == "predict"}
    assert counts == {"200": 3, "503": 1}
    assert {route: sum(buckets) for route, buckets, _ in answers.times()}["predict"] == 4
    # What the dead had to do is not among what they did.
    assert shared.total("waiting") == 0
    second.kill()
    third.kill()


def test_it_is_ready_once_all_are_and_then_as_long_as_one_is(path: Path) -> None:
    shared = SharedStats(2, path)
    assert not shared.ready
    first = Worker(path)
    first.do("ready")
    assert not shared.ready
    second = Worker(path)
    assert not shared.ready
    second.do("ready")
    assert shared.ready
    first.do("ready", 0)
    assert (shared.ready, shared.workers_ready, shared.workers_failing) == (True, 1, 0)
    second.kill()
    assert (shared.ready, shared.workers_ready, shared.workers_failing) == (False, 0, 0)
    first.do("ready")
    assert shared.ready
    first.kill()


def test_who_cannot_answer_keeps_nobody_from_it(path: Path) -> None:
    shared, first, second = SharedStats(2, path), Worker(path), Worker(path)
    first.do("ready")
    assert not shared.ready
    second.do("failing")
    assert (shared.ready, shared.workers_ready, shared.workers_failing) == (True, 1, 1)
    assert shared.trouble == "1 of the service's workers cannot load the model"
    second.do("ready")
    assert (shared.workers_ready, shared.workers_failing, shared.trouble) == (2, 0, "")
    # A parent counts for a while who has ended again and again, though its successor answers.
    shared.tell_crashing(1, -9)
    assert (shared.workers_failing, shared.trouble) == (0, "")
    first.kill()
    assert (shared.workers_ready, shared.workers_failing) == (1, 1)
    second.kill()


def test_while_workers_are_replaced_there_is_room_for_both(path: Path) -> None:
    workers = [Worker(path, 2) for _ in range(4)]
    assert len(SharedStats(2, path).living()) == 4
    for worker in workers:
        worker.kill()


def test_workers_that_die_again_and_again_need_no_more_room(path: Path) -> None:
    shared = SharedStats(1, path)
    for number in range(1, 12):
        worker = Worker(path, 1)
        worker.do("completed")
        worker.kill()
        assert shared.total("completed") == number


def test_a_beat_is_that_of_its_worker(path: Path) -> None:
    shared, workers = SharedStats(2, path), [Worker(path), Worker(path)]
    first, second = (worker.pid for worker in workers)
    before = shared.beats(first)
    for _ in range(2):
        workers[1].do("beat")
    assert shared.beats(second) == 2
    assert shared.beats(first) == before
    for worker in workers:
        worker.kill()


def test_a_successor_has_not_beaten_yet(path: Path) -> None:
    """It is new: its parent gives it the time that a start takes."""
    shared, first = SharedStats(1, path), Worker(path, 1)
    for _ in range(3):
        first.do("beat")
    first.kill()
    second = Worker(path, 1)
    assert shared.beats(second.pid) == 0
    second.do("beat")
    assert shared.beats(second.pid) == 1
    second.kill()


def test_stats_alone_need_no_file() -> None:
    shared, other = SharedStats(), SharedStats()
    stats = shared.claim()
    assert not shared.ready
    stats.set_ready(True)
    assert shared.ready
    stats.counters.rows += 3
    assert shared.total("rows") == 3
    assert other.total("rows") == 0
    (living,) = shared.living()
    assert living == (os.getpid(), True, 0)


def test_stats_that_are_gone_leave_no_file_open() -> None:
    # What earlier tests have left open is closed before it is counted.
    gc.collect()
    open_files = len(os.listdir("/proc/self/fd"))
    stats: WorkerStats | None = SharedStats().claim()
    assert stats is not None
    stats.counters.chunks += 1
    del stats
    # What is not closed warns, which is an error here.
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == open_files


@given(
    st.lists(st.tuples(st.sampled_from((*COUNTERS, *GAUGES)), st.integers(0, 2**40)), max_size=50)
)
def test_each_name_has_a_number_of_its_own(changes: list[tuple[str, int]]) -> None:
    shared = SharedStats()
    kept = [shared.claim(), Counters()]
    counters = [kept[0].counters, kept[1]]  # type: ignore[union-attr]
    expected = dict.fromkeys((*COUNTERS, *GAUGES), 0)
    for name, value in changes:
        expected[name] = value
        for words in counters:
            setattr(words, name, value)
    for name, value in expected.items():
        assert [getattr(words, name) for words in counters] == [value, value]
        assert shared.total(name) == value


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-9, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_the_parent_tells_all_workers_which_of_them_cannot_stay_up(
    path: Path, status: int, text: str
) -> None:
    shared, parent = SharedStats(2, path), SharedStats(2, path)
    assert shared.trouble == ""
    parent.tell_crashing(1, status)
    assert shared.trouble == f"1 of the service's workers cannot stay up: the last one {text}"
    parent.tell_crashing(0, status)
    assert shared.trouble == ""


def test_cores_are_idle_where_no_other_worker_has_work(tmp_path: Path) -> None:
    path = tmp_path / "stats"
    path.touch()
    mine = SharedStats(2, path).claim()
    other = Worker(path)
    assert mine.idle_cores(2) == 1
    assert mine.idle_cores(4) == 3
    # What this worker does is no matter.
    mine.counters.running = 3
    mine.counters.computed_at = time.monotonic_ns()
    mine.count_taken()
    assert mine.idle_cores(2) == 1
    for gauge in GAUGES:
        other.do(gauge, 1)
        assert mine.idle_cores(2) == 0
        assert mine.idle_cores(4) == 2
        assert mine.idle_cores(1) == 0
        other.do(gauge, -1)
        assert mine.idle_cores(2) == 1
    # It died at work.
    other.do("running", 1)
    other.kill()
    assert mine.idle_cores(2) == 1


def test_a_worker_whose_callers_may_send_more_is_busy_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "stats"
    path.touch()
    mine = SharedStats(2, path).claim()
    other = Worker(path)
    other.do("computed_at", time.monotonic_ns())
    # Its caller has gone.
    assert mine.idle_cores(2) == 1
    other.do("taken")
    other.do("computed_at", BUSY_NS)
    assert mine.idle_cores(2) == 0
    other.do("computed_at", -2 * BUSY_NS)
    assert mine.idle_cores(2) == 1
