"""Whether `chunk.onnx` computed what the SavedModel did, in standard deviations of each output."""

from collections.abc import Sequence

import numpy as np

from model.transforms import Output

# The same rule and numbers as the service's, which checks the probe by them on its own machine.
# Two kernels sum up in other orders: over all cells and sizes of these tests and benchmarks that
# gives a few 1e-6, a wrong gate or transform 1e-2. Of an output in its standard deviations, and of
# a state.
TOLERANCE = 1e-4
# Of an output's raw number, which may be many standard deviations from zero: float32 tells it to
# half of this part, after each of the additions that make it.
ROUNDING = 4 * float(np.finfo(np.float32).eps)

# Outputs `[..., O]` and states.
Results = tuple[np.ndarray, np.ndarray]


def disagreement(ours: Results, theirs: Results, outputs: Sequence[Output]) -> str:
    """What differs by more than rounding, and by how much; empty if nothing does. NaN differs."""
    of_outputs, of_states = _errors(ours, theirs, outputs)
    # Not `error > TOLERANCE`: it may be NaN.
    if not of_outputs <= TOLERANCE:
        return f"outputs differ by {of_outputs:.3g} of their standard deviation"
    return "" if of_states <= TOLERANCE else f"states differ by {of_states:.3g}"


def difference(ours: Results, theirs: Results, outputs: Sequence[Output]) -> float:
    """The largest difference, as it is compared with `TOLERANCE`."""
    return max(_errors(ours, theirs, outputs))


def _errors(ours: Results, theirs: Results, outputs: Sequence[Output]) -> tuple[float, float]:
    """Of outputs in their standard deviations, where they are more than one from the mean as a part
    of that; of states, where they are above 1 as a part of them."""
    std = np.array([output.transform.std for output in outputs])
    mean = np.array([output.transform.mean for output in outputs])
    error = np.abs(ours[0].astype(np.float64) - theirs[0]) - ROUNDING * np.abs(theirs[0])
    of_outputs = error / (std + np.abs(theirs[0] - mean))
    of_states = np.abs(ours[1].astype(np.float64) - theirs[1]) / (1 + np.abs(theirs[1]))
    return float(of_outputs.max()), float(of_states.max())
