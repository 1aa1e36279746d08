"""Lanes: what computes chunks in a worker. A lane sees the numbers of a chunk, not its sequences.

`LoopLane` computes on the event loop itself. A worker has a core to itself, so a thread would gain
nothing there, and waking it costs more than a small chunk. `ThreadLanes` are threads: for chunks so
long that callers would notice, and for devices besides the processor.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from app.engine.batch import Batch, Results, compute
from app.engine.cost_model import AMPLE, Cost
from app.engine.model_runner import MOST_ROWS, ModelRunner, most_rows, on_accelerator
from app.engine.scheduler import Chunk

logger = logging.getLogger(__name__)

# The event loop may be away for so many seconds.
MAX_HOLD_S = 0.05

# Is called on the event loop with a chunk and its results, or what failed outside of the kernel.
Computed = Callable[[Chunk, Results | Exception], None]


def lane_threads(runner: ModelRunner, cost: Cost) -> int:
    """How many threads compute chunks; 0 where the event loop can do that by itself.

    Layers on several devices are the stages of a pipeline: a chunk in flight for each keeps all of
    them busy. A single accelerator has one chunk while the next is packed. On the processor a
    worker has a core, and a thread gains nothing unless chunks are so long that the event loop
    would seem to hang.
    """
    stages = len(set(runner.devices))
    if stages > 1 or on_accelerator(runner.devices):
        return max(2, stages)
    return int(cost.shortest_s() > MAX_HOLD_S)


def slots_per_lane(runner: ModelRunner, cost: Cost) -> int:
    """How many sequences run at once for each lane where no setting says so.

    On an accelerator as many as use it well: more would only wait beside each other. There cost was
    measured up to `most_rows`.
    """
    most = most_rows(runner.devices)
    if not on_accelerator(runner.devices):
        return most
    return max(MOST_ROWS, cost.enough_rows(most, enough=AMPLE))


class Lanes(Protocol):
    """What the engine needs of `LoopLane` and `ThreadLanes`."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on batches are computed; `loop` is where the engine lives."""

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        ...

    def give(self, chunk: Chunk, batch: Batch) -> None:
        """Queues a batch. Called on the event loop."""

    def stop(self, timeout_s: float) -> None:
        """Ends the lanes after all queued batches, and waits for that. Blocks.

        Args:
            timeout_s: for all of them; one that hangs in a kernel is left behind.
        """


class LoopLane:
    """One lane: the event loop.

    Args:
        runner: computes.
        computed: is told of each chunk.
    """

    def __init__(self, runner: ModelRunner, computed: Computed) -> None:
        self._runner = runner
        self._computed = computed
        self.alive = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """See `Lanes`."""
        self._loop = loop
        self.alive = True

    def give(self, chunk: Chunk, batch: Batch) -> None:
        """See `Lanes`. The event loop first reads what callers have sent meanwhile."""
        self._loop.call_soon(self._run, chunk, batch)

    def stop(self, timeout_s: float) -> None:
        """See `Lanes`."""
        self.alive = False

    def _run(self, chunk: Chunk, batch: Batch) -> None:
        self._computed(chunk, _attempt(self._runner, batch))


class ThreadLanes:
    """Threads with one queue of batches before them.

    Between two calls of the kernel a thread needs Python's lock, and waits for it while the event
    loop is busy. So it does as little as it can there.

    Args:
        count: of threads.
        runner: computes; is called by all of them.
        computed: is told of each chunk.
    """

    def __init__(self, count: int, runner: ModelRunner, computed: Computed) -> None:
        self._runner = runner
        self._computed = computed
        self._queue: SimpleQueue[tuple[Chunk, Batch] | None] = SimpleQueue()
        self._running = 0
        self._ends = threading.Lock()
        self.threads = [
            threading.Thread(target=self._run, name=f"lane-{index}", daemon=True)
            for index in range(count)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """See `Lanes`."""
        self._loop = loop
        self._running = len(self.threads)
        for thread in self.threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """See `Lanes`."""
        return self._running == len(self.threads)

    def give(self, chunk: Chunk, batch: Batch) -> None:
        """See `Lanes`."""
        self._queue.put((chunk, batch))

    def stop(self, timeout_s: float) -> None:
        """See `Lanes`."""
        for _ in self.threads:
            self._queue.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            while (job := self._queue.get()) is not None:
                chunk, batch = job
                results = _attempt(self._runner, batch)
                if self._loop.is_closed():
                    return
                self._loop.call_soon_threadsafe(self._computed, chunk, results)
                # Else their memory would be kept until the next batch comes.
                del job, chunk, batch, results
        finally:
            with self._ends:
                self._running -= 1


def _attempt(runner: ModelRunner, batch: Batch) -> Results | Exception:
    try:
        return compute(runner, batch)
    except Exception as error:
        # If the lane ended here, the callers of its chunks would wait for ever.
        logger.exception("this is a bug: a lane failed outside of its kernel")
        return error
