import math
from statistics import median, stdev

import numpy as np
import orjson
import pytest

from benchmarks.load.workloads import (
    BODIES,
    SIGMA,
    WORKLOADS,
    Workload,
    Wrap,
    log_normal_lengths,
    make,
)


@pytest.fixture(scope="module", params=WORKLOADS)
def workload(request: pytest.FixtureRequest) -> Workload:
    return make(request.param)


def lengths(name: str) -> list[int]:
    return [len(rows) for request in make(name).requests for rows in request]


def test_bodies_hold_the_sequences_of_the_requests(workload: Workload) -> None:
    assert len(workload.bodies) == len(workload.requests) == BODIES[workload.name]
    for body, request in zip(workload.bodies, workload.requests, strict=True):
        parsed = orjson.loads(body)
        assert parsed.keys() == {"sequences"}
        for rows, expected in zip(parsed["sequences"], request, strict=True):
            np.testing.assert_array_equal(np.array(rows, np.float32), expected)


def test_bodies_differ_and_are_the_same_each_time(workload: Workload) -> None:
    assert len(set(workload.bodies)) == len(workload.bodies)
    assert make(workload.name).bodies == workload.bodies


def test_numbers_have_at_most_four_decimals(workload: Workload) -> None:
    for number in workload.bodies[0].replace(b"[", b"").replace(b"]", b"").split(b",")[1:20]:
        assert len(number.partition(b".")[2].rstrip(b"}")) <= 4


def test_fixed_and_stream_have_one_length() -> None:
    assert set(lengths("fixed")) == {50}
    assert set(lengths("stream")) == {8}


@pytest.mark.parametrize("name", ["mixed", "many"])
def test_mixed_lengths_are_log_normal_with_median_22_and_maximum_330(name: str) -> None:
    found = lengths(name)
    assert median(found) == 22
    assert max(found) == 330
    assert min(found) >= 1
    logs = [math.log(length) for length in found]
    # Rounding to whole time steps widens it a little where sequences are short.
    assert stdev(logs) == pytest.approx(SIGMA, abs=0.05)
    # A log-normal is symmetric in its logarithm.
    assert np.mean(logs) == pytest.approx(math.log(22), abs=0.05)


def test_many_has_sixteen_sequences_a_request() -> None:
    assert {len(request) for request in make("many").requests} == {16}


def test_lengths_are_shuffled_not_sorted() -> None:
    found = log_normal_lengths(512, np.random.default_rng(0))
    assert found != sorted(found)
    assert sorted(found) == sorted(log_normal_lengths(512, np.random.default_rng(1)))


def test_unknown_workload_is_named() -> None:
    with pytest.raises(ValueError, match="no workload 'nope'"):
        make("nope")


def test_wrap_goes_around_the_body() -> None:
    assert Wrap(b'{"requests":[', b"]}").around(b"{}") == b'{"requests":[{}]}'
    assert Wrap().around(b"{}") == b"{}"
