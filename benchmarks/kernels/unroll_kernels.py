"""Unroll's kernels by name. Each is imported when it is loaded: not all are there everywhere."""

from collections.abc import Callable
from pathlib import Path

from app.engine.model_runner import ModelRunner
from app.manifest import Manifest, verified_manifest

TENSORFLOW, ONNXRUNTIME, BFLOAT16, CUDNN = "tensorflow", "onnxruntime", "bfloat16", "cudnn"


def load_runner(name: str, folder: Path) -> ModelRunner:
    """A kernel of an exported folder."""
    return _LOADERS[name](folder, verified_manifest(folder))


def _tensorflow(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.tensorflow import TensorFlowRunner

    return TensorFlowRunner(folder, manifest)


def _onnxruntime(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.onnx_graph import build_graph
    from app.kernels.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(build_graph(folder, manifest).SerializeToString(), manifest)


def _bfloat16(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.bfloat16 import Bfloat16Runner
    from app.kernels.onnx_graph import build_graph, cut_graph

    parts = cut_graph(build_graph(folder, manifest, take_lengths=False))
    return Bfloat16Runner([part.SerializeToString() for part in parts], manifest)


def _cudnn(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.cudnn import CudnnRunner

    return CudnnRunner(folder, manifest)


_LOADERS: dict[str, Callable[[Path, Manifest], ModelRunner]] = {
    TENSORFLOW: _tensorflow,
    ONNXRUNTIME: _onnxruntime,
    BFLOAT16: _bfloat16,
    CUDNN: _cudnn,
}
