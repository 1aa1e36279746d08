"""Which kernel runs a model: never one that computes something else, never by a failure of one."""

import argparse
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import tensorflow as tf

from app.engine import model_runner as runner_module
from app.errors import ModelRefused
from app.kernels import selection, tensorflow_devices
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.cudnn import CudnnRunner
from app.kernels.loader import ROOT
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.selected_kernel import KIND, Choice
from app.kernels.selection import Chooser
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import verified_manifest
from tests.app.kernels.chosen import chosen
from tests.support.exported_models import raw_sequence
from tests.support.reference_model import Reference, assert_close

# Units of the last layer of `lstm`, whose c is the last part of a state.
LAST_STATE = 8
SECONDS = {TensorFlowRunner: 1.0, OnnxRuntimeRunner: 1.0, CudnnRunner: 1.0}


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[type, float]:
    """What each kernel is measured to take."""
    made: dict[type, float] = dict(SECONDS)
    monkeypatch.setattr(selection, "median_seconds", lambda runner, *_: made[type(runner)])
    return made


def test_auto_takes_the_faster(models_dir: Path, times: dict[type, float]) -> None:
    times[OnnxRuntimeRunner] = 0.5
    faster = chosen(models_dir, "auto")
    assert faster.kernel == "onnxruntime"
    assert faster.graphs
    times[OnnxRuntimeRunner] = 2.0
    assert chosen(models_dir, "auto") == Choice("tensorflow")


