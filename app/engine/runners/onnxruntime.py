"""The CPU kernel: ONNX Runtime's recurrent operators with the weights of the verified SavedModel.

`onnx_graph.py` builds the graph at load time; nothing is stored. Any number of rows and time steps
is one and the same graph, so there are no call shapes to compile, and no padding of rows.
"""

import logging
import time
from pathlib import Path

import numpy as np
import onnxruntime

from app.engine.runners.onnx_graph import build_graph
from app.engine.sequence import State
from app.manifest import Manifest

logger = logging.getLogger(__name__)


class OnnxRuntimeRunner:
    """Runs a graph of ONNX `LSTM`, `GRU` and `RNN` operators. See `ModelRunner`.

    Args:
        folder: verified.
        manifest: of the folder.

    Raises:
        ModelRefused: the weights cannot be read or do not fit the manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        tensors = [part.tensor for layer in manifest.layers for part in layer.states]
        self.state_sizes = tuple(layer.units for layer in manifest.layers for _ in layer.states)
        self.num_outputs = len(manifest.outputs)
        self._manifest = manifest
        self._inputs = tensors
        self._results = ["outputs", *(f"next_{name}" for name in tensors)]
        options = onnxruntime.SessionOptions()
        # A lane is a thread already: more of them would wait for each other.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            build_graph(folder, manifest).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )

    def warm_up(self, max_rows: int, max_steps: int) -> None:
        """See `ModelRunner.warm_up`."""
        started = time.monotonic()
        features = len(self._manifest.features)
        for rows in {1, max_rows}:
            self.run(
                np.zeros((rows, max_steps, features), np.float32),
                np.full(rows, max_steps, np.int32),
                tuple(np.zeros((rows, size), np.float32) for size in self.state_sizes),
            )
        logger.info("warmed up in %.1f s", time.monotonic() - started)

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        """See `ModelRunner.run`."""
        fed = {"sequences": inputs, "lengths": lengths}
        fed.update(zip(self._inputs, state, strict=True))
        outputs, *next_state = self._session.run(self._results, fed)
        return outputs, tuple(next_state)
