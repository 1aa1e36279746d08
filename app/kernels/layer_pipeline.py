"""`LayerPipeline`: computes one chunk on several cores, its layers as the stages of a pipeline.

While layer 1 computes a part of the time steps, layer 0 computes the next. Whoever is free, the
caller or a helper thread, takes the highest layer that has a part ready: those are what the end
waits for. Each part of a layer is one call of the kernel, with the numbers of one thread.
"""

import itertools
import threading
import zlib
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from app.kernels.own_cores import OwnCores

# A thread that waits for another's part counts up these bytes, some 10 us, again and again. To
# sleep would take longer: a virtual core may need 90 us to wake. And a loop of Python's would hold
# Python's lock most of the time, which the other one needs to end its part.
WAITED = bytes(16 << 10)


class LayerRunner(Protocol):
    """Computes some time steps of one layer."""

    def __call__(
        self, sequences: np.ndarray, below: np.ndarray, states: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """What it gives above, `[C,S,H]` or of the top layer `[S,C,O]`, and its next states.

        Args:
            sequences: float32 `[S,C,F]`, raw.
            below: what the layer below it gave; anything for the lowest.
            states: float32 `[1,S,H]` each.
        """
        ...


class Grid:
    """The parts of one chunk by layers, while they are computed.

    Args:
        layers: from the bottom.
        parts: the inputs of each part of the time steps, float32 `[S,C,F]`.
        states: of each layer, float32 `[1,S,H]` each.

    Attributes:
        error: what a thread raised; then nothing else is begun.
        states: of each layer, after its last part.
    """

    def __init__(
        self,
        layers: Sequence[LayerRunner],
        parts: list[np.ndarray],
        states: list[list[np.ndarray]],
    ) -> None:
        self.error: BaseException | None = None
        self.states = states
        self._layers = layers
        self._parts = parts
        # Of each layer and part what it gives above.
        self._above = [list[np.ndarray]() for _ in layers]
        self._busy = [False] * len(layers)
        self._from_top = range(len(layers) - 1, -1, -1)
        self._lock = threading.Lock()

    @property
    def is_finished(self) -> bool:
        """Whether all is computed, or nothing else will be."""
        return len(self._above[-1]) == len(self._parts) or self.error is not None

    @property
    def outputs(self) -> list[np.ndarray]:
        """Of each part, float32 `[S,C,O]`."""
        return self._above[-1]

    def work(self, goes_on: Callable[[], bool]) -> None:
        """Computes whatever is ready, until all is finished or, after a part, `goes_on` denies."""
        while not self.is_finished:
            layer = self._take()
            if layer is None:
                # Another thread computes what is next.
                zlib.crc32(WAITED)
                continue
            try:
                self._compute(layer)
                if not goes_on():
                    return
            except BaseException as error:
                # The others would wait for this part for ever; `LayerPipeline.run` raises it.
                self.error = error

    def _take(self) -> int | None:
        """A layer whose next part is ready, and now its caller's; None if there is none."""
        with self._lock:
            for layer in self._from_top:
                part = len(self._above[layer])
                ready = len(self._above[layer - 1]) if layer else len(self._parts)
                if part < ready and not self._busy[layer]:
                    self._busy[layer] = True
                    return layer
        return None

    def _compute(self, layer: int) -> None:
        part = len(self._above[layer])
        sequences = self._parts[part]
        below = self._above[layer - 1][part] if layer else sequences
        above, states = self._layers[layer](sequences, below, self.states[layer])
        with self._lock:
            self.states[layer] = states
            self._above[layer].append(above)
            self._busy[layer] = False


class LayerPipeline:
    """Computes chunks, one at a time, with helper threads beside its caller's.

    Args:
        layers: from the bottom, at least two.
        state_sizes: of each layer, H of each of its states.
        may_help: whether a core is still free for a helper; asked after each part.
    """

    def __init__(
        self,
        layers: Sequence[LayerRunner],
        state_sizes: Sequence[Sequence[int]],
        may_help: Callable[[], bool],
    ) -> None:
        self._layers = layers
        self._state_sizes = state_sizes
        self._may_help = may_help
        self._grids: SimpleQueue[Grid] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._own_cores = OwnCores()

    def run(
        self, inputs: np.ndarray, state: np.ndarray, ends: list[int], helpers: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs, float32 `[S,C,O]`, and the next state, of rows that all have C time steps.

        Args:
            inputs: float32 `[S,C,F]`.
            state: float32 `[S, sum of H]`.
            ends: of the parts that the time steps are cut into, ascending up to C.
            helpers: how many threads may help; there are none before they are asked for.
        """
        pairs = itertools.pairwise([0, *ends])
        cut = [np.ascontiguousarray(inputs[:, begin:end]) for begin, end in pairs]
        grid = Grid(self._layers, cut, self._split(state))
        if helpers:
            self._call(min(helpers, len(self._layers) - 1), grid)
        grid.work(lambda: True)
        if grid.error is not None:
            raise grid.error
        final = np.concatenate([each for states in grid.states for each in states], axis=2)
        return np.concatenate(grid.outputs, axis=1), final[0]

    def _split(self, state: np.ndarray) -> list[list[np.ndarray]]:
        """Of each layer its states, float32 `[1,S,H]`."""
        whole, end = state[np.newaxis], 0
        split: list[list[np.ndarray]] = []
        for sizes in self._state_sizes:
            split.append([])
            for size in sizes:
                split[-1].append(np.ascontiguousarray(whole[:, :, end : end + size]))
                end += size
        return split

    def _call(self, helpers: int, grid: Grid) -> None:
        for index in range(len(self._threads), helpers):
            name = f"layers-{index}"
            self._threads.append(threading.Thread(target=self._help, name=name, daemon=True))
            self._threads[-1].start()
            if (number := self._threads[-1].native_id) is not None:
                self._own_cores.add([number])
        self._own_cores.make_way()
        for _ in range(helpers):
            self._grids.put(grid)

    def _help(self) -> None:
        while True:
            self._grids.get().work(self._may_help)
