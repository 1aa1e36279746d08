"""One small round with a real server: does it work?"""

import shutil

import pytest

from benchmarks.load.workloads import WORKLOADS, make
from benchmarks.model_files import BenchModel
from benchmarks.servers import interleaving
from benchmarks.servers.kinds import KINDS


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_round_against_unroll(tiny_model: BenchModel) -> None:
    workloads = [make(name) for name in WORKLOADS]
    with interleaving.running([KINDS["unroll"]], tiny_model, workloads) as started:
        (server,) = started
        for workload in workloads:
            (cell,) = interleaving.measure(started, workload, clients=4, rounds=1, seconds=1)
            assert cell.errors == 0
            assert cell.per_second > 1
            assert 0 < cell.p50_ms <= cell.p99_ms
            assert cell.core_s > 0
        interleaving.check_together(started, tiny_model, workloads)
    assert server.process.pids() == []
