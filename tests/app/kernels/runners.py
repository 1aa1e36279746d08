"""Every kernel by its class, and the largest chunks of these tests."""

from pathlib import Path

from app.engine.runner_interface import ModelRunner
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.cudnn import CudnnRunner
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import CHUNK, Manifest
from tests.app.kernels.cudnn_without_gpu import cudnn_on_host

MAX_ROWS, MAX_STEPS = 4, 16


def make_runner(kind: type[ModelRunner], folder: Path, manifest: Manifest) -> ModelRunner:
    if kind is OnnxRuntimeRunner:
        return OnnxRuntimeRunner(folder / CHUNK, manifest)
    if kind is Bfloat16Runner:
        return Bfloat16Runner((folder / CHUNK).read_bytes(), manifest)
    if kind is CudnnRunner:
        return cudnn_on_host(folder, manifest)[0]
    return TensorFlowRunner(folder, manifest)
