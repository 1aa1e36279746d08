"""What the GPU's benchmark is made of: pipes, limits, traces, how busy a card is."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XPlane, XSpace

from benchmarks.gpu import card, plan, sections
from benchmarks.gpu.recorder import Recorder
from benchmarks.gpu.service import last_complaint
from benchmarks.processes.side import Side, SideFailed, last_line, one_line
from benchmarks.training import trace

SIDE = "tests.benchmarks.processes.quiet_side"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "side.log"


def test_a_side_answers_and_its_errors_are_told(log: Path) -> None:
    side = Side(SIDE, [], {}, log)
    try:
        assert side.wait() == {"version": 1}
        assert side.ask("double", value=3) == {"value": 6}
        with pytest.raises(SideFailed, match="ValueError: two lines"):
            side.ask("fail")
        assert side.ask("double", value=4) == {"value": 8}, "it goes on"
        with pytest.raises(SideFailed, match="the last word"):
            side.ask("leave")
        with pytest.raises(SideFailed, match="the last word"):
            side.ask("double", value=5)
    finally:
        side.close()
    assert "a library's own print" in log.read_text()


def test_a_side_that_does_not_answer_is_ended(log: Path) -> None:
    side = Side(SIDE, [], {}, log)
    try:
        side.wait()
        with pytest.raises(SideFailed, match="no answer within 0 s"):
            side.ask("wait", timeout_s=0.2)
    finally:
        side.close()


def test_a_side_that_does_not_start_says_why(log: Path) -> None:
    side = Side(SIDE, ["absent"], {}, log)
    try:
        with pytest.raises(SideFailed, match="ModuleNotFoundError: No module named 'torch'"):
            side.wait()
    finally:
        side.close()


def test_errors_are_one_line(tmp_path: Path) -> None:
    assert one_line(ValueError("a\n b")) == "ValueError: a b"
    assert one_line(KeyError()) == "KeyError"
    empty = tmp_path / "log"
    empty.write_text("\n")
    assert last_line(empty) == "it ended without a word"
    empty.write_text("x ERROR app: refused\nx INFO app: bye\n")
    assert last_complaint(empty) == "x ERROR app: refused"


def test_a_section_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A child in a session of its own, stopped, as servers are while others are measured."""
    pid = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {pid}; kill -STOP $$; sleep 60' & sleep 60"
    group = sections.Group(["sh", "-c", script], tmp_path / "log")
    while not (pid.is_file() and pid.read_text().strip()):
        time.sleep(0.01)
    assert group.wait(0.1) == "ended after 0 s, its limit"
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    # It may wait to be buried.
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_what_went_wrong_in_a_section_is_told_in_a_line(tmp_path: Path) -> None:
    group = sections.Group([sys.executable, "-c", "raise ValueError('no')"], tmp_path / "log")
    assert group.wait(30) == "ValueError: no"
    assert sections.Group(["true"], tmp_path / "log").wait(30) is None


