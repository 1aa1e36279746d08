"""`Engine`: the lanes that join scheduler and runner.

1. A route calls `submit` on the event loop: the sequences wait, the lanes wake.
2. A lane, a thread, asks the scheduler for its next chunk, computes it and hands it back.
3. What ended goes to the event loop, with one call a chunk, and resolves its request's future.

One lock guards the scheduler; it is never held while a chunk is computed. Futures and tickets are
touched on the event loop only.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.engine.lane import Lane
from app.engine.runner import ModelRunner
from app.engine.scheduler import Chunk, Scheduler
from app.engine.sequence import Sequence
from app.errors import RunFailed, ShuttingDown

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """What the engine has done since it started. `rows / chunks` is the mean batch."""

    chunks: int = 0
    rows: int = 0
    time_steps: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Load:
    """How many sequences wait and run at this moment."""

    waiting: int
    running: int


@dataclass(eq=False)
class _Ticket:
    """A request: its sequences and the future that its caller awaits."""

    future: asyncio.Future[None]
    sequences: list[Sequence]
    left: int


class Engine:
    """Computes sequences in lanes.

    Args:
        runner: warm.
        num_lanes: threads.
        slots_per_lane: sequences that run in a lane at once.
        max_waiting: most sequences waiting and running.
        max_waiting_steps: most time steps of them.
        max_chunk_steps: most time steps of a chunk.
        clock: of deadlines, in seconds.
    """

    def __init__(
        self,
        runner: ModelRunner,
        num_lanes: int,
        slots_per_lane: int,
        max_waiting: int,
        max_waiting_steps: int,
        max_chunk_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.counters = Counters()
        self._scheduler = Scheduler(
            num_lanes, slots_per_lane, max_waiting, max_waiting_steps, max_chunk_steps, clock
        )
        self._changed = threading.Condition()
        self._stopping = False
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tickets: dict[Sequence, _Ticket] = {}
        self._threads = [
            threading.Thread(
                target=self._run_lane,
                args=(index, Lane(runner, slots_per_lane)),
                name=f"lane-{index}",
                daemon=True,
            )
            for index in range(num_lanes)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the lanes; results are delivered on `loop`."""
        self._loop = loop
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        return all(thread.is_alive() for thread in self._threads)

    def load(self) -> Load:
        """Sequences waiting and running now."""
        with self._changed:
            waiting = len(self._scheduler.waiting)
            return Load(waiting=waiting, running=len(self._scheduler) - waiting)

    def check_room(self) -> None:
        """Whether one more sequence would be taken.

        Raises:
            Overloaded, ShuttingDown: as `submit` would.
        """
        with self._changed:
            self._check_open()
            self._scheduler.check_room(1, 1)

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDown("the service is stopping")

    async def submit(self, sequences: list[Sequence]) -> None:
        """Computes a request's sequences; returns when all are complete.

        A caller that is cancelled cancels its sequences.

        Args:
            sequences: new ones, at least one; results are found in them afterwards.

        Raises:
            Overloaded: the waiting line is full; nothing was queued.
            ShuttingDown: the engine takes no more.
            UnrollError: the error of the first sequence that failed; the others are cancelled.
        """
        ticket = _Ticket(asyncio.get_running_loop().create_future(), sequences, len(sequences))
        with self._changed:
            self._check_open()
            self._scheduler.add(sequences)
            self._tickets.update(dict.fromkeys(sequences, ticket))
            self._changed.notify_all()
        try:
            await ticket.future
        finally:
            if ticket.left:
                self.cancel(sequences)

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Ends sequences that nobody waits for, and frees their slots."""
        with self._changed:
            self._scheduler.cancel(sequences)
            ended = self._take_ended()
        self._resolve(ended)

    def drain(self, timeout_s: float) -> None:
        """Takes no more, lets what is there finish, then stops the lanes. Blocks.

        Args:
            timeout_s: after so many seconds what is left ends with `ShuttingDown`.
        """
        with self._changed:
            self._draining = True
            self._changed.wait_for(lambda: len(self._scheduler) == 0, timeout_s)
            self._scheduler.cancel_all(ShuttingDown("the service stopped before the end"))
            ended = self._take_ended()
            self._stopping = True
            self._changed.notify_all()
        self._deliver(ended)
        for thread in self._threads:
            thread.join(timeout_s)

    def _run_lane(self, index: int, lane: Lane) -> None:
        while (chunk := self._wait_for_chunk(index)) is not None:
            self._compute(lane, chunk)
            with self._changed:
                self._count(chunk)
                self._scheduler.advance(chunk)
                ended = self._take_ended()
            self._deliver(ended)

    def _compute(self, lane: Lane, chunk: Chunk) -> None:
        try:
            lane.compute(chunk)
        except Exception:
            # A lane that ended would leave its callers waiting for ever.
            logger.exception("this is a bug: a lane failed outside of its kernel")
            for sequence in chunk.sequences:
                sequence.error = sequence.error or RunFailed("the lane failed")

    def _wait_for_chunk(self, index: int) -> Chunk | None:
        """Blocks until the lane has a chunk; None when the engine stops."""
        while True:
            with self._changed:
                chunk = self._scheduler.next_chunk(index)
                ended = self._take_ended()
                if chunk is None and not ended:
                    if self._stopping:
                        return None
                    self._changed.wait()
            self._deliver(ended)
            if chunk is not None:
                return chunk

    def _take_ended(self) -> list[Sequence]:
        """Under the lock: what ended; tells `drain` when nothing is left."""
        ended = self._scheduler.take_ended()
        if ended and len(self._scheduler) == 0:
            self._changed.notify_all()
        return ended

    def _count(self, chunk: Chunk) -> None:
        self.counters.chunks += 1
        self.counters.rows += len(chunk.sequences)
        self.counters.time_steps += sum(chunk.steps)

    def _deliver(self, ended: list[Sequence]) -> None:
        """Hands ended sequences from a lane to the event loop."""
        if ended and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve, ended)

    def _resolve(self, ended: list[Sequence]) -> None:
        """On the event loop: counts ended sequences off their requests."""
        for sequence in ended:
            ticket = self._tickets.pop(sequence)
            ticket.left -= 1
            if sequence.error is None:
                self.counters.completed += 1
            else:
                self.counters.failed += 1
            if ticket.future.done():
                continue
            if sequence.error is not None:
                ticket.future.set_exception(sequence.error)
            elif ticket.left == 0:
                ticket.future.set_result(None)
