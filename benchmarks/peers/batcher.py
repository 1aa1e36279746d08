"""Padded dynamic batching: what comes while a batch is computed in a thread is the next one."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.peers.common import Item, Kernel, Result

# Sequences of a batch, at most, and of a group, at least.
MAX_BATCH, MIN_ROWS = 32, 8

Waiting = tuple[Item, "asyncio.Future[Result]"]


@dataclass(frozen=True)
class BatchSettings:
    """How to batch.

    Attributes:
        workers: batches computed at the same time.
        bucket: a batch is sorted by length and cut into groups, each padded to its own longest: a
            group ends before a sequence shorter than this part of its longest; 0 for no groups.
    """

    workers: int = 2
    bucket: float = 0.0


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
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(settings.workers)]

    async def run(self, items: Sequence[Item]) -> list[Result]:
        """The results of a request's items, in order."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        self._arrived.set()
        if len(futures) == 1:
            return [await futures[0]]
        return await asyncio.gather(*futures)

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            for group in group_by_length(batch, self._settings):
                await self._compute(group)

    async def _compute(self, group: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        items = [item for item, _ in group]
        try:
            results = await loop.run_in_executor(self._executor, self._kernel.run, items)
        except Exception as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _next_batch(self) -> list[Waiting]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        count = min(len(self._waiting), MAX_BATCH)
        return [self._waiting.popleft() for _ in range(count)]


def group_by_length(batch: list[Waiting], settings: BatchSettings) -> list[list[Waiting]]:
    """Cuts a batch into groups of similar lengths; the shortest come first, to answer early."""
    if not settings.bucket or len(batch) <= MIN_ROWS:
        return [batch]
    ordered = sorted(batch, key=lambda waiting: len(waiting[0].inputs), reverse=True)
    groups: list[list[Waiting]] = [[]]
    for waiting in ordered:
        group = groups[-1]
        if len(group) >= MIN_ROWS:
            longest = len(group[0][0].inputs)
            if len(waiting[0].inputs) < settings.bucket * longest:
                groups.append(group := [])
        group.append(waiting)
    return groups[::-1]
