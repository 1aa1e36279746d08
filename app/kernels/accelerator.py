"""The kernel on an accelerator: cuDNN, where it computes what TensorFlow does, or TensorFlow.

TensorFlow runs either, so they are compared in the process that will serve. cuDNN computes rows
that are all full, or have no time steps, in other ways than ragged ones: it has to agree on each.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from app.engine.runner_interface import ModelRunner, most_rows
from app.kernels.column_transforms import example_inputs
from app.kernels.cudnn import CudnnRunner
from app.kernels.parity import MAX_ERROR, TOLERANCE, Results, check_agreement
from app.kernels.tensorflow import TensorFlowRunner
from app.kernels.tensorflow_devices import refused_failures, set_up
from app.kernels.timing import median_seconds
from app.manifest import Manifest

logger = logging.getLogger(__name__)

SEED = 20131225
Lengths = Literal["ragged", "equal", "some zero"]
LENGTHS: tuple[Lengths, ...] = ("ragged", "equal", "some zero")


class Comparison:
    """Compares cuDNN with TensorFlow on one model.

    Args:
        folder: verified.
        manifest: of the folder.
        max_rows: most rows of a chunk; 0 for what the devices of the model are given.
        max_steps: most time steps of a chunk.
        tensor_float_32: whether cuDNN may round to 10 bits.

    Raises:
        ModelRefused: TensorFlow cannot load the model.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        max_rows: int,
        max_steps: int,
        tensor_float_32: bool = False,
    ) -> None:
        self._folder, self._manifest = folder, manifest
        self._tensor_float_32 = tensor_float_32
        self._reference = TensorFlowRunner(folder, manifest)
        self._max_rows, self._max_steps = max_rows or most_rows(self._reference.devices), max_steps
        self._reference.set_limits(self._max_rows, max_steps)

    def faster(self) -> ModelRunner:
        """cuDNN if it agrees and is faster, a lone row and a full chunk taken together; else
        TensorFlow, which can run any model."""
        try:
            # The two ends: a lone caller, and a full chunk.
            asked = {rows: self._chunk(rows, "ragged") for rows in sorted({1, self._max_rows})}
            theirs = {rows: median_seconds(self._reference, *asked[rows]) for rows in asked}
            candidate = self.checked_cudnn()
            product = 1.0
            for rows, arguments in asked.items():
                ratio = theirs[rows] / median_seconds(candidate, *arguments)
                logger.info("%d rows: cuDNN is %.2f times as fast as TensorFlow", rows, ratio)
                product *= ratio
            if product > 1:
                return candidate
        except Exception as error:
            logger.warning("cuDNN is not used: %s: %s", type(error).__name__, error)
        # cuDNN may have changed how TensorFlow rounds.
        set_up()
        return self._reference

    def checked_cudnn(self) -> CudnnRunner:
        """cuDNN's kernel as it will serve.

        Raises:
            ModelRefused: it does not compute what TensorFlow does, or it has no device.
        """
        with refused_failures(list(self._reference.devices)):
            # Before cuDNN is loaded, which may change how TensorFlow rounds.
            expected: dict[Lengths, Results] = {
                kind: self._reference.run(*self._chunk(self._max_rows, kind)) for kind in LENGTHS
            }
            candidate = CudnnRunner(self._folder, self._manifest)
            self._check(candidate, expected)
            if self._tensor_float_32:
                candidate = CudnnRunner(self._folder, self._manifest, tensor_float_32=True)
                self._check(candidate, expected, rounds=True)
        return candidate

    def _check(
        self, candidate: CudnnRunner, expected: dict[Lengths, Results], rounds: bool = False
    ) -> None:
        """Whether it agrees with TensorFlow but for rounding."""
        candidate.set_limits(self._max_rows, self._max_steps)
        title = "cuDNN in TensorFloat-32" if rounds else "cuDNN"
        for kind, theirs in expected.items():
            chunk = self._chunk(self._max_rows, kind)
            ours = candidate.run(*chunk)
            valid = np.arange(self._max_steps) < chunk[1][:, np.newaxis]
            what = f"{title} and TensorFlow disagree on {kind} lengths"
            pairs = (ours[0][valid], ours[1]), (theirs[0][valid], theirs[1])
            check_agreement(*pairs, self._manifest, what, MAX_ERROR if rounds else TOLERANCE)

    def _chunk(self, rows: int, kind: Lengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, lengths and states, always the same: time steps are picked from the example,
        zeros if there is none, and states are such as cells have."""
        random = np.random.default_rng(SEED)
        steps = self._max_steps
        example = example_inputs(self._manifest)
        if not len(example):
            example = np.zeros((1, len(self._manifest.features)), np.float32)
        picked = example[random.integers(len(example), size=(rows, steps))]
        lengths = random.integers(1, steps + 1, rows).astype(np.int32)
        lengths[0] = steps
        if kind == "equal":
            lengths[:] = steps
        elif kind == "some zero":
            lengths[::2] = 0
        state = random.uniform(-0.5, 0.5, (rows, self._reference.state_size))
        return picked, lengths, state.astype(np.float32)
