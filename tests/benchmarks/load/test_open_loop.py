import math
import select
import time
from statistics import mean, stdev

import numpy as np
import pytest

from benchmarks.load.open_loop import drive, drive_elsewhere, http_requests, poisson_arrivals
from benchmarks.load.precise_alarm import Timer
from benchmarks.load.timed_sending import GRACE_S, summarize
from benchmarks.load.workloads import Wrap, make
from tests.benchmarks.load.echo import echo_server


def test_arrivals_are_poisson() -> None:
    arrivals = poisson_arrivals(rate=1000.0, seconds=20.0)
    gaps = np.diff(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] < 20
    assert (gaps >= 0).all()
    # 20,000 gaps: the standard error of their mean is 0.7%.
    assert mean(gaps) == pytest.approx(1e-3, rel=0.03)
    # The standard deviation of an exponential is its mean; of a steady rhythm it would be 0.
    assert stdev(gaps) == pytest.approx(1e-3, rel=0.05)
    # A part exp(-1) of the gaps is longer than their mean.
    assert np.mean(gaps > 1e-3) == pytest.approx(math.exp(-1), abs=0.02)


def test_arrivals_follow_their_seed() -> None:
    np.testing.assert_array_equal(poisson_arrivals(50, 2, seed=3), poisson_arrivals(50, 2, seed=3))
    assert not np.array_equal(poisson_arrivals(50, 2, seed=3), poisson_arrivals(50, 2, seed=4))


def test_summary_leaves_the_warm_up_out() -> None:
    arrivals = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    latencies = np.array([9.0, np.nan, 0.001, 0.003, 0.004, 0.002])
    load = summarize(7.0, 1.0, arrivals, latencies)
    assert (load.rate, load.requests, load.errors) == (7.0, 4, 0)
    # The last answer came after the last arrival.
    assert load.achieved == pytest.approx(3 / 2)
    assert (load.p50_ms, load.max_ms) == (pytest.approx(2.5), pytest.approx(4))


def test_who_got_no_answer_has_waited_to_the_end() -> None:
    arrivals = np.array([0.0, 1.0, 2.0, 4.0])
    load = summarize(1.0, 0.0, arrivals, np.array([0.001, np.nan, 0.001, np.nan]))
    assert (load.achieved, load.errors) == (2 / 4, 2)
    assert load.max_ms == pytest.approx(1e3 * (3 + GRACE_S))
    assert load.p50_ms > 1e3, "the quick ones are half, not all"


def test_an_answer_in_the_time_of_grace_is_not_in_time() -> None:
    load = summarize(1.0, 0.0, np.array([0.0, 1.0, 2.0]), np.array([5.0, 0.5, 0.0]))
    assert (load.achieved, load.errors) == (2 / 2, 0)
    assert load.max_ms == pytest.approx(5e3)


def test_summary_without_any_answer() -> None:
    load = summarize(1.0, 0.0, np.array([0.5, 1.0]), np.full(2, np.nan))
    assert (load.achieved, load.errors) == (0, 2)
    assert load.p50_ms > 1e3 * GRACE_S


def test_requests_are_http_with_the_body_wrapped() -> None:
    workload = make("fixed")
    request = http_requests(workload, 99, Wrap(b"[", b"]"))[3]
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:99\r\n")
    assert body == b"[" + workload.bodies[3] + b"]"
    assert b"Content-Length: %d" % len(body) in head


def test_timer_is_not_early() -> None:
    timer = Timer()
    moment = time.monotonic() + 0.02
    timer.set(moment)
    poll = select.poll()
    poll.register(timer.descriptor, select.POLLIN)
    assert poll.poll(5000)
    assert time.monotonic() >= moment
    timer.clear()
    assert not poll.poll(0)


def test_runs_as_a_process_of_its_own() -> None:
    with echo_server() as server:
        port = server.server_address[1]
        load = drive_elsewhere(port, "fixed", 40.0, 0.5, 0.0, Wrap(b"[", b"]"))
    assert load.errors == 0
    assert load.requests == len(server.bodies) > 5
    assert 0 < load.p50_ms <= load.p99_ms <= load.max_ms
    assert server.bodies[0].startswith(b"[{")


def test_a_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="open loop"):
        drive(1, make("stream"), 1.0, 1.0, 0.0)


def test_every_request_is_sent_and_counted_from_its_moment() -> None:
    workload = make("fixed")
    with echo_server(delay_s=0.05) as server:
        load = drive(server.server_address[1], workload, rate=60.0, seconds=1.0, warm_up_s=0.5)
        count = len(poisson_arrivals(60.0, 1.5))
        assert sorted(server.bodies) == sorted(workload.bodies[i % 256] for i in range(count))
    assert load.errors == 0
    assert load.requests < count
    # Answers come one at a time after 50 ms, 20 a second, so those sent at 60 a second line up.
    assert load.p50_ms > 50
    assert load.max_ms > 500


def test_answers_that_are_no_good_are_errors() -> None:
    with echo_server(status=503) as server:
        load = drive(server.server_address[1], make("fixed"), 50.0, 0.3, 0.0)
    assert load.errors == load.requests > 0


def test_a_server_that_is_not_there_answers_nothing() -> None:
    load = drive(1, make("fixed"), rate=50.0, seconds=0.3, warm_up_s=0.0)
    assert load.requests > 0
    assert load.errors == load.requests
