"""Whether two kernels computed the same, in standard deviations of each output."""

import numpy as np

from app.errors import ModelRefused
from app.kernels.column_transforms import OutputColumns
from app.manifest import Manifest

# Two kernels sum up in other orders: a few 1e-6 is usual, a wrong gate or transform gives 1e-2.
# Of an output in its standard deviations, and of a state. An export is checked by the same numbers.
TOLERANCE = 1e-4
# Of an output's raw number, which may be many standard deviations from zero: float32 tells it to
# half of this part, after each of the additions that make it.
ROUNDING = 4 * float(np.finfo(np.float32).eps)
# Of an output that was rounded, in its standard deviations, and of a state. Rounding gives a few
# hundredths; more is no rounding.
MAX_ERROR = 0.25

# Outputs `[..., O]` and states.
Results = tuple[np.ndarray, np.ndarray]


def check_agreement(
    ours: Results,
    theirs: Results,
    manifest: Manifest,
    what: str,
    tolerance: float = TOLERANCE,
) -> float:
    """Checks that outputs and states differ by rounding only; NaN never does.

    Args:
        ours: of a kernel.
        theirs: what they have to be.
        manifest: of the model.
        what: the kernel and what it was compared with, for the error.
        tolerance: of an output in its standard deviations, where it is more than one from the mean
            as a part of that; and of a state, where it is above 1 as a part of it.

    Returns:
        The largest difference of an output.

    Raises:
        ModelRefused: something differs by more.
    """
    columns = OutputColumns.of(manifest.outputs, manifest.features)
    error = np.abs(ours[0].astype(np.float64) - theirs[0]) - ROUNDING * np.abs(theirs[0])
    of_outputs = error / (columns.std + np.abs(theirs[0] - columns.mean))
    of_states = np.abs(ours[1].astype(np.float64) - theirs[1]) / (1 + np.abs(theirs[1]))
    largest = float(np.max(of_outputs, initial=0.0))
    for name, found, unit in (
        ("outputs", largest, " of their standard deviation"),
        ("states", float(np.max(of_states)), ""),
    ):
        # Not `found > tolerance`: it may be NaN.
        if not found <= tolerance:
            raise ModelRefused(f"{what}: {name} differ by {found:.3g}{unit}, not {tolerance:.2g}")
    return largest
