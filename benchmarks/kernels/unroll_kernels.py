"""Unroll's kernels by name. Each is imported when it is loaded: not all are there everywhere."""

from collections.abc import Callable
from pathlib import Path

from app.engine.runner_interface import ModelRunner
from app.manifest import CHUNK, Manifest, verified_manifest

TENSORFLOW, ONNXRUNTIME, BFLOAT16, CUDNN = "tensorflow", "onnxruntime", "bfloat16", "cudnn"


def load_runner(name: str, folder: Path) -> ModelRunner:
    """A kernel of an exported folder."""
    return _LOADERS[name](folder, verified_manifest(folder))


def _tensorflow(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.tensorflow import TensorFlowRunner

    return TensorFlowRunner(folder, manifest)


def _onnxruntime(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(folder / CHUNK, manifest)


def _bfloat16(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.bfloat16 import Bfloat16Runner

    return Bfloat16Runner((folder / CHUNK).read_bytes(), manifest)


def _cudnn(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.cudnn import CudnnRunner

    return CudnnRunner(folder, manifest)


_LOADERS: dict[str, Callable[[Path, Manifest], ModelRunner]] = {
    TENSORFLOW: _tensorflow,
    ONNXRUNTIME: _onnxruntime,
    BFLOAT16: _bfloat16,
    CUDNN: _cudnn,
}
