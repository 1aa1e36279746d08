"""A lone caller: the bound, what is measured beside a long sequence, and the tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.kernels.alone import bound
from benchmarks.load.timed_sending import OpenLoad
from benchmarks.load.wrk import Load
from benchmarks.sections import alone
from benchmarks.servers.kinds import ONE_THREAD_ALONE, UNROLL


def test_the_bound_of_a_pipeline_is_below_that_of_two_threads() -> None:
    # Of 12 tasks the first and the last are alone, and ten take five times two.
    assert bound(3, 4, 2.0) == pytest.approx(12 / 7)
    # Where two cores do no more than one, nothing is won.
    assert bound(3, 4, 1.0) == 1.0
    assert bound(3, 1, 1.8) == 1.8
    assert bound(3, 0, 1.8) == 1.0


def test_others_begin_beside_the_long_one_for_as_long_as_it_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    waits = iter([1.0, 5.0, 3.0, 4.0])

    def load(workload: Any, clients: int, seconds: float) -> Load:
        asked.append((workload.name, clients, seconds))
        return Load(100, seconds, 1, 4.0, 9.0)

    def others(port: int, workload: str, rate: float, seconds: float, warm_up_s: float) -> OpenLoad:
        asked.append((port, workload, seconds + warm_up_s))
        return OpenLoad(rate, rate, 80, 2, next(waits), 8.0, 9.0)

    @contextmanager
    def awake(_: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(alone.open_loop, "drive_elsewhere", others)
    monkeypatch.setattr(alone, "awake", awake)
    servers: Any = [
        SimpleNamespace(kind=SimpleNamespace(name=name), port=port, load=load)
        for port, name in ((1, UNROLL), (2, ONE_THREAD_ALONE))
    ]
    rows = alone._beside(servers, rounds=2, seconds=10.0)
    common = {"p99_ms": 8.0, "long_p50_ms": 4.0, "errors": 6}
    assert rows == [
        {"server": UNROLL, "p50_ms": 2.0, **common},
        {"server": ONE_THREAD_ALONE, "p50_ms": 4.5, **common},
    ]
    lasts = {given[-1] for given in asked if given[0] == "1000 time steps"}
    assert min(lasts) > max(given[-1] for given in asked if given[1] == "mixed")


def test_the_page_has_all_three_tables(tmp_path: Path) -> None:
    cell = {"server": UNROLL, "workload": "240 time steps", "p50_ms": 1.25, "p99_ms": 2.5}
    kernel = {"steps": 240, "ms": 1.3, "side_by_side": 1.9, "parts": 0, "bound": 1.0}
    beside = {"server": UNROLL, "p50_ms": 0.5, "p99_ms": 2.0, "long_p50_ms": 4.0, "errors": 3}
    found = {
        "units": 100,
        "kernel": [kernel | {"pipeline": 1.0, "threads": 1.02}],
        "cells": [cell],
        "beside": [beside],
    }
    lines = alone.write([found], {}, tmp_path).splitlines()
    assert "| 240 | 1.3 | 1.90x | - | 1.00x | 1.00x | 1.02x |" in lines
    assert "| unroll | 1.25 / 2.5 |" in lines
    assert "| unroll | 0.5 | 2 | 4 | 3 |" in lines
