"""Chooses the kernel: TensorFlow, which can run any model, or ONNX Runtime where it is better.

`auto` takes ONNX Runtime if it agrees with TensorFlow on probe inputs and measured faster, on
machines without an accelerator. Its failure to do so is logged, never fatal.
"""

import logging
from pathlib import Path

import numpy as np

from app.engine.cost import Cost
from app.engine.runner import ModelRunner
from app.engine.runners.measure import median_seconds
from app.engine.runners.onnxruntime import OnnxRuntimeRunner
from app.engine.runners.tensorflow import TensorFlowRunner
from app.errors import ModelRefused
from app.manifest import Manifest
from app.settings import RunnerChoice

logger = logging.getLogger(__name__)

# Two kernels sum up in other orders: a few 1e-6 is usual, a wrong gate or transform gives 1e-2.
PROBE_TOLERANCE = 1e-4
PROBE_SEED = 20131225


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
        self.state_size = self._reference.state_size
        self._chosen: ModelRunner = self._reference
        self.run = self._reference.run

    @property
    def compilations(self) -> int:
        """Of the kernel that runs."""
        return self._chosen.compilations

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`; here the choice is made."""
        self._reference.set_limits(max_rows, max_steps)
        chosen: ModelRunner = self._reference
        if self._choice == "onnxruntime":
            chosen = self._agreeing(max_rows, max_steps)
        elif self._choice == "auto" and not self._reference.has_accelerator:
            chosen = self._faster(max_rows, max_steps)
        cost = chosen.warm_up(max_rows, max_steps)
        self._chosen = chosen
        # Bound here, so that a chunk does not pay for the choice.
        self.run = chosen.run
        logger.info("runs on %s; a chunk costs %s", type(chosen).__name__, cost)
        return cost

    def _agreeing(self, max_rows: int, max_steps: int) -> ModelRunner:
        """ONNX Runtime, warm, if it computes what TensorFlow does.

        Raises:
            ModelRefused: it does not, or cannot be built.
        """
        candidate = OnnxRuntimeRunner(self._folder, self._manifest)
        probe = self._probe(max_rows, max_steps)
        ours, our_state = candidate.run(*probe)
        theirs, their_state = self._reference.run(*probe)
        valid = np.arange(max_steps) < probe[1][:, np.newaxis]
        for mine, other in ((ours[valid], theirs[valid]), (our_state, their_state)):
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

    def _probe(self, rows: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs near the manifest's example, of random lengths, with random states."""
        random = np.random.default_rng(PROBE_SEED)
        example = np.array(self._manifest.example or [[0.0] * len(self._manifest.features)])
        picked = example[random.integers(len(example), size=(rows, steps))].astype(np.float32)
        lengths = random.integers(1, steps + 1, rows).astype(np.int32)
        lengths[0] = steps
        state = random.uniform(-0.5, 0.5, (rows, self.state_size)).astype(np.float32)
        return picked, lengths, state
