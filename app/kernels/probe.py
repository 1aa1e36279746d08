"""Checks a kernel by the manifest's probe: what TensorFlow gave when the model was exported.

Every kernel passes here before it serves, whatever it is made from: so weights that are not the
model's are found without TensorFlow.
"""

import logging
from collections.abc import Sequence

import numpy as np

from app.engine.runner_interface import ModelRunner
from app.errors import ModelRefused
from app.kernels.parity import MAX_ERROR, TOLERANCE, Results, check_agreement
from app.manifest import Manifest, Probe

logger = logging.getLogger(__name__)


def check_probe(
    runner: ModelRunner, manifest: Manifest, max_rows: int, max_steps: int, rounds: bool
) -> None:
    """Computes the probe, in chunks that are no larger than those that will be served.

    Args:
        runner: allowed chunks of so many rows and time steps.
        manifest: of the model; one of format 1 has no probe, and nothing is checked.
        max_rows, max_steps: of a chunk.
        rounds: whether the kernel rounds what layers multiply.

    Raises:
        ModelRefused: the kernel does not give the probe's numbers, or fails on it.
    """
    probe = manifest.probe
    if probe is None:
        return
    outputs = np.concatenate([_array(row, len(manifest.outputs)) for row in probe.outputs])
    expected = outputs, np.array(probe.final_state, np.float32)
    try:
        found = _compute(runner, probe, len(manifest.features), max_rows, max_steps)
    except ModelRefused:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ModelRefused(
            f"{runner.kernel} cannot compute the manifest's probe: {type(error).__name__}: {reason}"
        ) from error
    what = f"{runner.kernel} does not give the numbers of the manifest's probe"
    tolerance = TOLERANCE
    if rounds:
        tolerance = MAX_ERROR
    elif runner.kernel == "onnxruntime":
        # What it was measured with at the export; others compute what the checksums vouch for.
        tolerance = probe.tolerance
    largest = check_agreement(found, expected, manifest, what, tolerance)
    if rounds:
        logger.info(
            "%s: outputs differ from those of float32 by up to %.4f of their standard "
            "deviation, over %d time steps",
            runner.kernel,
            largest,
            max(map(len, probe.inputs)),
        )


def _compute(
    runner: ModelRunner, probe: Probe, features: int, max_rows: int, max_steps: int
) -> Results:
    """Outputs of all rows' time steps, one after the other, `[sum of T, O]`, and final states."""
    made: list[np.ndarray] = []
    final: list[np.ndarray] = []
    for first in range(0, len(probe.inputs), max_rows):
        rows = [_array(row, features) for row in probe.inputs[first : first + max_rows]]
        state = np.array(probe.initial_state[first : first + max_rows], np.float32)
        lengths = np.array([len(row) for row in rows], np.int32)
        parts: list[list[np.ndarray]] = [[] for _ in rows]
        for start in range(0, max(lengths), max_steps):
            left = np.clip(lengths - start, 0, max_steps)
            inputs = np.zeros((len(rows), max(left), features), np.float32)
            for index, row in enumerate(rows):
                inputs[index, : left[index]] = row[start : start + max_steps]
            outputs, state = runner.run(inputs, left, state)
            for index, part in enumerate(parts):
                part.append(outputs[index, : left[index]])
        made += [each for part in parts for each in part]
        final.append(state)
    return np.concatenate(made), np.concatenate(final)


def _array(row: Sequence[Sequence[float | None]], width: int) -> np.ndarray:
    """A row's time steps, float32 `[T, width]`, NaN for null; T may be 0."""
    return np.array(row, np.float32).reshape(len(row), width)
