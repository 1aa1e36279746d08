"""What the GPU's benchmark is made of: plans, limits, and what is recorded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu import plan, section_runner
from benchmarks.gpu.recorder import Recorder


def test_sections_go_on_after_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models cannot be made, and training ends by itself without a result."""
    monkeypatch.setattr(section_runner, "BUILD", tmp_path)
    monkeypatch.setattr(section_runner, "Process", lambda command, *_: _failing(command))
    small = replace(plan.QUICK, service=None)
    kept = []
    results = {"sections": {}}
    section_runner.run(small, results, lambda: kept.append(list(results["sections"])))
    assert kept == [["training"], ["training", "chunks"], ["training", "chunks", "devices"]]
    errors = {name: each["error"] for name, each in results["sections"].items()}
    assert errors == {
        "training": "training: no",
        "chunks": "the models: make: no",
        "devices": "devices: no",
    }


def _failing(command: list[str]) -> object:
    name = next(part for part in command if part.startswith("benchmarks.")).rpartition(".")[2]

    class Failing:
        def wait(self, timeout_s: float) -> str:
            return f"{name}: no"

        def kill(self) -> None:
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
