"""OpenVINO in bfloat16, on processors that have it."""

from pathlib import Path

from app.engine.runner_interface import ModelRunner
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.runner_setup import RunnerSetup, chunk_of
from app.manifest import Manifest


def load(folder: Path, manifest: Manifest, setup: RunnerSetup) -> ModelRunner:
    """Makes the runner of a verified model."""
    return Bfloat16Runner(chunk_of(folder, manifest, "bfloat16").read_bytes(), manifest)
