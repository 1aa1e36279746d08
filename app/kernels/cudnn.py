"""The kernel for GPUs: cuDNN's recurrent layers with the weights of the verified SavedModel.

`cudnn_function.py` has the function. Nothing is compiled. But TensorFlow keeps a descriptor of
cuDNN for each call shape it meets, so calls have some hundred shapes, and others are padded on the
device.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.engine.cost_model import Cost
from app.errors import ModelRefused
from app.kernels.call_shapes import CallShapes, sizes
from app.kernels.cudnn_function import HOST, ChunkGraph
from app.kernels.saved_model_placement import assign
from app.kernels.tensorflow_devices import gpus, no_gpu, refused_failures, set_up
from app.kernels.timing import measure_cost
from app.manifest import Manifest

logger = logging.getLogger(__name__)

# Rows are multiplied in tiles of so many.
TILE = 16


class CudnnRunner:
    """Runs chunks with one call of cuDNN a layer, on the layer's device. See `ModelRunner`.

    Args:
        folder: verified.
        manifest: of the folder.
        tensor_float_32: whether products may round their factors to 10 bits. It holds for all that
            TensorFlow computes in this process.
        here: the devices to use; None for every GPU that TensorFlow sees.

    Raises:
        ModelRefused: there is no GPU, or it has no memory left; a weight is absent; cuDNN has no
            such cell.
    """

    kernel = "cudnn"

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        tensor_float_32: bool = False,
        here: Sequence[str] | None = None,
    ) -> None:
        set_up(tensor_float_32=tensor_float_32)
        here = gpus() if here is None else here
        if not here:
            raise ModelRefused(f"cuDNN needs a GPU: {no_gpu()}")
        self.state_size = sum(manifest.state_sizes)
        self.num_outputs = len(manifest.outputs)
        # No shape is compiled.
        self.compilations = 0
        self._features = len(manifest.features)
        trained = [layer.device for layer in manifest.layers]
        placed = assign(trained, here)
        self.devices = tuple(placed[device] for device in trained)
        with refused_failures(list(here)):
            self._graph = ChunkGraph(folder, manifest, self.devices)
        self._shapes = CallShapes()

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """See `ModelRunner.set_limits`."""
        self._shapes = CallShapes(sizes(max_rows, TILE), sizes(max_steps))

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`. The largest chunk is computed once: it must fit."""
        started = time.monotonic()
        self.set_limits(max_rows, max_steps)
        with refused_failures(list(self.devices)):
            # CUDA loads a kernel's code when it is first used, and rows decide which are.
            for rows in sizes(max_rows, TILE):
                self._run_zeros(rows, 1)
            self._run_zeros(max_rows, max_steps)
            cost = measure_cost(self, self._features, max_rows, max_steps)
        logger.info("warmed up in %.1f s", time.monotonic() - started)
        return cost

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        rows, steps, _ = inputs.shape
        shape = np.array(self._shapes.fit(rows, steps), np.int32)
        with tf.device(HOST):
            # Else each would be copied to the default device, a GPU, by itself.
            given = [tf.constant(array) for array in (inputs, lengths, state, shape)]
            results = self._graph.call(*given).numpy()
        outputs, next_state = np.split(results, [rows * steps * self.num_outputs])
        return outputs.reshape(rows, steps, self.num_outputs), next_state.reshape(state.shape)

    def _run_zeros(self, rows: int, steps: int) -> None:
        inputs = np.zeros((rows, steps, self._features), np.float32)
        state = np.zeros((rows, self.state_size), np.float32)
        self.run(inputs, np.full(rows, steps, np.int32), state)
