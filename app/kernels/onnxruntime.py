"""The CPU kernel: the exported `chunk.onnx`, in ONNX Runtime's recurrent operators.

Any number of rows and time steps is one and the same graph, so there are no call shapes to compile,
and no padding of rows.
"""

import logging
import time
from pathlib import Path

import numpy as np
import onnxruntime

from app.engine.cost_model import Cost
from app.errors import ModelRefused
from app.kernels.timing import measure_cost
from app.manifest import CHUNK, Manifest

logger = logging.getLogger(__name__)

RESULTS = ["outputs", "next_state"]


class OnnxRuntimeRunner:
    """Runs a graph of ONNX `LSTM`, `GRU` and `RNN` operators. See `ModelRunner`.

    Args:
        graph: `chunk.onnx`, or what is in it.
        manifest: of the model.

    Raises:
        ModelRefused: ONNX Runtime cannot load it, or it takes or gives something else than the
            manifest says.
    """

    kernel = "onnxruntime"

    def __init__(self, graph: Path | bytes, manifest: Manifest) -> None:
        self.state_size = sum(manifest.state_sizes)
        self.num_outputs = len(manifest.outputs)
        self.devices = ("CPU:0",) * len(manifest.layers)
        # One graph serves all shapes.
        self.compilations = 0
        self._features = len(manifest.features)
        self._session = session_of(graph)
        self._check_signature()

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

    def _check_signature(self) -> None:
        state = ("tensor(float)", 2, self.state_size)
        expected = {
            "sequences": ("tensor(float)", 3, self._features),
            # Of an axis that may have any size ONNX Runtime gives a name.
            "lengths": ("tensor(int32)", 1, None),
            "state": state,
            "outputs": ("tensor(float)", 3, self.num_outputs),
            "next_state": state,
        }
        found = {}
        for each in (*self._session.get_inputs(), *self._session.get_outputs()):
            last = each.shape[-1] if each.shape else None
            size = last if isinstance(last, int) else None
            found[each.name] = (each.type, len(each.shape), size)
        if found != expected:
            raise ModelRefused(f"{CHUNK} takes and gives {found}, not {expected}")


def session_of(graph: Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph, ready to run on the processor.

    Args:
        graph: a file, or what is in it.
        threads: that share each product. A lane is a thread already: where there are many lanes,
            more of them would wait for each other.

    Raises:
        ModelRefused: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # It would keep a plan of memory for each shape it meets, and ours are of all kinds.
    options.enable_mem_pattern = False
    # It would keep what the largest chunk has needed, and without it nothing takes longer.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its own errors have no base of their own.
        reason = str(error).partition("\n")[0]
        name = graph.name if isinstance(graph, Path) else CHUNK
        raise ModelRefused(f"ONNX Runtime cannot load {name}: {reason}") from error
