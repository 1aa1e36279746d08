"""`Lanes`: the threads that compute. They know chunks as numbers only.

A lane needs Python's lock between two calls of the kernel, and waits for it while the event loop is
busy. So it does next to nothing there: it hands results over and takes the next batch.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from app.engine.batch import Batch, Results, compute
from app.engine.runner import ModelRunner
from app.engine.scheduler import Chunk

logger = logging.getLogger(__name__)

# Is called on the event loop with a chunk and its results, or what failed outside of the kernel.
Computed = Callable[[Chunk, Results | Exception], None]


class Lanes:
    """So many threads with one line of batches before them.

    Args:
        count: of threads.
        runner: computes; is called by all of them.
        computed: is told of each chunk.
    """

    def __init__(self, count: int, runner: ModelRunner, computed: Computed) -> None:
        self._runner = runner
        self._computed = computed
        self._line: SimpleQueue[tuple[Chunk, Batch] | None] = SimpleQueue()
        self._count = 0
        self._ends = threading.Lock()
        self.threads = [
            threading.Thread(target=self._run, name=f"lane-{index}", daemon=True)
            for index in range(count)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts them; `computed` is called on `loop`."""
        self._loop = loop
        self._count = len(self.threads)
        for thread in self.threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        return self._count == len(self.threads)

    def give(self, chunk: Chunk, batch: Batch) -> None:
        """Puts a batch in line."""
        self._line.put((chunk, batch))

    def stop(self, timeout_s: float) -> None:
        """Ends them after what is in line, and waits for that. Blocks.

        Args:
            timeout_s: for all of them; who hangs in a kernel is left behind.
        """
        for _ in self.threads:
            self._line.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            while (job := self._line.get()) is not None:
                chunk, batch = job
                try:
                    results: Results | Exception = compute(self._runner, batch)
                except Exception as error:
                    # A lane that ended would leave its callers waiting for ever.
                    logger.exception("this is a bug: a lane failed outside of its kernel")
                    results = error
                if self._loop.is_closed():
                    return
                self._loop.call_soon_threadsafe(self._computed, chunk, results)
                # While it waits for the next, nothing is kept.
                del job, chunk, batch, results
        finally:
            with self._ends:
                self._count -= 1
