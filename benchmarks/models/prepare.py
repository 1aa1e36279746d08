"""What must be there before anything is measured."""

import subprocess
import sys

from benchmarks.models.files import BenchModel, bench_model


def ensure_model(units: int) -> BenchModel:
    """The model, made if need be. TensorFlow, which makes it, stays out of this process.

    Raises:
        subprocess.CalledProcessError: it cannot be made; the reason was printed.
    """
    model = bench_model(units)
    if not model.home.is_dir():
        command = [sys.executable, "-m", "benchmarks.models.make", str(units)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return model
