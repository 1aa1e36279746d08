"""cuDNN on a GPU, compared with TensorFlow first."""

from pathlib import Path

from app.engine.runner_interface import ModelRunner
from app.kernels.accelerator import Comparison
from app.kernels.runner_setup import RunnerSetup
from app.manifest import Manifest


def load(folder: Path, manifest: Manifest, setup: RunnerSetup) -> ModelRunner:
    """Makes the runner of a verified model."""
    compared = Comparison(folder, manifest, setup.max_rows, setup.max_steps, setup.tensor_float_32)
    return compared.checked_cudnn()
