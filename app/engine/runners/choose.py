"""Chooses the kernel: TensorFlow, which can run any model, or ONNX Runtime where it is better.

`auto` takes ONNX Runtime if it agrees with TensorFlow on probe inputs and measured faster, on
machines without an accelerator. Its failure to do so is logged, never fatal.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from app.engine.runner import ModelRunner
from app.engine.runners.onnxruntime import OnnxRuntimeRunner
from app.engine.runners.tensorflow import TensorFlowRunner
from app.errors import ModelRefused
from app.manifest import Manifest
from app.settings import RunnerChoice

logger = logging.getLogger(__name__)

# Two kernels sum up in other orders: a few 1e-6 is usual, a wrong gate or transform gives 1e-2.
PROBE_TOLERANCE = 1e-4
PROBE_SEED = 20131225
TRIALS = 5


class ChosenRunner:
    """The kernel that was chosen when the model was warmed up. See `ModelRunner`.

    Args:
        choice: `auto`, or the only one to use.
        folder: verified.
        manifest: of the folder.

    Raises:
        ModelRefused: TensorFlow cannot load the model.
    """

    def __init__(self, choice: RunnerChoice, folder: Path, manifest: Manifest) -> None:
        self._choice = choice
        self._manifest = manifest
        self._folder = folder
        self._reference = TensorFlowRunner(folder, manifest)
        self.num_outputs = self._reference.num_outputs
        self.state_sizes = self._reference.state_sizes
        self.run = self._reference.run

    def warm_up(self, max_rows: int, max_steps: int) -> None:
        """See `ModelRunner.warm_up`; here the choice is made."""
        self._reference.set_limits(max_rows, max_steps)
        chosen: ModelRunner = self._reference
        if self._choice == "onnxruntime":
            chosen = self._agreeing(max_rows, max_steps)
        elif self._choice == "auto" and not self._reference.has_accelerator:
            chosen = self._faster(max_rows, max_steps)
        if chosen is self._reference:
            chosen.warm_up(max_rows, max_steps)
        self.run = chosen.run
        logger.info("runs on %s", type(chosen).__name__)

    def _agreeing(self, max_rows: int, max_steps: int) -> ModelRunner:
        """ONNX Runtime, warm, if it computes what TensorFlow does.

        Raises:
            ModelRefused: it does not, or cannot be built.
        """
        candidate = OnnxRuntimeRunner(self._folder, self._manifest)
        candidate.warm_up(max_rows, max_steps)
        probe = self._probe(max_rows, max_steps)
        ours, our_state = candidate.run(*probe)
        theirs, their_state = self._reference.run(*probe)
        valid = np.arange(max_steps) < probe[1][:, np.newaxis]
        pairs = [(ours[valid], theirs[valid]), *zip(our_state, their_state, strict=True)]
        for mine, other in pairs:
            if not np.allclose(mine, other, PROBE_TOLERANCE, PROBE_TOLERANCE):
                raise ModelRefused("ONNX Runtime and TensorFlow disagree on probe inputs")
        return candidate

    def _faster(self, max_rows: int, max_steps: int) -> ModelRunner:
        try:
            candidate = self._agreeing(max_rows, max_steps)
        except Exception as error:
            logger.warning("ONNX Runtime is not used: %s: %s", type(error).__name__, error)
            return self._reference
        product = 1.0
        # The two ends: a lone caller, and a full chunk.
        for rows in sorted({1, max_rows}):
            probe = self._probe(rows, max_steps)
            ratio = median_seconds(self._reference, *probe) / median_seconds(candidate, *probe)
            logger.info("%d rows: ONNX Runtime is %.2f times as fast as TensorFlow", rows, ratio)
            product *= ratio
        return candidate if product > 1 else self._reference

    def _probe(
        self, rows: int, steps: int
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """Inputs near the manifest's example, of random lengths, with random states."""
        random = np.random.default_rng(PROBE_SEED)
        example = np.array(self._manifest.example or [[0.0] * len(self._manifest.features)])
        picked = example[random.integers(len(example), size=(rows, steps))].astype(np.float32)
        lengths = random.integers(1, steps + 1, rows).astype(np.int32)
        lengths[0] = steps
        state = tuple(
            random.uniform(-0.5, 0.5, (rows, size)).astype(np.float32) for size in self.state_sizes
        )
        return picked, lengths, state


def median_seconds(runner: ModelRunner, *probe: Any) -> float:
    """How long a warm call takes: the median of a few, after one more."""
    times = []
    for _ in range(1 + TRIALS):
        started = time.perf_counter()
        runner.run(*probe)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[TRIALS // 2]
