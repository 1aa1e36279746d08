"""The reference kernel: the SavedModel's own `chunk` function, run by TensorFlow.

Calls have few shapes, each compiled once, at warm-up: rows are padded to the next power of two,
time steps to the longest chunk or a quarter of it. The function's loops end with the longest row,
but the products of the inputs, before the loops, are those of all time steps.
"""

import logging
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.engine.cost_model import Cost
from app.kernels.call_shapes import CallShapes, padded
from app.kernels.column_transforms import example_inputs
from app.kernels.parity import check_agreement
from app.kernels.saved_model_loader import ServedModel
from app.kernels.tensorflow_devices import refused_failures
from app.kernels.timing import measure_cost
from app.manifest import Manifest

logger = logging.getLogger(__name__)

# Of the longest chunk: the sizes of calls. Compiling one takes half a second, so there are two.
PARTS = (1, 4)


class TensorFlowRunner:
    """Runs the `chunk` signature of a SavedModel. See `ModelRunner`.

    Args:
        folder: verified.
        manifest: of the folder.
        logical_devices: into how many devices the CPU is split.

    Attributes:
        devices: where each layer's variables are.

    Raises:
        ModelRefused: TensorFlow cannot load it, or its signatures are not those of the manifest.
    """

    kernel = "tensorflow"

    def __init__(self, folder: Path, manifest: Manifest, logical_devices: int = 1) -> None:
        self._model = ServedModel(folder, manifest, logical_devices)
        self._manifest = manifest
        self.num_outputs = len(manifest.outputs)
        self.state_size, self.devices = self._model.state_size, self._model.devices
        self._shapes = CallShapes()

    @property
    def compilations(self) -> int:
        """Call shapes met so far: XLA compiles each once."""
        return len(self._shapes.met)

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """See `ModelRunner.set_limits`; a call shape that is new compiles when it is met."""
        doublings = (max_rows - 1).bit_length()
        self._shapes = CallShapes(
            [1 << power for power in range(doublings + 1)],
            sorted({-(-max_steps // part) for part in PARTS}),
        )

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`."""
        started = time.monotonic()
        self.set_limits(max_rows, max_steps)
        features = len(self._manifest.features)
        with refused_failures(list(self.devices)):
            for rows, steps in self._shapes:
                inputs = np.zeros((rows, steps, features), np.float32)
                state = np.zeros((rows, self.state_size), np.float32)
                self.run(inputs, np.ones(rows, np.int32), state)
            self._probe()
            cost = measure_cost(self, features, max_rows, max_steps)
        took_s = time.monotonic() - started
        logger.info("compiled %d call shapes in %.1f s", self.compilations, took_s)
        return cost

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        rows, steps, _ = inputs.shape
        shape = self._shapes.fit(rows, steps)
        given = self._model.named(
            padded(inputs, shape), padded(lengths, shape[:1]), padded(state, shape[:1])
        )
        # A compiled function runs where it is called; its variables may be on another device.
        with tf.device(self.devices[0]):
            results = self._model.chunk(**given)
        outputs, next_state = self._model.unnamed(results)
        return outputs[:rows, :steps], next_state[:rows]

    def _probe(self) -> None:
        """The compiled form must agree with the plain one on the manifest's example.

        Of the same model they differ by rounding only.
        """
        if not self._manifest.example:
            return
        example = example_inputs(self._manifest)[np.newaxis, : self._shapes.max_steps]
        lengths = np.full(1, example.shape[1], np.int32)
        compiled = self.run(example, lengths, np.zeros((1, self.state_size), np.float32))
        what = "its two signatures disagree on the manifest's example"
        check_agreement(compiled, self._model.plain(example, lengths), self._manifest, what)
