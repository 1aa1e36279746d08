"""Padded dynamic batching on an event loop: what waits while a batch is computed is the next one."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.peers.common import Item, Kernel, Result


@dataclass(frozen=True)
class BatchSettings:
    """How to batch.

    Attributes:
        max_batch: most sequences of a batch.
        wait_s: seconds that an incomplete batch waits for more; 0 computes at once what is there.
        workers: batches computed at the same time.
        group: a batch is sorted by length and computed in groups of so many rows, each padded to
            its own longest; 0 for one group.
    """

    max_batch: int = 64
    wait_s: float = 0.0
    workers: int = 1
    group: int = 0


class Batcher:
    """Collects items of all requests into batches.

    Args:
        kernel: computes in threads, so that the event loop goes on.
        settings: how.
    """

    def __init__(self, kernel: Kernel, settings: BatchSettings) -> None:
        self._kernel = kernel
        self._settings = settings
        self._executor = ThreadPoolExecutor(settings.workers)
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(settings.workers)]

    async def run(self, items: Sequence[Item]) -> list[Result]:
        """The results of a request's items, in order."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        self._arrived.set()
        if len(self._waiting) >= self._settings.max_batch:
            self._full.set()
        if len(futures) == 1:
            return [await futures[0]]
        return await asyncio.gather(*futures)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            try:
                results = await loop.run_in_executor(
                    self._executor, self._compute, [item for item, _ in batch]
                )
            except Exception as error:
                _settle(batch, error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)

    async def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        settings = self._settings
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        if settings.wait_s and len(self._waiting) < settings.max_batch:
            self._full.clear()
            try:
                await asyncio.wait_for(self._full.wait(), settings.wait_s)
            except TimeoutError:
                pass
            if not self._waiting:
                # Another worker took them meanwhile.
                return await self._next_batch()
        count = min(len(self._waiting), settings.max_batch)
        return [self._waiting.popleft() for _ in range(count)]

    def _compute(self, items: list[Item]) -> list[Result]:
        size = self._settings.group
        if not size or len(items) <= size:
            return self._kernel.run(items)
        order = sorted(range(len(items)), key=lambda i: len(items[i].inputs))
        results: dict[int, Result] = {}
        for start in range(0, len(order), size):
            group = order[start : start + size]
            computed = self._kernel.run([items[i] for i in group])
            results.update(zip(group, computed, strict=True))
        return [results[i] for i in range(len(items))]


def _settle(batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
