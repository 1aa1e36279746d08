"""The CPU kernel where cores are left idle: `chunk.onnx` on several threads.

A worker computes with one thread, since under load each core has a worker. Where only one of them
has work, the others' cores would idle: there they compute too. Products of large layers are worth
splitting: threads share each of them, inside a call. Those of small layers are not: a chunk of rows
of one length goes through a pipeline of layers (`layer_pipeline.py`).
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import onnxruntime

from app.engine.cost_model import Cost
from app.errors import ModelRefused
from app.kernels.idle_time import IdleTime
from app.kernels.layer_pipeline import LayerPipeline
from app.kernels.onnxruntime import RESULTS, OnnxRuntimeRunner, session_of
from app.kernels.own_cores import OwnCores, threads_here
from app.kernels.parity import Results, check_agreement
from app.kernels.pipeline_plan import PipelinePlan, ends_of
from app.manifest import CHUNK, Manifest

logger = logging.getLogger(__name__)

# A product is worth splitting where a time step of a layer takes so many seconds.
SPLIT_S = 5e-6
# Threads inside a call, at most; and seconds of a chunk that is worth waking them.
MOST_THREADS, WORTH_WAKING_S = 4, 0.5e-3
# The time steps that are measured take about so many seconds.
MEASURED_S, MEASURED_PARTS, TRIALS = 2e-3, 4, 5


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


class ManyCoresRunner(OnnxRuntimeRunner):
    """Runs `chunk.onnx`, on several threads where cores idle. See `ModelRunner`.

    Args:
        folder: of the model.
        manifest: of the model.
        cores: that the service may use, at least two.
        idle_cores: how many of them nobody computes on, beside the caller's.
        computed: is called after each chunk.

    Raises:
        ModelRefused: as `OnnxRuntimeRunner`.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        cores: int,
        idle_cores: Callable[[], int],
        computed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(folder / CHUNK, manifest)
        self._folder, self._manifest = folder, manifest
        self._cores, self._idle_cores, self._computed = cores, idle_cores, computed
        self._way: Way | None = None
        self._idle_time = IdleTime()
        # Seconds of a time step of one row, and by the cost those of more.
        self._step_s = 0.0
        self._cost: Cost
        # One entry for each call that is computing just now.
        self._calls: list[None] = []

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`; finds the way of several threads.

        Raises:
            ModelRefused: it does not give the numbers of one thread.
        """
        self._cost = super().warm_up(max_rows, max_steps)
        a_step = self._cost.time_step_s + self._cost.row_step_s
        steps = max(2, min(max_steps, int(MEASURED_S / max(a_step, 1e-9))))
        alone = super().run
        of_few, of_many = (_seconds(alone, self._zeros(count)) for count in (1, steps))
        self._step_s = max(0.0, of_many - of_few) / (steps - 1)
        self._way = self._find_way(steps)
        if self._way is not None:
            logger.info(
                "chunks above %.2f ms have several cores where they idle",
                1e3 * self._way.shortest_s,
            )
        return self._cost

    def alone_s(self, rows: int, steps: int) -> float:
        """Seconds that the time steps of a chunk are expected to take one thread."""
        one = self._cost.time_step_s + self._cost.row_step_s
        all_rows = self._cost.time_step_s + rows * self._cost.row_step_s
        return self._step_s * steps * (all_rows / one if one else 1.0)

    def parts(self, rows: int, steps: int) -> int:
        """Into how many parts a chunk of rows of one length is cut where all cores idle."""
        if self._way is None:
            return 0
        lengths = np.full(rows, steps, np.int32)
        return self._way.parts(self.alone_s(rows, steps), lengths, steps, self._cores)

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        if self._way is None:
            return super().run(inputs, lengths, state)
        self._calls.append(None)
        try:
            return self._run(self._way, inputs, lengths, state)
        finally:
            self._calls.pop()
            self._computed()

    def _run(self, way: Way, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray) -> Results:
        rows, steps, _ = inputs.shape
        alone_s = self.alone_s(rows, steps)
        if alone_s < way.shortest_s or not self._may_help():
            return super().run(inputs, lengths, state)
        threads = 1 + self._idle_cores()
        parts = way.parts(alone_s, lengths, steps, threads)
        if not parts:
            return super().run(inputs, lengths, state)
        together = self._idle_time.is_used()
        started = time.monotonic()
        if together:
            results = way.run(inputs, lengths, state, parts, threads)
        else:
            results = super().run(inputs, lengths, state)
        self._idle_time.observe(together, (time.monotonic() - started) / alone_s)
        return results

    def _may_help(self) -> bool:
        """Whether this is the only chunk that is being computed, here and in other workers."""
        return len(self._calls) == 1 and self._idle_cores() > 0

    def _find_way(self, steps: int) -> Way | None:
        way: Way
        if self._step_s >= SPLIT_S * len(self._manifest.layers):
            way = Threads(self._folder / CHUNK, min(self._cores, MOST_THREADS))
        elif self._manifest.layer_files:
            way = Pipeline(self._folder, self._manifest, self._step_s, self._may_help)
        else:
            return None
        inputs, lengths, state = self._zeros(steps)
        what = f"several threads do not give the numbers of {CHUNK} on one"
        parts = min(MEASURED_PARTS, steps)
        found = way.run(inputs, lengths, state, parts, 1)
        check_agreement(found, super().run(inputs, lengths, state), self._manifest, what)
        return way

    def _zeros(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A row of zeros."""
        inputs = np.zeros((1, steps, self._features), np.float32)
        return inputs, np.array([steps], np.int32), np.zeros((1, self.state_size), np.float32)


class Threads:
    """A `Way`: threads share each product, inside a call. They wait for each next one awake.

    Args:
        graph: `chunk.onnx`.
        threads: that compute, the caller's among them.
    """

    shortest_s = WORTH_WAKING_S

    def __init__(self, graph: Path, threads: int) -> None:
        self._threads = threads
        before = threads_here()
        self._session = session_of(graph, threads)
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
            seconds = _seconds(self._pipeline.run, (row, state, [1], 0))
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


def _seconds(compute: Callable[..., Results], given: tuple[object, ...]) -> float:
    """The processor's time of a call, the median of a few."""
    times = []
    for _ in range(TRIALS):
        used = time.thread_time()
        compute(*given)
        times.append(time.thread_time() - used)
    return median(times)
