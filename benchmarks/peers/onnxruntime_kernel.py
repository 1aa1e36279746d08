"""ONNX Runtime's LSTM operators on a padded batch."""

from collections.abc import Sequence

import onnxruntime

from benchmarks.model_files import STATES, BenchModel
from benchmarks.peers.common import Item, Result, pad

NAMES = ["outputs", *(f"next_{name}" for name in STATES)]


class OnnxRuntimeKernel:
    """See `Kernel`.

    Args:
        model: to load.
        threads: of a call; 0 for one a core, ONNX Runtime's default.
    """

    def __init__(self, model: BenchModel, threads: int) -> None:
        self._units = model.units
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(model.onnx), options, providers=["CPUExecutionProvider"]
        )

    def run(self, items: Sequence[Item]) -> list[Result]:
        """See `Kernel.run`."""
        batch = pad(items, self._units)
        fed = {"sequences": batch.sequences, "lengths": batch.lengths, **batch.states}
        outputs, *states = self._session.run(NAMES, fed)
        return batch.split(outputs, states)
