"""The kernel is chosen once for all workers, and tried again where a refusal may pass.

The command that chooses is replaced: TensorFlow needs seconds to begin.
"""

import multiprocessing
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from app.errors import ModelRefused
from app.kernels import loader as loader_module
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.cudnn import CudnnRunner
from app.kernels.loader import KernelLoader
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.selected_kernel import Choice
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import verified_manifest
from tests.app.fakes import write_version
from tests.app.kernels.chosen import chosen


class Command:
    """Stands for the command; writes what it is told to, to where the arguments say."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, choice: Choice | None, status: int = 0
    ) -> None:
        self.calls: list[list[str]] = []
        self._choice = choice
        self._status = status
        monkeypatch.setattr(loader_module.subprocess, "run", self)

    def __call__(self, arguments: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(arguments)
        if self._choice is not None:
            self._choice.write(Path(arguments[5]))
        return subprocess.CompletedProcess(arguments, self._status)


def test_the_choice_is_made_once_for_all_workers(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(monkeypatch, chosen(models_dir, "onnxruntime"))
    folder = models_dir / "lstm" / "1"
    for _ in range(3):
        runner = KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
        assert isinstance(runner, OnnxRuntimeRunner)
    ((_, _, module, wanted, source, _, *sizes),) = command.calls
    assert (module, wanted, source) == ("app.kernels.selection", "auto", str(folder.resolve()))
    assert sizes[:4] == ["--max-rows", "2", "--max-steps", "16"]


def test_each_version_has_a_choice_of_its_own(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(monkeypatch, Choice("tensorflow"))
    for model in ("lstm", "gru", "lstm"):
        folder = models_dir / model / "1"
        KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert len(command.calls) == 2


def test_other_weights_under_the_same_number_have_a_choice_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(monkeypatch, Choice("refused", reason="told"))
    for created in ("2026", "2027", "2027"):
        shutil.rmtree(tmp_path / "tiny", ignore_errors=True)
        folder = write_version(tmp_path / "tiny", 1, created=created)
        with pytest.raises(ModelRefused, match="told"):
            KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert len(command.calls) == 2


def test_tensorflow_needs_no_choice(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(monkeypatch, None)
    folder = models_dir / "lstm" / "1"
    runner = KernelLoader("tensorflow", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert isinstance(runner, TensorFlowRunner)
    assert command.calls == []


def test_bfloat16_is_loaded_as_it_was_chosen(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Command(monkeypatch, chosen(models_dir, "bfloat16"))
    folder = models_dir / "lstm" / "1"
    runner = KernelLoader("bfloat16", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert isinstance(runner, Bfloat16Runner)


@pytest.mark.usefixtures("_a_gpu")
@pytest.mark.parametrize("rounded", [False, True])
def test_cudnn_is_loaded_as_it_was_chosen(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounded: bool
) -> None:
    command = Command(monkeypatch, Choice("cudnn"))
    folder = models_dir / "lstm" / "1"
    loader = KernelLoader("auto", 0, 16, tmp_path, tensor_float_32=rounded)
    assert isinstance(loader(folder, verified_manifest(folder)), CudnnRunner)
    assert tf.config.experimental.tensor_float_32_execution_enabled() is rounded
    assert ("--tensor-float-32" in command.calls[0]) is rounded
    assert command.calls[0][command.calls[0].index("--max-rows") + 1] == "0"


def test_where_the_gpu_has_gone_the_choice_is_made_again(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models_dir / "lstm" / "1"
    loader = KernelLoader("auto", 2, 16, tmp_path)
    Command(monkeypatch, Choice("cudnn"))
    for _ in range(2):
        with pytest.raises(ModelRefused, match="cuDNN needs a GPU: TensorFlow sees no GPU"):
            loader(folder, verified_manifest(folder))
    Command(monkeypatch, chosen(models_dir, "onnxruntime"))
    assert isinstance(loader(folder, verified_manifest(folder)), OnnxRuntimeRunner)


def test_a_model_that_was_refused_is_refused_to_every_worker(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(monkeypatch, Choice("refused", reason="it is not what it says"))
    folder = models_dir / "lstm" / "1"
    for _ in range(2):
        with pytest.raises(ModelRefused, match="it is not what it says"):
            KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert len(command.calls) == 1


def test_without_a_choice_tensorflow_runs_for_all_workers(
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when the kernel of the system kills the process for the memory it needs."""
    command = Command(monkeypatch, None, status=-9)
    folder = models_dir / "lstm" / "1"
    for _ in range(2):
        runner = KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
        assert isinstance(runner, TensorFlowRunner)
    assert len(command.calls) == 1
    told = "the process that chooses the kernel was ended by signal 9 (Killed): TensorFlow runs"
    assert told in caplog.text


def test_a_named_kernel_that_cannot_be_tried_is_refused_and_tried_again_by_the_next(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models_dir / "lstm" / "1"
    for executable, how in (
        ("false", "ended with status 1"),
        ("/absent", r"could not be started \(No such file or directory\)"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(loader_module.sys, "executable", executable)
            message = f"UNROLL_RUNNER=onnxruntime: the process that tries this kernel {how}"
            with pytest.raises(ModelRefused, match=message):
                KernelLoader("onnxruntime", 2, 16, tmp_path)(folder, verified_manifest(folder))
    Command(monkeypatch, chosen(models_dir, "onnxruntime"))
    runner = KernelLoader("onnxruntime", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert isinstance(runner, OnnxRuntimeRunner)


def test_a_choice_counts_however_the_process_ended(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Command(monkeypatch, chosen(models_dir, "onnxruntime"), status=-11)
    folder = models_dir / "lstm" / "1"
    runner = KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
    assert isinstance(runner, OnnxRuntimeRunner)


def _choose_slowly(folder: Path, home: Path, done: Any) -> None:
    """In a process of its own: tells when it makes the choice, and when it has it."""

    def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        done.put("chosen")
        Choice("refused", reason="told").write(Path(arguments[5]))
        return subprocess.CompletedProcess(arguments, 0)

    loader_module.subprocess.run = run  # type: ignore[assignment]
    try:
        KernelLoader("auto", 2, 16, home)(folder, verified_manifest(folder))
    except ModelRefused as error:
        done.put(str(error))


def test_workers_that_begin_together_choose_once(models_dir: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    done = context.Queue()
    arguments = (models_dir / "lstm" / "1", tmp_path, done)
    workers = [context.Process(target=_choose_slowly, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    told = sorted(done.get(timeout=60) for _ in range(5))
    for worker in workers:
        worker.join(60)
    assert told == ["chosen", *["told"] * 4]


def test_a_refusal_that_may_pass_is_not_kept(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not there yet, or other weights: the next who asks has it tried again."""
    folder = models_dir / "lstm" / "1"
    manifest = verified_manifest(folder)
    run = subprocess.run

    def for_others(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        return run([other if a == manifest.checksum else a for a in arguments], **options)

    monkeypatch.setattr(loader_module.subprocess, "run", for_others)
    loader = KernelLoader("onnxruntime", 2, 16, tmp_path)
    other = "0" * 64
    with pytest.raises(ModelRefused, match="was replaced"):
        loader(folder, manifest)
    other = manifest.checksum
    assert isinstance(loader(folder, manifest), OnnxRuntimeRunner)
