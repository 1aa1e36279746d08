"""Runs the tests that need a GPU, or says in a line that TensorFlow has none: `make test-gpu`."""

import os
import sys

import tensorflow as tf

from model.placement.gpus import why_no_gpu

# The whole of `tests/gpu` takes no longer; pytest ends it then, between two tests.
LIMIT_S = 360


def main() -> None:
    """Becomes pytest where TensorFlow has a GPU."""
    if not tf.config.list_physical_devices("GPU"):
        print(f"no GPU was tested: {why_no_gpu() or 'TensorFlow is given none'}")
        return
    # A process of its own: TensorFlow is set up when it is imported, by tests/conftest.py.
    pytest = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu"]
    os.execv(sys.executable, [*pytest, f"--session-timeout={LIMIT_S}"])


if __name__ == "__main__":
    main()
