"""Sections of the GPU's benchmark with their real processes, on the processor and tiny."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import chunks, section_runner, service
from benchmarks.gpu.page import render
from benchmarks.gpu.plan import (
    ChunksPlan,
    DevicesPlan,
    Plan,
    ServicePlan,
    TrainingPlan,
)
from benchmarks.gpu.recorder import Recorder
from benchmarks.kernels import unroll_kernels
from benchmarks.load import wrk
from benchmarks.model_files import BenchModel
from benchmarks.training.case import WAYS, Case
from tests.benchmarks.gpu.results import results

TRAINING = TrainingPlan(
    cases=(Case(layers=2, units=4, rows=3, steps=5, inputs=3, outputs=2),),
    rounds=2,
    burst_s=0.01,
    groups=("plain",),
    limit_s=120.0,
)
DEVICES = DevicesPlan(
    case=Case(layers=4, units=8, rows=6, steps=8, inputs=3, outputs=2),
    rounds=2,
    burst=2,
    limit_s=120.0,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two sections with all of their sides; the page is written from them."""
    found: dict[str, Any] = {"sections": {}}
    plan = Plan(TRAINING, None, None, DEVICES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(section_runner, "BUILD", tmp_path_factory.mktemp("build"))
        # What is not there to be seen: PyTorch, and a card.
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        section_runner.run(plan, found, lambda: None)
    page = render({**results(), "sections": found["sections"]})
    return {**found["sections"], "page": page}


def test_sides_train_in_turns(measured: dict[str, Any]) -> None:
    training = measured["training"]
    assert training["error"] is None
    cells = {(c["label"], c["group"]): c for c in training["result"]["cells"]}
    for label in ("Unroll, cuDNN", "Unroll, loops", "Keras"):
        cell = cells[label, "plain"]
        assert "error" not in cell
        assert len(cell["seconds"]) == TRAINING.rounds
        assert all(0 < seconds < 10 for seconds in cell["seconds"])
        assert cell["cudnn"] == {"forward": 0, "backward": 0}, "there is no GPU"
        assert f"| {label} | " in measured["page"]
    assert cells["Unroll, cuDNN", "plain"]["loss"] == pytest.approx(
        cells["Unroll, loops", "plain"]["loss"], rel=0.5
    )


def test_one_device_and_two_take_turns_and_are_traced(measured: dict[str, Any]) -> None:
    devices = measured["devices"]
    assert devices["error"] is None
    found = devices["result"]
    assert found["devices"] == ["CPU:0", "CPU:0", "CPU:1", "CPU:1"]
    assert set(found["seconds"]) == {*WAYS, "one device"}
    for way in WAYS:
        trace = found["traces"][way]
        assert trace["source"] == "threads of the host", "there is no card"
        assert all(busy > 0 for busy in trace["busy_ms"].values())
        assert 0 <= trace["both_ms"] <= min(trace["busy_ms"].values()) + 1e-6
    assert "| layer after layer | " in measured["page"]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


def test_kernels_run_chunks_and_one_that_cannot_says_why(
    tiny_model: BenchModel, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "bench_model", lambda units: tiny_model)
    loaders = unroll_kernels._LOADERS | {unroll_kernels.CUDNN: _no_gpu}
    monkeypatch.setattr(unroll_kernels, "_LOADERS", loaders)
    plan = ChunksPlan(units=(6,), rows=(1, 3), steps=(4,), rounds=2, burst_s=0.01, limit_s=60.0)
    chunks.Section(plan, Recorder(recorded, plan.limit_s)).run()
    cells = json.loads(recorded.read_text())["cells"]
    assert len(cells) == 2 * len(chunks.KERNELS)
    samples = {}
    for cell in cells:
        if cell["kernel"] == chunks.CUDNN:
            assert cell["error"] == "ValueError: no GPU"
            continue
        assert len(cell["seconds"]) == plan.rounds
        samples.setdefault(cell["rows"], []).append(cell["sample"])
    for first, second in samples.values():
        assert first == pytest.approx(second, abs=1e-5), "kernels round in other orders"


def _no_gpu(*given: object) -> object:
    raise ValueError("no GPU")


def test_the_time_of_a_call_is_split(tiny_model: BenchModel) -> None:
    """By the kernel that is here; without a card the trace says nothing of one."""
    cell: dict[str, Any] = {"rows": 2, "steps": 4}
    runner = unroll_kernels.load_runner(unroll_kernels.TENSORFLOW, tiny_model.folder)
    runner.set_limits(2, 4)
    chunks.split(cell, runner)
    assert cell["traced_ms"] > 0
    assert set(cell["copies_ms"]) == {"to_card", "to_host"}
    assert "split_ms" not in cell


def test_large_chunks_are_left_out_where_the_processor_is_slow() -> None:
    place = {"units": 6, "kernel": chunks.CPU}
    known = [{**place, "rows": 2, "steps": 10, "once_s": 0.5}]
    cell = {**place, "rows": 8, "steps": 10}
    assert chunks._predicted(known, cell) == pytest.approx(2.0)
    assert chunks._predicted([], cell) == 0.0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_service_is_measured_and_a_server_that_is_not_ready_is_told(
    tiny_model: BenchModel, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "bench_model", lambda units: tiny_model)
    monkeypatch.setattr(service, "STAGGER_S", 0.1)
    plan = ServicePlan(
        units=6, workers=(1,), loads=(("mixed", 4),), rounds=1, seconds=1.0, start_s=60.0
    )
    kinds = [service.on_gpu(1), service.CPU]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    service.Section(plan, Recorder(recorded, 120.0), kinds).run()
    found = json.loads(recorded.read_text())
    assert "cuDNN needs a GPU" in found["servers"]["gpu_cudnn_1"]["error"]
    (cell,) = found["cells"]
    assert cell["server"] == "cpu_onnxruntime"
    assert cell["errors"] == 0
    assert cell["cores"] > 0
    assert cell["gpu_busy"] is None


def test_without_wrk_the_service_is_not_started(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    section = service.Section(ServicePlan(), Recorder(recorded, 9.0), [service.CPU])
    with pytest.raises(wrk.WrkFailed, match="wrk is not installed"):
        section.run()


def test_rounds_are_summed_up_to_medians() -> None:
    cells = results()["sections"]["service"]["result"]["cells"]
    first, second = service.summed_up(cells)
    assert (first["server"], first["per_second"], first["gpu_busy"]) == ("gpu_cudnn_1", 2500, 0.6)
    assert (second["rounds"], second["gpu_busy"]) == ([500.0, 500.0], None)
