"""TensorFlow, which runs the SavedModel itself, on any devices."""

from pathlib import Path

from app.engine.runner_interface import ModelRunner
from app.kernels.runner_setup import RunnerSetup
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import Manifest


def load(folder: Path, manifest: Manifest, setup: RunnerSetup) -> ModelRunner:
    """Makes the runner of a verified model."""
    return TensorFlowRunner(folder, manifest, setup.logical_devices)
