import time

import pytest

from benchmarks.kernels import work


def test_the_first_call_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    # The first compiles; a round is so short that two calls are timed.
    durations = iter([100.0, 1.0, 3.0])

    def call() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert work.median_seconds(call) == 2.0


def test_operations_of_a_call() -> None:
    # By hand: 4 gates of 100, each from 8 + 100 and twice from 100 + 100 numbers, and the head.
    a_time_step = 2 * (400 * 108 + 2 * 400 * 200 + 100)
    assert work.operations(100, 3) == 3 * 50 * a_time_step
