"""Makes the models that are served, and their own answers: `python -m benchmarks.gpu.prepare 512`.

On the processor, which computes float32 as it is: a process of its own, while others measure.
"""

import os
import sys

LOWEST = 19


def main() -> None:
    """Makes what is not there yet."""
    # Before TensorFlow is imported.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.nice(LOWEST)
    from benchmarks.models.prepare import ensure_model
    from benchmarks.models.reference import expected

    for units in map(int, sys.argv[1:]):
        expected(ensure_model(units))


if __name__ == "__main__":
    main()