def test_sections_go_on_after_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models cannot be made, and training ends by itself without a result."""
    monkeypatch.setattr(sections, "BUILD", tmp_path)
    monkeypatch.setattr(
        sections, "Group", lambda command, log: _failing(command[2].rpartition(".")[2])
    )
    small = replace(plan.QUICK, service=None)
    kept = []
    results = {"sections": {}}
    sections.run(small, results, lambda: kept.append(list(results["sections"])))
    assert kept == [["training"], ["training", "chunks"], ["training", "chunks", "devices"]]
    errors = {name: each["error"] for name, each in results["sections"].items()}
    assert errors == {
        "training": "training: no",
        "chunks": "the models: prepare: no",
        "devices": "devices: no",
    }


def _failing(name: str) -> object:
    class Failing:
        def wait(self, timeout_s: float) -> str:
            return f"{name}: no"

        def end(self) -> None:
            pass

    return Failing()


def test_what_is_recorded_is_whole(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.json", 60.0)
    recorder.write({"a": 1})
    recorder.write({"a": 2})
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert recorder.fits(30.0)
    assert not recorder.fits(61.0)


@pytest.mark.parametrize(("given", "most_s"), [(plan.FULL, 300), (plan.QUICK, 200)])
def test_limits_keep_to_the_time(given: plan.Plan, most_s: float) -> None:
    assert sum(part.limit_s for part in given.sections().values()) < most_s


def test_plans_pass_as_json() -> None:
    given = plan.FULL.training
    assert given
    assert plan.dump(plan.load_training(plan.dump(given))) == plan.dump(given)
    assert plan.load_devices(plan.dump(plan.FULL.devices)) == plan.FULL.devices
    assert plan.FULL.models() == [512, 100]


def _line(plane: XPlane, name: str, events: list[tuple[str, float, float, str]]) -> None:
    line = plane.lines.add(name=name, timestamp_ns=1_000_000)
    plane.stat_metadata[1].name = "kernel_annotation"
    for title, start_ms, end_ms, annotation in events:
        number = len(plane.event_metadata) + 1
        plane.event_metadata[number].name = title
        event = line.events.add(
            metadata_id=number,
            offset_ps=int(start_ms * 1e9),
            duration_ps=int((end_ms - start_ms) * 1e9),
        )
        event.stats.add(metadata_id=1, str_value=annotation)


@pytest.fixture
def space() -> XSpace:
    """Two streams of a card, what sums them up, and a thread of the host."""
    found = XSpace()
    gpu = found.planes.add(name="/device:GPU:0")
    _line(
        gpu,
        "Stream #13(Kernel,MemcpyH2D)",
        [
            ("MemcpyH2D", 0, 1, ""),
            ("LSTM_elementWise", 1, 3, "layer_0_chunk_0/CudnnRNNV3:CudnnRNNV3"),
            ("sgemm", 2, 4, "layer_1_chunk_0/CudnnRNNV3:CudnnRNNV3"),
            ("MemcpyD2H", 8, 10, ""),
        ],
    )
    _line(gpu, "Stream #20(Kernel)", [("sgemm", 3.5, 6, "layer_2_chunk_0_gradient/x:x")])
    _line(gpu, "TensorFlow Ops", [("all", 0, 99, "layer_0_chunk_0/x:x")])
    _line(found.planes.add(name="/host:CPU"), "thread", [("op", 0, 5, "layer_3_chunk_1/a")])
    return found


def test_a_trace_tells_copies_from_kernels(space: XSpace, tmp_path: Path) -> None:
    (tmp_path / "host.xplane.pb").write_bytes(space.SerializeToString())
    events = trace.card_events(trace.read(tmp_path))
    assert len(events) == 5
    assert trace.milliseconds(events) == pytest.approx(
        {"to_card": 1.0, "kernels": 5.0, "to_host": 2.0}
    )


def test_a_trace_tells_when_two_devices_are_busy_at_once(space: XSpace) -> None:
    devices = {0: "GPU:0", 1: "GPU:0", 2: "GPU:1", 3: "GPU:1"}
    busy = trace.by_device(trace.card_events(space), devices)
    assert {name: trace.length(each) for name, each in busy.items()} == pytest.approx(
        {"GPU:0": 3.0, "GPU:1": 2.5}
    )
    assert trace.common(*busy.values()) == pytest.approx(0.5)
    host = trace.by_device(trace.host_events(space), devices)
    assert {name: trace.length(each) for name, each in host.items()} == {"GPU:0": 0, "GPU:1": 5}


@pytest.fixture
def _nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says a card's name, or how busy it is again and again."""
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*-lms*) while :; do echo 40; echo '[N/A]'; echo 60; sleep 0.05; done;;\n"
        "*) echo 'A Card, 580.1, 81559 MiB, 700.00 W, 1980 MHz';;\n"
        "esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("_nvidia_smi")
def test_how_busy_the_card_is_is_a_mean() -> None:
    assert card.ask_card() == dict(
        zip(card.QUERY, ("A Card", "580.1", "81559 MiB", "700.00 W", "1980 MHz"), strict=True)
    )
    busy = card.Busy()
    try:
        while busy.last(60.0) is None:
            time.sleep(0.01)
        time.sleep(0.2)
        assert busy.last(60.0) == pytest.approx(0.5, abs=0.1)
        assert busy.last(0.0) is None
    finally:
        busy.close()


def test_without_a_card_nothing_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert str(card.ask_card()).startswith("FileNotFoundError")
    busy = card.Busy()
    assert busy.last(60.0) is None
    busy.close()


def test_a_card_that_tensorflow_cannot_ask_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *given, **named: subprocess.CompletedProcess([], 1, "", "a\nImportError: no\n"),
    )
    with pytest.raises(card.NoGpu, match="^ImportError: no$"):
        card.look()
