from dataclasses import replace

import pytest

from benchmarks.load import open_loop
from benchmarks.model_files import BenchModel
from benchmarks.sections import open_loop as section
from benchmarks.sections.open_loop import peak_of_peers
from benchmarks.sections.plan import FULL
from benchmarks.servers.kinds import FASTAPI, FASTAPI_PROCESSES, GRANIAN
from tests.benchmarks.serving.results import cell


def test_the_strongest_peer_is_no_unroll() -> None:
    found = [
        cell("unroll", "mixed", 64, 900.0),
        cell("unroll_tensorflow", "mixed", 64, 800.0),
        cell("bentoml", "mixed", 64, 200.0),
        cell("bentoml", "fixed", 64, 700.0),
        cell("litserve", "mixed", 1, 300.0),
    ]
    assert peak_of_peers(found, "mixed") == ("litserve", 300.0)
    assert peak_of_peers(found, "mixed", ("litserve",)) == ("bentoml", 200.0)
    with pytest.raises(ValueError, match="no peer"):
        peak_of_peers(found[:2], "mixed")


def test_the_open_loop_starts_a_server_for_each_round(
    tiny_model: BenchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(section, "ensure_model", lambda units: tiny_model)
    ports: list[int] = []
    drive = open_loop.drive_elsewhere
    monkeypatch.setattr(
        open_loop,
        "drive_elsewhere",
        lambda port, *rest: (ports.append(port), drive(port, *rest))[1],
    )
    plan = replace(FULL, servers=("unroll",), rounds=2, open_seconds=0.5)
    closed = [
        {"workload": "mixed", "server": "unroll", "per_second": 900.0},
        {"workload": "mixed", "server": GRANIAN, "per_second": 300.0},
        {"workload": "mixed", "server": FASTAPI_PROCESSES, "per_second": 400.0},
        {"workload": "mixed", "server": FASTAPI, "per_second": 200.0},
    ]
    strongest, other = section.measure(plan, {"closed": closed})
    assert (strongest["strongest"], strongest["rate"]) == (FASTAPI_PROCESSES, 200.0)
    assert (other["strongest"], other["rate"]) == (FASTAPI, 100.0)
    for each in (strongest, other):
        (row,) = each["rows"]
        assert row["server"] == "unroll"
        assert row["errors"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert len(set(ports)) == 4, "each rate and round has its server"
