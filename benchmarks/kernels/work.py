"""The work of a kernel: arrays of `rows` sequences of 50 time steps, and how much it is."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from benchmarks.model_files import NUM_FEATURES, NUM_LAYERS

# The form that others are compared with, and the one whose numbers are not those of float32.
ANCHOR, BFLOAT16 = "ONNX Runtime", "Unroll: bfloat16"
STEPS = 50
ROWS = (1, 8, 32, 128)
SEED = 20131225
# A round measures calls for so long, and at least so many.
ROUND_S = 0.25
MIN_CALLS = 2


def inputs_of(rows: int) -> np.ndarray:
    """float32 `[rows, STEPS, F]`, the same each time."""
    random = np.random.default_rng(SEED)
    return random.normal(size=(rows, STEPS, NUM_FEATURES)).astype(np.float32)


def operations(units: int, rows: int) -> int:
    """Floating-point operations of a call: the matrix products, a multiplication and addition each.

    Gates and biases are left out: about 2% more.
    """
    inputs = [NUM_FEATURES] + [units] * (NUM_LAYERS - 1)
    products = sum(4 * units * (width + units) for width in inputs) + units
    return 2 * products * rows * STEPS


def median_seconds(call: Callable[[], object]) -> float:
    """Seconds of a call, the median of a round; a first call is not timed.

    Whatever is compiled, planned or allocated at the first call is not what is measured.
    """
    call()
    times: list[float] = []
    end = time.perf_counter() + ROUND_S
    while len(times) < MIN_CALLS or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)
