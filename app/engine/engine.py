"""`Engine`: the lanes that join scheduler and runner.

1. A route calls `begin` on the event loop: the sequences wait, a lane wakes.
2. A lane, a thread, hands its last chunk back, asks the scheduler for the next and computes it.
3. What ended goes to the event loop, with one call a chunk, which tells the requests that are done.

One lock guards the scheduler; it is never held while a chunk is computed. Tickets are touched on
the event loop only.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.engine.cost import Cost
from app.engine.lane import Lane
from app.engine.runner import ModelRunner
from app.engine.scheduler import Chunk, Scheduler, Sizes
from app.engine.sequence import Sequence
from app.errors import RunFailed, ShuttingDown, UnrollError

logger = logging.getLogger(__name__)

# Seconds after which an idle lane looks by itself: a chunk that becomes overdue wakes nobody.
LOOK_S = 0.5


@dataclass
class Counters:
    """What the engine has done since it started. `rows / chunks` is the mean batch."""

    chunks: int = 0
    rows: int = 0
    time_steps: int = 0
    padding: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Load:
    """How many sequences wait and run at this moment."""

    waiting: int
    running: int


# Is called once, on the event loop: with None when all sequences of a request are complete, else
# with the error of the first that failed.
Done = Callable[[UnrollError | None], None]


@dataclass(eq=False)
class _Ticket:
    """A request: its sequences, and whom to tell; None when that is done."""

    sequences: list[Sequence]
    left: int
    done: Done | None


class Engine:
    """Computes sequences in lanes.

    Args:
        runner: warm.
        cost: of its chunks.
        sizes: how much is taken at once.
        clock: of deadlines, in seconds.
    """

    def __init__(
        self,
        runner: ModelRunner,
        cost: Cost,
        sizes: Sizes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.runner = runner
        self.counters = Counters()
        self._scheduler = Scheduler(sizes, cost, clock)
        self._lane = Lane(runner)
        lock = threading.Lock()
        self._work = threading.Condition(lock)  # a free lane waits for something to do
        self._empty = threading.Condition(lock)  # `drain` waits until nothing is left
        self._lanes = 0  # that have started and not ended
        self._stopping = False
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tickets: dict[Sequence, _Ticket] = {}
        self._threads = [
            threading.Thread(target=self._run_lane, name=f"lane-{index}", daemon=True)
            for index in range(sizes.lanes)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the lanes; results are delivered on `loop`."""
        self._loop = loop
        self._lanes = len(self._threads)
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        return self._lanes == len(self._threads)

    def load(self) -> Load:
        """Sequences waiting and running now."""
        with self._work:
            return Load(waiting=len(self._scheduler.waiting), running=self._scheduler.running)

    def check_room(self) -> None:
        """Whether one more sequence would be taken.

        Raises:
            Overloaded, ShuttingDown: as `submit` would.
        """
        with self._work:
            self._check_open()
            self._scheduler.check_room(1, 1)

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDown("the service is stopping")

    def begin(self, sequences: list[Sequence], done: Done) -> None:
        """Takes a request's sequences; `done` is called when all are complete or one failed.

        Args:
            sequences: new ones, at least one; results are found in them afterwards.
            done: is not called before this returns.

        Raises:
            Overloaded: the waiting line is full; nothing was queued.
            ShuttingDown: the engine takes no more.
        """
        ticket = _Ticket(sequences, len(sequences), done)
        with self._work:
            self._check_open()
            self._scheduler.add(sequences)
            for sequence in sequences:
                self._tickets[sequence] = ticket
            if self._scheduler.has_work:
                # One is enough: who wakes and leaves something wakes the next.
                self._work.notify()

    async def submit(self, sequences: list[Sequence]) -> None:
        """As `begin`, for who can wait; a caller that is cancelled cancels its sequences.

        Raises:
            UnrollError: the error of the first sequence that failed; the others are cancelled.
        """
        future = asyncio.get_running_loop().create_future()

        def done(error: UnrollError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.begin(sequences, done)
        try:
            await future
        except asyncio.CancelledError:
            self.cancel(sequences)
            raise

    def cancel(self, sequences: list[Sequence], error: UnrollError | None = None) -> None:
        """Ends a request's sequences and frees their slots, at the latest after their chunk.

        Who still waits for them gets the error at once, even if a kernel hangs.
        """
        with self._work:
            self._scheduler.cancel(sequences, error)
            ended = self._take_ended()
        ticket = next((self._tickets[s] for s in sequences if s in self._tickets), None)
        if error is not None and ticket is not None:
            self._tell(ticket, error)
        self._resolve(ended)

    def drain(self, timeout_s: float) -> None:
        """Takes no more, lets what is there finish, then stops the lanes. Blocks.

        Args:
            timeout_s: after so many seconds what is left ends with `ShuttingDown`.
        """
        with self._work:
            self._draining = True
            self._empty.wait_for(lambda: len(self._scheduler) == 0, timeout_s)
            self._scheduler.cancel_all(ShuttingDown("the service stopped before the end"))
            ended = self._take_ended()
            self._stopping = True
            self._work.notify_all()
        self._deliver(ended)
        for thread in self._threads:
            thread.join(timeout_s)

    def _run_lane(self) -> None:
        chunk: Chunk | None = None
        try:
            while (chunk := self._next_chunk(chunk)) is not None:
                self._compute(chunk)
        finally:
            with self._work:
                self._lanes -= 1

    def _compute(self, chunk: Chunk) -> None:
        try:
            self._lane.compute(chunk)
        except Exception:
            # A lane that ended would leave its callers waiting for ever.
            logger.exception("this is a bug: a lane failed outside of its kernel")
            for sequence in chunk.sequences:
                sequence.error = sequence.error or RunFailed("the lane failed")

    def _next_chunk(self, done: Chunk | None) -> Chunk | None:
        """Hands a computed chunk back and blocks until there is another; None at the end."""
        while True:
            with self._work:
                if done is not None:
                    self._count(done)
                    self._scheduler.advance(done)
                    done = None
                chunk = self._scheduler.next_chunk()
                ended = self._take_ended()
                if chunk is not None and self._scheduler.has_work:
                    self._work.notify()
                if chunk is None and not ended:
                    if self._stopping:
                        return None
                    self._work.wait(LOOK_S)
            self._deliver(ended)
            if chunk is not None:
                return chunk

    def _take_ended(self) -> list[Sequence]:
        """Under the lock: what ended; tells `drain` when nothing is left."""
        ended = self._scheduler.take_ended()
        if self._draining and ended and len(self._scheduler) == 0:
            self._empty.notify_all()
        return ended

    def _count(self, chunk: Chunk) -> None:
        self.counters.chunks += 1
        self.counters.rows += len(chunk.sequences)
        steps = sum(chunk.steps)
        self.counters.time_steps += steps
        self.counters.padding += len(chunk.steps) * max(chunk.steps) - steps

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
            if sequence.error is not None and ticket.done is not None:
                self._tell(ticket, sequence.error)
                self.cancel(ticket.sequences)
            elif ticket.left == 0:
                self._tell(ticket, None)

    def _tell(self, ticket: _Ticket, error: UnrollError | None) -> None:
        done, ticket.done = ticket.done, None
        if done is None:
            return
        try:
            done(error)
        except Exception:
            # The others of its chunk are told all the same.
            logger.exception("this is a bug: a request could not be told that it is done")
