"""Whether two kernels computed the same, in standard deviations of each output."""

import numpy as np

from app.kernels.column_transforms import OutputColumns
from app.manifest import Manifest

# Two kernels sum up in other orders: a few 1e-6 is usual, a wrong gate or transform gives 1e-2.
# Of an output in its standard deviations, and of a state.
TOLERANCE = 1e-4
# Of an output's raw number, which may be many standard deviations from zero: float32 tells it to
# half of this part, after each of the additions that make it.
ROUNDING = 4 * float(np.finfo(np.float32).eps)

# Outputs `[..., O]` and states.
Results = tuple[np.ndarray, np.ndarray]


def agree(ours: Results, theirs: Results, manifest: Manifest) -> bool:
    """Whether outputs and states differ by rounding only; NaN never does."""
    columns = OutputColumns.of(manifest.outputs, manifest.features)
    outputs, others = (
        (results[0].astype(np.float64) - columns.mean) / columns.std for results in (ours, theirs)
    )
    smallest = TOLERANCE + ROUNDING * np.abs(theirs[0]) / columns.std
    return bool(
        np.isclose(outputs, others, TOLERANCE, smallest).all()
        and np.allclose(ours[1], theirs[1], TOLERANCE, TOLERANCE)
    )
