"""The kernel for processors that multiply bfloat16: the SavedModel's `chunk_bfloat16` function.

Both factors of every product are rounded to 8 significant bits; sums, gates and states are float32.
TensorFlow runs it operation by operation, for any number of rows and time steps alike.
"""

import logging
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.engine.cost import Cost
from app.engine.runners.measure import measure_cost
from app.engine.runners.probe import probe
from app.engine.runners.saved_model import ServedModel
from app.errors import ModelRefused
from app.manifest import Manifest

logger = logging.getLogger(__name__)

CPUINFO = Path("/proc/cpuinfo")
# As Linux names what multiplies it: on x86, and on ARM.
INSTRUCTIONS = {"amx_bf16", "avx512_bf16", "bf16"}

PROBE_ROWS = 8
# Of an output, in its standard deviations. Rounding gives a few hundredths; more is no rounding.
MAX_ERROR = 0.25


class Bfloat16Runner:
    """Runs the `chunk_bfloat16` signature of a SavedModel. See `ModelRunner`.

    Arguments, attributes and errors are those of `TensorFlowRunner`; `warm_up` raises
    `ModelRefused` too where the error is larger than rounding gives.
    """

    def __init__(self, folder: Path, manifest: Manifest, logical_devices: int = 1) -> None:
        self._model = ServedModel(folder, manifest, "chunk_bfloat16", logical_devices)
        self._manifest = manifest
        self.num_outputs = len(manifest.outputs)
        self.state_size, self.devices = self._model.state_size, self._model.devices
        # One graph serves all shapes.
        self.compilations = 0
        if not multiplies_bfloat16():
            logger.warning(
                "this processor has none of %s: bfloat16 is slower than float32 here",
                ", ".join(sorted(INSTRUCTIONS)),
            )

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`."""
        started = time.monotonic()
        error = self.error(min(PROBE_ROWS, max_rows), max_steps)
        logger.info(
            "bfloat16: outputs differ from those of float32 by up to %.4f of their standard "
            "deviation, over %d time steps",
            error,
            max_steps,
        )
        # Not `error > MAX_ERROR`: it may be NaN.
        if not error <= MAX_ERROR:
            raise ModelRefused(
                f"in bfloat16 its outputs differ by {error:.3g} of their standard deviation from "
                f"those of float32; the limit is {MAX_ERROR}"
            )
        cost = measure_cost(self, len(self._manifest.features), max_rows, max_steps)
        logger.info("warmed up in %.1f s", time.monotonic() - started)
        return cost

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        with tf.device(self.devices[0]):
            results = self._model.chunk(**self._model.named(inputs, lengths, state))
        return self._model.unnamed(results)

    def error(self, rows: int, steps: int) -> float:
        """The largest difference of an output from float32's, in its standard deviations."""
        inputs, lengths = probe(self._manifest, rows, steps)
        ours, _ = self.run(inputs, lengths, np.zeros((rows, self.state_size), np.float32))
        theirs, _ = self._model.plain(inputs, lengths)
        std = [output.transform["std"] for output in self._manifest.outputs]
        return float(np.max(np.abs(ours - theirs) / std))


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return False
    # `flags` on x86, `Features` on ARM; the same for every core.
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return bool(lines and INSTRUCTIONS & set(lines[0].split()))
