"""One small round of everything, with real servers: does the benchmark itself work?"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import serving
from benchmarks.load import open_loop as openloop
from benchmarks.load import wrk
from benchmarks.load.workloads import WORKLOADS, make
from benchmarks.models import files as places
from benchmarks.models.files import BenchModel
from benchmarks.sections import registry as sections
from benchmarks.sections.bound import find_bound
from benchmarks.sections.plan import FULL, PROCESSES, QUICK, Plan
from benchmarks.servers import kinds as servers
from benchmarks.servers import rounds
from benchmarks.serving import kept, parse_arguments, plan_of, run
from tests.benchmarks.report.results import Results, kernel, origin


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    """A tiny one, in all forms, which agree."""
    from benchmarks.models import make as models

    build = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            models, "bench_model", lambda units: BenchModel(units, build / f"lstm{units}")
        )
        return models.ensure(6)


@pytest.fixture(autouse=True)
def _build_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (places, servers, wrk):
        monkeypatch.setattr(module, "BUILD", tmp_path)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_round_against_unroll(model: BenchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "expected", lambda model: answers(model))
    workloads = [make(name) for name in WORKLOADS]
    with rounds.running([servers.KINDS["unroll"]], model, workloads) as started:
        (server,) = started
        for workload in workloads:
            (cell,) = rounds.measure(started, workload, clients=4, rounds=1, seconds=1)
            assert cell.errors == 0
            assert cell.per_second > 1
            assert 0 < cell.p50_ms <= cell.p99_ms
            assert cell.core_s > 0
        rounds.check_together(started, model, workloads)
    assert server.process.pids() == []


def test_the_open_loop_starts_a_server_for_each_round(
    model: BenchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "expected", lambda model: answers(model))
    monkeypatch.setattr(sections, "ensure_model", lambda units: model)
    ports: list[int] = []
    drive = openloop.drive_elsewhere
    monkeypatch.setattr(
        openloop, "drive_elsewhere", lambda port, *rest: (ports.append(port), drive(port, *rest))[1]
    )
    plan = replace(FULL, servers=("unroll",), rounds=2, open_seconds=0.5)
    closed = [
        {"workload": "mixed", "server": "unroll", "per_second": 900.0},
        {"workload": "mixed", "server": PROCESSES, "per_second": 400.0},
        {"workload": "mixed", "server": "fastapi_onnxruntime", "per_second": 200.0},
    ]
    strongest, other = sections.open_loop(plan, {"closed": closed})
    assert (strongest["strongest"], strongest["rate"]) == (PROCESSES, 200.0)
    assert (other["strongest"], other["rate"]) == ("fastapi_onnxruntime", 100.0)
    for each in (strongest, other):
        (row,) = each["rows"]
        assert row["server"] == "unroll"
        assert row["errors"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert len(set(ports)) == 4, "each rate and round has its server"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_app_without_a_kernel_answers(model: BenchModel) -> None:
    from benchmarks.sections import bound

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "expected", lambda model: {})
        patch.setattr(bound, "CLIENTS", (2,))
        found = find_bound(model, rounds=1, seconds=1, kernels=kernel())
    assert 0 < found.http_core_s < 0.1
    assert found.per_second == pytest.approx(
        found.cores / (found.http_core_s + found.kernel_core_s)
    )


def answers(model: BenchModel) -> dict[str, object]:
    """As `reference.expected`, in this process."""
    from benchmarks.models import reference

    path = model.home / "expected.npz"
    reference._write(model, path)
    import numpy as np

    with np.load(path) as stored:
        return dict(stored)


def test_options_choose_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*options: str) -> tuple[tuple[str, ...], str, str]:
        monkeypatch.setattr("sys.argv", ["serving", *options])
        chosen, folder, file = plan_of(parse_arguments())
        return chosen.sections, folder.name, file.name

    assert plan()[1:] == ("docs", "results.json")
    assert plan("--quick")[2] == "quick.json"
    assert plan("--clients", "64")[0] == ("closed",)
    assert plan("--clients", "64")[2] == "part.json"
    assert plan("--only", "open,bound") == (("open", "bound"), "docs", "results.json")


def test_each_section_keeps_where_it_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "RUN", {name: lambda *_: [] for name in ("closed", "open")})
    file = tmp_path / "results.json"
    run(replace(QUICK, sections=("closed", "open")), {}, file, origin())
    later = origin() | {"command": "later", "commit": "fedcba", "rounds": 1}
    run(replace(QUICK, sections=("open",)), kept(file, ("open",), later), file, later)
    measured = json.loads(file.read_text())["measured"]
    assert [measured[name]["commit"] for name in ("closed", "open")] == ["abcdef", "fedcba"]
    assert [measured[name]["rounds"] for name in ("closed", "open")] == [3, 1]
    assert measured["closed"]["command"] == origin()["command"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"machine": {"cpu": "Another"}}, "'closed' was measured on another machine"),
        ({"versions": {"python": "3.12"}}, "'closed' was measured with other versions"),
    ],
)
def test_a_page_does_not_mix_machines_or_versions(
    tmp_path: Path, other: Results, message: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"closed": [], "measured": {"closed": origin()}}))
    with pytest.raises(ValueError, match=message):
        kept(file, ("open",), origin() | other)
    assert kept(file, ("closed",), origin() | other)["closed"] == []


def test_results_that_do_not_say_where_they_are_from_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"closed": [], "commits": {"closed": "abcdef"}}))
    with pytest.raises(ValueError, match=r"does not say .*: run without --only"):
        kept(file, ("open",), origin())


def test_slow_servers_get_fewer_rounds_and_others_a_part() -> None:
    plan = Plan(slow=("bentoml",), slow_rounds=1, parts={"ray_serve": ("fixed",)}, rounds=3)
    assert [plan.rounds_of(name) for name in ("unroll", "bentoml")] == [3, 1]
    assert plan.has("unroll", "many")
    assert plan.has("ray_serve", "fixed")
    assert not plan.has("ray_serve", "mixed")


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_plans_name_servers_that_there_are(plan: Plan) -> None:
    for names in (plan.servers, plan.parts, plan.slow, plan.large_servers, plan.other_kernels):
        assert set(names) <= set(servers.KINDS)


def test_unknown_names_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["serving", "--servers", "unroll,nope"])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert "no 'nope'; there are unroll" in capsys.readouterr().err
