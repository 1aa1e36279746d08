"""Which kernel runs a model, and that TensorFlow is imported only where it runs one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelRefused
from app.kernels import loader as loader_module
from app.kernels.loader import KernelLoader
from app.manifest import CHUNK, verified_manifest
from tests.support.copies import copy_of

# Loads what its arguments name, and tells the kernel and the large libraries that were imported.
LOAD = """
import json, sys
from pathlib import Path
from app.kernels.loader import KernelLoader
from app.manifest import verified_manifest
folder, wanted, home = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
runner = KernelLoader(wanted, 2, 16, home)(folder, verified_manifest(folder))
runner.warm_up(2, 16)
large = {"tensorflow", "keras", "onnx", "openvino", "onnxruntime"}
print(json.dumps([runner.kernel, sorted(large & sys.modules.keys())]))
"""


@pytest.mark.parametrize(
    ("wanted", "kernel", "imported"),
    [
        ("auto", "onnxruntime", ["onnxruntime"]),
        ("onnxruntime", "onnxruntime", ["onnxruntime"]),
        ("bfloat16", "bfloat16", ["onnx", "onnxruntime", "openvino"]),
    ],
)
def test_a_kernels_library_is_imported_where_it_runs(
    models_dir: Path, tmp_path: Path, wanted: str, kernel: str, imported: list[str]
) -> None:
    arguments = [str(models_dir / "mixed" / "1"), wanted, str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [kernel, imported]


def load(models_dir: Path, home: Path, wanted: Any, model: str = "lstm", **options: Any) -> Any:
    folder = models_dir / model / "1"
    return KernelLoader(wanted, 2, 16, home, **options)(folder, verified_manifest(folder))


def test_a_split_cpu_is_tensorflows(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def note(self: KernelLoader, name: str, *_: Any) -> None:
        asked.append(name)
        raise ModelRefused("it was asked for")

    monkeypatch.setattr(KernelLoader, "_named", note)
    for devices in (1, 2):
        with pytest.raises(ModelRefused, match="it was asked for"):
            load(models_dir, tmp_path, "auto", logical_devices=devices)
    assert asked == ["onnxruntime", "tensorflow"]


@pytest.fixture
def old(models_dir: Path, tmp_path: Path) -> Path:
    """A models' folder with `lstm` in format 1."""
    from tests.support.exported_models import make_format_1

    make_format_1(copy_of(models_dir / "lstm" / "1", tmp_path / "old"))
    return tmp_path / "old"


def test_format_1_is_served_by_tensorflow_and_the_log_says_what_helps(
    old: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(old, tmp_path, "auto").kernel == "tensorflow"
    folder = old / "lstm" / "1"
    assert f"TensorFlow runs {folder}: its format, unroll/1, has no {CHUNK}" in caplog.text
    assert f"python -m model.upgrade {folder} writes the next version" in caplog.text


@pytest.mark.parametrize("wanted", ["onnxruntime", "bfloat16"])
def test_a_named_kernel_that_needs_format_2_says_so(old: Path, tmp_path: Path, wanted: str) -> None:
    with pytest.raises(ModelRefused, match=f"UNROLL_RUNNER={wanted} cannot run .*model.upgrade"):
        load(old, tmp_path, wanted)


@pytest.mark.parametrize(
    ("wanted", "library"), [("bfloat16", "openvino"), ("tensorflow", "tensorflow")]
)
def test_a_library_that_is_not_installed_is_named(
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    library: str,
) -> None:
    """As in the image `serve-slim`."""

    def fail(*_: Any) -> None:
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)

    monkeypatch.setattr(KernelLoader, "_named", fail)
    with pytest.raises(ModelRefused, match=f"needs {library}, which is not installed here"):
        load(models_dir, tmp_path, wanted)


def test_beside_a_driver_without_a_gpu_the_processor_computes(
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from app.kernels import tensorflow_devices

    for module in (loader_module, tensorflow_devices):
        monkeypatch.setattr(module, "accelerator_present", lambda: True)
    assert load(models_dir, tmp_path, "auto").kernel == "onnxruntime"
    assert "TensorFlow sees no GPU, only CPU:0, though there is a driver" in caplog.text


def test_beside_a_driver_without_tensorflow_the_processor_computes(
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in the image `serve-slim` on a machine that has a card."""
    monkeypatch.setattr(loader_module, "accelerator_present", lambda: True)
    monkeypatch.setitem(sys.modules, "app.kernels.tensorflow_devices", None)
    assert load(models_dir, tmp_path, "auto").kernel == "onnxruntime"
    assert "there is a driver, but not TensorFlow" in caplog.text
