"""ONNX Runtime on `chunk.onnx`, on a core, or on idle ones beside it."""

from functools import partial
from pathlib import Path

from app.engine.runner_interface import ModelRunner
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.runner_setup import RunnerSetup, chunk_of
from app.manifest import Manifest
from app.settings import available_cores


def load(folder: Path, manifest: Manifest, setup: RunnerSetup) -> ModelRunner:
    """Makes the runner of a verified model."""
    chunk = chunk_of(folder, manifest, "onnxruntime")
    if setup.idle_cores is None or (cores := available_cores()) == 1:
        return OnnxRuntimeRunner(chunk, manifest)
    # Here, since most starts on one core need none of it.
    from app.kernels.many_cores import ManyCoresRunner

    idle_cores = partial(setup.idle_cores, cores)
    return ManyCoresRunner(folder, manifest, cores, idle_cores, setup.computed)
