"""What must be there before anything is measured."""

import os
import subprocess
import sys

from benchmarks.model_files import BenchModel, bench_model

MAKE = (sys.executable, "-m", "benchmarks.models.make")
# The processor computes float32 as it is.
ON_PROCESSOR = {"CUDA_VISIBLE_DEVICES": "-1"}


def ensure_model(units: int) -> BenchModel:
    """The model, made if need be. TensorFlow, which makes it, stays out of this process.

    Raises:
        subprocess.CalledProcessError: it cannot be made; the reason was printed.
    """
    model = bench_model(units)
    if not model.home.is_dir():
        environment = {**os.environ, **ON_PROCESSOR}
        subprocess.run([*MAKE, str(units)], check=True, stdout=sys.stderr, env=environment)
    return model
