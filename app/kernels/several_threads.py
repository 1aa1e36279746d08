"""How several threads compute a chunk: one way for large layers, another for small ones."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import onnxruntime

from app.errors import ModelRefused
from app.kernels.layer_pipeline import LayerPipeline
from app.kernels.onnxruntime import RESULTS, session_of
from app.kernels.own_cores import OwnCores, threads_here
from app.kernels.parity import Results
from app.kernels.pipeline_plan import PipelinePlan, ends_of
from app.manifest import CHUNK, Manifest

# Threads inside a call, at most; and seconds of a chunk that is worth waking them.
MOST_THREADS, WORTH_WAKING_S = 4, 0.5e-3
# Calls that are timed.
TRIALS = 5


class Way(Protocol):
    """How several threads compute a chunk.

    Attributes:
        shortest_s: for no chunk that takes one thread less time it pays.
    """

    shortest_s: float

    def parts(self, alone_s: float, lengths: np.ndarray, steps: int, threads: int) -> int:
        """Into how many parts the time steps are cut; 0 where it does not pay.

        Args:
            alone_s: seconds of the chunk on one thread.
            lengths: int32 `[S]`.
            steps: C.
            threads: that may compute.
        """
        ...

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray, parts: int, threads: int
    ) -> Results:
        """Computes a chunk; see `ModelRunner.run`."""
        ...


class Threads:
    """A `Way`: threads share each product, inside a call. They wait for each next one awake.

    Args:
        graph: `chunk.onnx`.
        cores: that the service may use.
    """

    shortest_s = WORTH_WAKING_S

    def __init__(self, graph: Path, cores: int) -> None:
        self._threads = min(cores, MOST_THREADS)
        before = threads_here()
        self._session = session_of(graph, self._threads)
        self._own_cores = OwnCores()
        self._own_cores.add(threads_here() - before)

    def parts(self, alone_s: float, lengths: np.ndarray, steps: int, threads: int) -> int:
        """See `Way`: one, of rows of any length."""
        return int(threads >= self._threads and alone_s >= self.shortest_s)

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray, parts: int, threads: int
    ) -> Results:
        """See `Way`."""
        self._own_cores.make_way()
        given = {"sequences": inputs, "lengths": lengths, "state": state}
        outputs, after = self._session.run(RESULTS, given)
        return outputs, after


class Pipeline:
    """A `Way`: the layers are the stages of a pipeline, for rows that all have C time steps.

    Args:
        folder: of the model.
        manifest: of the model, which has parts of its graph.
        step_s: seconds of a time step of one row.
        may_help: whether a core is free for a helper.

    Raises:
        ModelRefused: the parts of the graph cannot be loaded, or do not fit together.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, step_s: float, may_help: Callable[[], bool]
    ) -> None:
        layers = manifest.layers
        self._pipeline = LayerPipeline(
            [
                _Layer(session_of(folder / name), layer.spec.states)
                for name, layer in zip(manifest.layer_files, layers, strict=True)
            ],
            [[layer.units for _ in layer.states] for layer in layers],
            may_help,
        )
        row = np.zeros((1, 1, len(manifest.features)), np.float32)
        state = np.zeros((1, sum(manifest.state_sizes)), np.float32)
        try:
            seconds = seconds_of(self._pipeline.run, (row, state, [1], 0))
        except Exception as error:
            # ONNX Runtime's own errors have no base of their own.
            reason = str(error).partition("\n")[0]
            raise ModelRefused(f"the parts of {CHUNK} do not fit together: {reason}") from error
        self._plan = PipelinePlan(len(layers), (seconds - step_s) / len(layers))
        self.shortest_s = self._plan.shortest_s

    def parts(self, alone_s: float, lengths: np.ndarray, steps: int, threads: int) -> int:
        """See `Way`."""
        return self._plan.parts(alone_s, steps, threads) if lengths.min() == steps else 0

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray, parts: int, threads: int
    ) -> Results:
        """See `Way`."""
        return self._pipeline.run(inputs, state, ends_of(inputs.shape[1], parts), threads - 1)


class _Layer:
    """A `LayerRunner` of a part of `chunk.onnx`.

    Args:
        session: of the part.
        states: names of the layer's states.
    """

    def __init__(self, session: onnxruntime.InferenceSession, states: tuple[str, ...]) -> None:
        self._session = session
        self._states = states
        self._takes = {each.name for each in session.get_inputs()} - {*states}
        self._gives = [each.name for each in session.get_outputs()]

    def __call__(
        self, sequences: np.ndarray, below: np.ndarray, states: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        given = dict(zip(self._states, states, strict=True))
        if "below" in self._takes:
            given["below"] = below
        if "sequences" in self._takes:
            given["sequences"] = sequences
        above, *after = self._session.run(self._gives, given)
        return above, after


def seconds_of(compute: Callable[..., Results], given: tuple[object, ...]) -> float:
    """The processor's time of a call, the median of a few."""
    times = []
    for _ in range(TRIALS):
        used = time.thread_time()
        compute(*given)
        times.append(time.thread_time() - used)
    return median(times)
