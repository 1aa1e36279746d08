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

import numpy as np

from app.engine.cost_model import Cost
from app.kernels.idle_time import IdleTime
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.parity import Results, check_agreement
from app.kernels.several_threads import Pipeline, Threads, Way, seconds_of
from app.manifest import CHUNK, Manifest

logger = logging.getLogger(__name__)

# A product is worth splitting where a time step of a layer takes so many seconds.
SPLIT_S = 5e-6
# The time steps that are measured take about so many seconds.
MEASURED_S, MEASURED_PARTS = 2e-3, 4


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
        of_few, of_many = (seconds_of(alone, self._zeros(count)) for count in (1, steps))
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
            way = Threads(self._folder / CHUNK, self._cores)
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
