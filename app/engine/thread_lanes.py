"""`ThreadLanes`: threads that compute chunks. A lane sees a chunk's numbers, not its sequences.

They are for chunks so long that callers would notice if the event loop computed them (`LoopLane`),
and for devices besides the processor.
"""

import asyncio
import threading
import time
from queue import SimpleQueue

from app.engine.batch import Batch, Computed, attempt
from app.engine.runner_interface import ModelRunner
from app.engine.scheduler import Chunk


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
                results = attempt(self._runner, batch)
                if self._loop.is_closed():
                    return
                self._loop.call_soon_threadsafe(self._computed, chunk, results)
                # Else their memory would be kept until the next batch comes.
                del job, chunk, batch, results
        finally:
            with self._ends:
                self._running -= 1
