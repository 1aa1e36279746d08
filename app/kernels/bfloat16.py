"""The kernel for processors that multiply bfloat16: OpenVINO's recurrent operators.

`lengthless_graph.py` rewrites and cuts the exported `chunk.onnx`. OpenVINO computes the layers:
both factors of their products are rounded to 8 significant bits, and so are `h` and what passes
from layer to layer. What comes before and after keeps float32, and ONNX Runtime computes it: raw
numbers, such as a pressure of 1018.3, would lose all that they tell.
"""

import io
import logging
import threading
import time

import numpy as np
import openvino

from app.engine.cost_model import Cost
from app.kernels.call_shapes import CallShapes, padded, sizes
from app.kernels.lengthless_graph import cut_graph, without_lengths
from app.kernels.onnxruntime import session_of
from app.kernels.timing import measure_cost
from app.manifest import Manifest

logger = logging.getLogger(__name__)

PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "bf16",
    # A lane is a thread already: more of them would wait for each other.
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    # Each worker would pin itself to the same core.
    "ENABLE_CPU_PINNING": False,
}
# OpenVINO prepares itself for every call shape it meets: so there are few, others are padded.
# Rows are multiplied in tiles of so many; half a tile takes nearly as long.
TILE = 16


class Bfloat16Runner:
    """Runs the layers in bfloat16. See `ModelRunner`.

    Args:
        graph: what is in `chunk.onnx`.
        manifest: of the model.
    """

    kernel = "bfloat16"

    def __init__(self, graph: bytes, manifest: Manifest) -> None:
        self.state_size = sum(manifest.state_sizes)
        self.num_outputs = len(manifest.outputs)
        self.devices = ("CPU:0",) * len(manifest.layers)
        self._features = len(manifest.features)
        parts = cut_graph(without_lengths(graph))
        # What comes before the layers, they, what comes after.
        encode, layers, decode = (part.SerializeToString() for part in parts)
        self._encode, self._decode = session_of(encode), session_of(decode)
        core = openvino.Core()
        self._layers = core.compile_model(core.read_model(io.BytesIO(layers)), "CPU", PROPERTIES)
        precision = self._layers.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision != "bf16":
            logger.warning(
                "this processor does not multiply bfloat16: it computes in %s", precision
            )
        if odd := [str(layer.units) for layer in manifest.layers if layer.units % 2]:
            # Products with an odd inner size are several times slower.
            logger.warning(
                "layers of %s units are slower in bfloat16 than in float32: take even numbers",
                ", ".join(odd),
            )
        # Of each lane: a request holds the numbers of one call.
        self._mine = threading.local()
        self._shapes = CallShapes()

    @property
    def compilations(self) -> int:
        """Call shapes met so far: OpenVINO prepares itself for each once."""
        return len(self._shapes.met)

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """See `ModelRunner.set_limits`; for a call shape that is new `run` takes longer."""
        self._shapes = CallShapes(sizes(max_rows, TILE), sizes(max_steps))

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`."""
        started = time.monotonic()
        self.set_limits(max_rows, max_steps)
        for rows, steps in self._shapes:
            inputs = np.zeros((rows, steps, self._features), np.float32)
            state = np.zeros((rows, self.state_size), np.float32)
            self.run(inputs, np.full(rows, steps, np.int32), state)
        logger.info(
            "prepared %d call shapes in %.1f s", self.compilations, time.monotonic() - started
        )
        return measure_cost(self, self._features, max_rows, max_steps)

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        rows, steps, _ = inputs.shape
        shape = self._shapes.fit(rows, steps)
        (encoded,) = self._encode.run(["encoded"], {"sequences": inputs})
        top, next_state = self._compute(
            padded(encoded, shape),
            padded(lengths, shape[:1]),
            padded(state, shape[:1]),
        )
        (outputs,) = self._decode.run(
            ["outputs"], {"top": top[:rows, :steps], "sequences": inputs, "lengths": lengths}
        )
        return outputs, next_state[:rows].copy()

    def _compute(
        self, encoded: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The layers; what it returns is overwritten by the next call of the same thread."""
        request = getattr(self._mine, "request", None)
        if request is None:
            request = self._mine.request = self._layers.create_infer_request()
        found = request.infer(
            {"encoded": encoded, "lengths": lengths, "state": state}, share_outputs=True
        )
        return found["top"], found["next_state"]
