import time

import pytest

from benchmarks.kernels import work as arrays


def test_the_first_call_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    # The first compiles; a round is so short that two calls are timed.
    durations = iter([100.0, 1.0, 3.0])

    def call() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert arrays.median_seconds(call) == 2.0
