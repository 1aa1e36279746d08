"""Which kernel runs a model: never one that computes something else, never by a failure of one."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engine.runner import ModelRunner
from app.engine.runners import choose
from app.engine.runners.choose import ChosenRunner
from app.engine.runners.onnxruntime import OnnxRuntimeRunner
from app.engine.runners.tensorflow import TensorFlowRunner
from app.errors import ModelRefused
from app.manifest import verified_manifest
from tests.exports import raw_sequence
from tests.reference import Reference, assert_close

# Units of the last layer of `lstm`, whose c is the last part of a state.
LAST_STATE = 8
SECONDS = {TensorFlowRunner: 1.0, OnnxRuntimeRunner: 1.0}


def chosen(models_dir: Path, choice: Any, model: str = "lstm") -> ChosenRunner:
    folder = models_dir / model / "1"
    runner = ChosenRunner(choice, folder, verified_manifest(folder))
    runner.warm_up(2, 16)
    return runner


def kind(runner: ChosenRunner) -> type[ModelRunner]:
    kinds: dict[str, type[ModelRunner]] = {k.__name__: k for k in SECONDS}
    return kinds[type(runner.run.__self__).__name__]  # type: ignore[attr-defined]


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[type, float]:
    """What each kernel is measured to take."""
    made: dict[type, float] = dict(SECONDS)
    monkeypatch.setattr(choose, "median_seconds", lambda runner, *_: made[type(runner)])
    return made


def test_auto_takes_the_faster(models_dir: Path, times: dict[type, float]) -> None:
    times[OnnxRuntimeRunner] = 0.5
    assert kind(chosen(models_dir, "auto")) is OnnxRuntimeRunner
    times[OnnxRuntimeRunner] = 2.0
    assert kind(chosen(models_dir, "auto")) is TensorFlowRunner


def test_auto_measures_both(models_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runner = chosen(models_dir, "auto")
    assert "times as fast as TensorFlow" in caplog.text
    assert f"runs on {kind(runner).__name__}" in caplog.text


@pytest.mark.parametrize("choice", ["tensorflow", "onnxruntime"])
@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "mixed"])
def test_a_named_kernel_is_taken_and_computes_the_model(
    models_dir: Path, choice: str, model: str, times: dict[type, float]
) -> None:
    times[OnnxRuntimeRunner] = 1e9 if choice == "onnxruntime" else 1e-9
    runner = chosen(models_dir, choice, model)
    expected_kind = OnnxRuntimeRunner if choice == "onnxruntime" else TensorFlowRunner
    assert kind(runner) is expected_kind
    sequence = raw_sequence(np.random.default_rng(4), 16)
    zeros = np.zeros((1, runner.state_size), np.float32)
    outputs, _ = runner.run(sequence[np.newaxis], np.array([16], np.int32), zeros)
    assert_close(outputs[0], Reference(models_dir / model / "1")(sequence)[0])


def test_a_kernel_that_computes_something_else_is_not_taken(
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    times[OnnxRuntimeRunner] = 1e-9
    right = OnnxRuntimeRunner.run

    def wrong(self: OnnxRuntimeRunner, *arguments: Any) -> Any:
        # The outputs are right and one layer's state is off by one part in a hundred.
        outputs, state = right(self, *arguments)
        state[:, -LAST_STATE:] *= 1.01
        return outputs, state

    monkeypatch.setattr(OnnxRuntimeRunner, "run", wrong)
    assert kind(chosen(models_dir, "auto")) is TensorFlowRunner
    assert "disagree on probe inputs" in caplog.text
    with pytest.raises(ModelRefused, match="disagree on probe inputs"):
        chosen(models_dir, "onnxruntime")


def test_auto_goes_on_without_a_kernel_that_cannot_be_built(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(choose, "OnnxRuntimeRunner", fail)
    assert kind(chosen(models_dir, "auto")) is TensorFlowRunner
    assert "ONNX Runtime is not used: RuntimeError: no such operator" in caplog.text