def test_auto_measures_both(models_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert chosen(models_dir, "auto").kernel in ("tensorflow", "onnxruntime")
    for rows in (1, 2):
        assert f"{rows} rows: ONNX Runtime is " in caplog.text


@pytest.mark.parametrize(("accelerator", "rows"), [(False, 64), (True, 512)])
def test_without_a_setting_chunks_are_as_large_as_the_devices_are_given(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, accelerator: bool, rows: int
) -> None:
    monkeypatch.setattr(runner_module, "on_accelerator", lambda _: accelerator)
    folder = models_dir / "lstm" / "1"
    chooser = Chooser(folder, verified_manifest(folder), 0, 4)
    assert len(chooser._probe(chooser._max_rows, "ragged")[0]) == rows


def test_auto_takes_no_kernel_of_a_processor_beside_an_accelerator(
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    times[OnnxRuntimeRunner] = 1e-9
    monkeypatch.setattr(selection, "on_accelerator", lambda _: True)
    assert chosen(models_dir, "auto").kernel == "tensorflow"
    assert "cuDNN is not used: ModelRefused: cuDNN needs a GPU" in caplog.text
    assert chosen(models_dir, "onnxruntime").kernel == "onnxruntime"


def test_where_cudas_libraries_are_missing_the_log_says_so(
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    times[OnnxRuntimeRunner] = 0.5
    assert chosen(models_dir, "auto").kernel == "onnxruntime"
    assert "driver" not in caplog.text
    for module in (selection, tensorflow_devices):
        monkeypatch.setattr(module, "accelerator_present", lambda: True)
    assert chosen(models_dir, "auto").kernel == "onnxruntime"
    assert "TensorFlow sees no GPU, only CPU:0, though there is a driver" in caplog.text


@pytest.mark.parametrize("wanted", ["tensorflow", "onnxruntime"])
def test_a_named_kernel_is_taken_whatever_it_takes(
    models_dir: Path, wanted: str, times: dict[type, float]
) -> None:
    times[OnnxRuntimeRunner] = 1e9 if wanted == "onnxruntime" else 1e-9
    assert chosen(models_dir, wanted).kernel == wanted


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "mixed"])
def test_the_graph_that_is_chosen_computes_the_model(models_dir: Path, model: str) -> None:
    folder = models_dir / model / "1"
    choice = chosen(models_dir, "onnxruntime", model)
    runner = OnnxRuntimeRunner(*choice.graphs, verified_manifest(folder))
    sequence = raw_sequence(np.random.default_rng(4), 16)
    zeros = np.zeros((1, runner.state_size), np.float32)
    outputs, _ = runner.run(sequence[np.newaxis], np.array([16], np.int32), zeros)
    assert_close(outputs[0], Reference(folder)(sequence)[0])


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
    assert chosen(models_dir, "auto").kernel == "tensorflow"
    assert "disagree on probe inputs" in caplog.text
    with pytest.raises(ModelRefused, match="disagree on probe inputs"):
        chosen(models_dir, "onnxruntime")


def test_auto_goes_on_without_a_kernel_that_cannot_be_built(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(OnnxRuntimeRunner, "__init__", fail)
    assert chosen(models_dir, "auto").kernel == "tensorflow"
    assert "ONNX Runtime is not used: RuntimeError: no such operator" in caplog.text
    with pytest.raises(RuntimeError, match="no such operator"):
        chosen(models_dir, "onnxruntime")


# bfloat16, which is only asked for by name.


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "mixed"])
def test_the_error_of_bfloat16_is_told(
    models_dir: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert chosen(models_dir, "bfloat16", model).kernel == "bfloat16"
    told = re.search(r"bfloat16: outputs differ .* by up to (\S+) of .* over 16 time", caplog.text)
    assert told is not None
    assert float(told[1]) < 0.05, "see test_runners.py"
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert float(told[1]) > 1e-4, "float32's is below 1e-5"


@pytest.mark.parametrize("factor", [2.0, np.nan])
@pytest.mark.parametrize("wrong", [0, 1])
def test_a_model_that_bfloat16_cannot_hold_is_refused(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, factor: float, wrong: int
) -> None:
    right = Bfloat16Runner.run

    def far_off(self: Bfloat16Runner, *arguments: Any) -> Any:
        results = list(right(self, *arguments))
        results[wrong] = results[wrong] * factor
        return results

    monkeypatch.setattr(Bfloat16Runner, "run", far_off)
    what = ("outputs", "states")[wrong]
    message = rf"in bfloat16 its {what} differ by .* limit is 0\.25"
    with pytest.raises(ModelRefused, match=message):
        chosen(models_dir, "bfloat16")


def make_wrong(monkeypatch: pytest.MonkeyPatch, when: Callable[[np.ndarray], bool]) -> None:
    """cuDNN's outputs are off by a part in a hundred, for some lengths of rows."""
    right = CudnnRunner.run

    def wrong(self: CudnnRunner, inputs: np.ndarray, lengths: np.ndarray, *state: Any) -> Any:
        outputs, final = right(self, inputs, lengths, *state)
        return outputs * (1.01 if when(lengths) else 1.0), final

    monkeypatch.setattr(CudnnRunner, "run", wrong)


@pytest.mark.usefixtures("_a_gpu")
@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "mixed"])
def test_beside_a_gpu_auto_takes_cudnn_if_it_is_faster(
    models_dir: Path, times: dict[type, float], model: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    times[CudnnRunner] = 0.25
    assert chosen(models_dir, "auto", model) == Choice("cudnn")
    for rows in (1, 2):
        assert f"{rows} rows: cuDNN is 4.00 times as fast as TensorFlow" in caplog.text
    times[CudnnRunner] = 2.0
    assert chosen(models_dir, "auto", model) == Choice("tensorflow")
    assert chosen(models_dir, "cudnn", model) == Choice("cudnn")


@pytest.mark.usefixtures("_a_gpu")
@pytest.mark.parametrize(
    ("lengths", "when"),
    [
        ("ragged", lambda lengths: len(set(lengths)) > 1 and lengths.all()),
        ("equal", lambda lengths: len(set(lengths)) == 1),
        ("some zero", lambda lengths: not lengths.all()),
    ],
)
def test_cudnn_has_to_agree_whatever_the_lengths(
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    caplog: pytest.LogCaptureFixture,
    lengths: str,
    when: Callable[[np.ndarray], bool],
) -> None:
    times[CudnnRunner] = 1e-9
    make_wrong(monkeypatch, when)
    told = f"cuDNN and TensorFlow disagree on probe inputs ({lengths} lengths)"
    assert chosen(models_dir, "auto").kernel == "tensorflow"
    assert told in caplog.text
    with pytest.raises(ModelRefused, match=re.escape(told)):
        chosen(models_dir, "cudnn")


@pytest.mark.usefixtures("_a_gpu")
def test_the_error_of_tensor_float_32_is_told(
    models_dir: Path, times: dict[type, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    assert chosen(models_dir, "cudnn").kernel == "cudnn"
    assert not enabled()
    assert "TensorFloat-32" not in caplog.text
    assert chosen(models_dir, "cudnn", rounded=True).kernel == "cudnn"
    assert enabled()
    assert re.search(r"TensorFloat-32: outputs differ .* by up to 0\.0000 of", caplog.text)


@pytest.mark.usefixtures("_a_gpu")
@pytest.mark.parametrize(("part", "refused"), [(0.001, False), (0.1, True), (np.nan, True)])
def test_what_is_no_rounding_is_refused(
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    part: float,
    refused: bool,
) -> None:
    rounds = tf.config.experimental.tensor_float_32_execution_enabled
    right = CudnnRunner.run

    def rounded(self: CudnnRunner, *arguments: Any) -> Any:
        outputs, final = right(self, *arguments)
        return (outputs * (1 + part) if rounds() else outputs), final

    monkeypatch.setattr(CudnnRunner, "run", rounded)
    assert chosen(models_dir, "cudnn").kernel == "cudnn"
    if refused:
        with pytest.raises(ModelRefused, match="in TensorFloat-32 its outputs differ by"):
            chosen(models_dir, "cudnn", rounded=True)
    else:
        assert chosen(models_dir, "cudnn", rounded=True).kernel == "cudnn"


@pytest.mark.parametrize("driver", [False, True])
def test_cudnn_by_name_without_a_gpu_is_refused(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, driver: bool
) -> None:
    monkeypatch.setattr(tensorflow_devices, "accelerator_present", lambda: driver)
    message = "cuDNN needs a GPU: TensorFlow sees no GPU, only CPU:0"
    with pytest.raises(ModelRefused, match=message + (", though" if driver else "$")):
        chosen(models_dir, "cudnn")


@pytest.mark.usefixtures("_a_gpu")
def test_a_gpu_that_is_full_refuses_for_the_time_being(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(CudnnRunner, "run", fail)
    arguments = argparse.Namespace(
        wanted="cudnn",
        folder=models_dir / "lstm" / "1",
        checksum="",
        max_rows=2,
        max_steps=16,
        tensor_float_32=False,
    )
    full = "CPU:0 has no memory left: OOM when allocating"
    assert selection.choose(arguments) == Choice("refused", reason=full, lasting=False)
    arguments.wanted = "auto"
    assert selection.choose(arguments) == Choice("tensorflow")
    assert f"cuDNN is not used: DeviceFailed: {full}" in caplog.text


@pytest.mark.parametrize("whole", [True, False])
def test_the_command_chooses_or_says_why_it_refuses(
    models_dir: Path, tmp_path: Path, whole: bool
) -> None:
    folder = models_dir / ("lstm" if whole else "absent") / "1"
    command = [sys.executable, "-m", "app.kernels.selection", "onnxruntime", str(folder)]
    sizes = ["--max-rows", "2", "--max-steps", "16"]
    subprocess.run([*command, str(tmp_path), *sizes], cwd=ROOT, check=True, timeout=120)
    choice = Choice.read(tmp_path)
    assert choice is not None
    if whole:
        assert (choice.kernel, choice.reason) == ("onnxruntime", "")
        assert choice.graphs
    else:
        assert choice.kernel == "refused"
        assert "absent" in choice.reason
    assert json.loads((tmp_path / KIND).read_text())["kernel"] == choice.kernel
