"""Beside a GPU: cuDNN where it agrees and is faster, never one that computes something else."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app.engine import runner_interface as runner_module
from app.errors import DeviceFailed, ModelRefused
from app.kernels import accelerator, cudnn, tensorflow_devices
from app.kernels.accelerator import Comparison
from app.kernels.cudnn import CudnnRunner
from app.kernels.loader import KernelLoader
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import verified_manifest


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[type, float]:
    """What each kernel is measured to take."""
    made: dict[type, float] = {TensorFlowRunner: 1.0, CudnnRunner: 1.0}
    monkeypatch.setattr(accelerator, "median_seconds", lambda runner, *_: made[type(runner)])
    return made


@pytest.fixture
def chosen(models_dir: Path, tmp_path: Path) -> Callable[..., str]:
    """The kernel that is taken, each time anew, with small chunks."""
    count = iter(range(100))

    def choose(wanted: Any, model: str = "lstm", rounded: bool = False) -> str:
        home = tmp_path / str(next(count))
        home.mkdir()
        folder = models_dir / model / "1"
        loader = KernelLoader(wanted, 2, 16, home, tensor_float_32=rounded)
        return loader(folder, verified_manifest(folder)).kernel

    return choose


@pytest.mark.parametrize(("on_accelerator", "rows"), [(False, 64), (True, 512)])
def test_without_a_setting_chunks_are_as_large_as_the_devices_are_given(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, on_accelerator: bool, rows: int
) -> None:
    monkeypatch.setattr(runner_module, "on_accelerator", lambda _: on_accelerator)
    folder = models_dir / "lstm" / "1"
    comparison = Comparison(folder, verified_manifest(folder), 0, 4)
    assert len(comparison._chunk(comparison._max_rows, "ragged")[0]) == rows


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
    chosen: Callable[..., str],
    times: dict[type, float],
    model: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    times[CudnnRunner] = 0.25
    assert chosen("auto", model) == "cudnn"
    for rows in (1, 2):
        assert f"{rows} rows: cuDNN is 4.00 times as fast as TensorFlow" in caplog.text
    times[CudnnRunner] = 2.0
    assert chosen("auto", model) == "tensorflow"
    assert chosen("cudnn", model) == "cudnn"


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
    chosen: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    caplog: pytest.LogCaptureFixture,
    lengths: str,
    when: Callable[[np.ndarray], bool],
) -> None:
    times[CudnnRunner] = 1e-9
    make_wrong(monkeypatch, when)
    told = f"cuDNN and TensorFlow disagree on {lengths} lengths"
    assert chosen("auto") == "tensorflow"
    assert told in caplog.text
    with pytest.raises(ModelRefused, match=re.escape(told)):
        chosen("cudnn")


@pytest.mark.usefixtures("_a_gpu")
def test_the_error_of_tensor_float_32_is_told(
    chosen: Callable[..., str], times: dict[type, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    assert chosen("cudnn") == "cudnn"
    assert not enabled()
    assert "outputs differ" not in caplog.text
    assert chosen("cudnn", rounded=True) == "cudnn"
    assert enabled()
    assert re.search(r"cudnn: outputs differ .* by up to 0\.0000 of", caplog.text)


@pytest.mark.usefixtures("_a_gpu")
@pytest.mark.parametrize(("part", "refused"), [(0.001, False), (0.1, True), (np.nan, True)])
def test_what_is_no_rounding_is_refused(
    chosen: Callable[..., str],
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
    assert chosen("cudnn") == "cudnn"
    if refused:
        with pytest.raises(
            ModelRefused,
            match="cuDNN in TensorFloat-32 and TensorFlow disagree .* outputs differ by",
        ):
            chosen("cudnn", rounded=True)
    else:
        assert chosen("cudnn", rounded=True) == "cudnn"


@pytest.mark.parametrize("driver", [False, True])
def test_cudnn_by_name_without_a_gpu_is_refused(
    chosen: Callable[..., str], monkeypatch: pytest.MonkeyPatch, driver: bool
) -> None:
    monkeypatch.setattr(tensorflow_devices, "accelerator_present", lambda: driver)
    message = "cuDNN needs a GPU: TensorFlow sees no GPU, only CPU:0"
    with pytest.raises(ModelRefused, match=message + (", though" if driver else "$")):
        chosen("cudnn")


@pytest.mark.usefixtures("_a_gpu")
def test_a_gpu_that_is_full_refuses_for_the_time_being(
    chosen: Callable[..., str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(CudnnRunner, "run", fail)
    full = "CPU:0 has no memory left: OOM when allocating"
    with pytest.raises(DeviceFailed, match=full):
        chosen("cudnn")
    assert chosen("auto") == "tensorflow"
    assert f"cuDNN is not used: DeviceFailed: {full}" in caplog.text


@pytest.mark.usefixtures("_a_gpu")
def test_workers_compare_once_and_anew_where_the_gpu_has_gone(
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[type, float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    folder = models_dir / "lstm" / "1"
    manifest = verified_manifest(folder)
    loader = KernelLoader("auto", 2, 16, tmp_path)
    times[CudnnRunner] = 0.25
    for _ in range(3):
        assert loader(folder, manifest).kernel == "cudnn"
    assert caplog.text.count("2 rows: cuDNN is") == 1
    here = cudnn.gpus
    monkeypatch.setattr(cudnn, "gpus", list)
    with pytest.raises(ModelRefused, match="cuDNN needs a GPU"):
        loader(folder, manifest)
    monkeypatch.setattr(cudnn, "gpus", here)
    times[CudnnRunner] = 2.0
    for _ in range(2):
        assert loader(folder, manifest).kernel == "tensorflow"
    assert caplog.text.count("2 rows: cuDNN is") == 2
