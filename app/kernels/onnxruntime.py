"""The CPU kernel: ONNX Runtime's recurrent operators with the weights of the verified SavedModel.

`onnx_graph.py` builds the graph when the kernel is chosen. Any number of rows and time steps is one
and the same graph, so there are no call shapes to compile, and no padding of rows.
"""

import logging
import time
from pathlib import Path

import numpy as np
import onnxruntime

from app.engine.cost_model import Cost
from app.kernels.kernel_spec import Graphs, Kernel, Variant
from app.kernels.timing import measure_cost
from app.manifest import Manifest

logger = logging.getLogger(__name__)

RESULTS = ["outputs", "next_state"]


class OnnxRuntimeRunner:
    """Runs a graph of ONNX `LSTM`, `GRU` and `RNN` operators. See `ModelRunner`.

    Args:
        graph: from `build_graph`, serialized.
        manifest: of the model.
    """

    kernel = "onnxruntime"

    def __init__(self, graph: bytes, manifest: Manifest) -> None:
        self.state_size = sum(manifest.state_sizes)
        self.num_outputs = len(manifest.outputs)
        self.devices = ("CPU:0",) * len(manifest.layers)
        # One graph serves all shapes.
        self.compilations = 0
        self._features = len(manifest.features)
        self._session = session_of(graph)

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """See `ModelRunner.set_limits`: there are none."""

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`."""
        started = time.monotonic()
        cost = measure_cost(self, self._features, max_rows, max_steps)
        logger.info("warmed up in %.1f s", time.monotonic() - started)
        return cost

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        outputs, next_state = self._session.run(
            RESULTS, {"sequences": inputs, "lengths": lengths, "state": state}
        )
        return outputs, next_state


def session_of(graph: bytes) -> onnxruntime.InferenceSession:
    """A graph, ready to run on the processor."""
    options = onnxruntime.SessionOptions()
    # A lane is a thread already: more of them would wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # It would keep a plan of memory for each shape it meets, and ours are of all kinds.
    options.enable_mem_pattern = False
    # It would keep what the largest chunk has needed, and without it nothing takes longer.
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _prepare(folder: Path, manifest: Manifest) -> Graphs:
    # Here, since a service that runs the graph needs neither TensorFlow nor onnx.
    from app.kernels.onnx_graph import build_graph

    return (build_graph(folder, manifest).SerializeToString(),)


def _load(graphs: Graphs, folder: Path, manifest: Manifest) -> OnnxRuntimeRunner:
    (graph,) = graphs
    return OnnxRuntimeRunner(graph, manifest)


KERNEL = Kernel(Variant("ONNX Runtime", _load), _prepare)
