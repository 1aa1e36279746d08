"""`Engine`: joins scheduler and lanes.

1. A route calls `begin`: its sequences wait.
2. `_dispatch` cuts chunks for the lanes that are free and packs their numbers.
3. A lane computes them: a thread, or the event loop itself.
4. `_computed` unpacks the results, gives the lane its next chunk, then tells the requests that are
   done.

All else happens on the event loop, so nothing here needs a lock.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.engine.batch import Results, pack, unpack
from app.engine.cost_model import Cost
from app.engine.counters import Counters
from app.engine.executors import Lanes, LoopLane, ThreadLanes
from app.engine.reservation import Reservation
from app.engine.runner import ModelRunner
from app.engine.scheduler import Chunk, Scheduler, Sizes
from app.engine.sequence import Sequence
from app.engine.ticket import Done, Ticket
from app.errors import RunFailed, ShuttingDown, UnrollError

# Seconds until the next look at who is held back beside a lane: if that hangs, nothing tells.
LOOK_S = 0.5


@dataclass(frozen=True)
class Load:
    """How many sequences wait and run at this moment."""

    waiting: int
    running: int


class Engine:
    """Computes sequences in lanes.

    Args:
        runner: warm.
        cost: of its chunks.
        sizes: how much is taken at once.
        clock: of deadlines, in seconds.
        threads: whether the lanes are threads; else the event loop is the only lane.
        counters: to count in; its own if None.
    """

    def __init__(
        self,
        runner: ModelRunner,
        cost: Cost,
        sizes: Sizes,
        clock: Callable[[], float] = time.monotonic,
        threads: bool = True,
        counters: Counters | None = None,
    ) -> None:
        self.clock = clock
        self.runner = runner
        self.counters = counters or Counters()
        self._scheduler = Scheduler(sizes, cost, clock)
        self._lanes: Lanes
        if threads:
            self._lanes = ThreadLanes(sizes.lanes, runner, self._computed)
        else:
            assert sizes.lanes == 1, "there is one event loop"
            self._lanes = LoopLane(runner, self._computed)
        self._tickets: dict[Sequence, Ticket] = {}
        self._reservations: set[Reservation] = set()
        self._draining = False
        self._stopped = False
        self._emptied: asyncio.Event | None = None  # while `drain` waits for it
        self._dispatch_is_due = False
        self._look: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the lanes. Everything else is called on `loop`."""
        self._loop = loop
        # Whose place this worker takes may have compiled too.
        self._compiled_before = self.counters.compilations
        self._count_compilations()
        self._lanes.start(loop)

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        return self._lanes.alive

    def load(self) -> Load:
        """Sequences waiting and running now."""
        waiting = len(self._scheduler.waiting) + self._scheduler.expected
        return Load(waiting, self._scheduler.running)

    def check_room(self) -> None:
        """Whether one more sequence would be taken.

        Raises:
            Overloaded, ShuttingDown: as `begin` would.
        """
        self._check_open()
        self._scheduler.check_room(1, 1)

    def reserve(self, steps: int) -> Reservation:
        """Room for a sequence that will come; it is waited for when the engine drains.

        Args:
            steps: its time steps.

        Raises:
            Overloaded, ShuttingDown: as `begin` would.
        """
        self._check_open()
        self._scheduler.check_room(1, steps)
        submit = partial(self.submit, reserved=True)
        return Reservation(self._scheduler, steps, submit, self._reserved)

    def _check_open(self, reserved: bool = False) -> None:
        if self._stopped or (self._draining and not reserved):
            raise ShuttingDown("the service is stopping")

    def begin(self, sequences: list[Sequence], done: Done, reserved: bool = False) -> None:
        """Takes a request's sequences; `done` is called when all are complete or one failed.

        Args:
            sequences: new ones, at least one; results are found in them afterwards.
            done: is not called before this returns.
            reserved: they were expected, so they are taken while the engine drains.

        Raises:
            Overloaded: the waiting line is full; nothing was queued.
            ShuttingDown: the engine takes no more.
        """
        self._check_open(reserved)
        self._scheduler.add(sequences)
        ticket = Ticket(sequences, len(sequences), done)
        for sequence in sequences:
            self._tickets[sequence] = ticket
        self._count_load()
        if not self._dispatch_is_due:
            # Not at once: who arrives at the same moment may share a chunk.
            self._dispatch_is_due = True
            self._loop.call_soon(self._dispatch)

    async def submit(self, sequences: list[Sequence], reserved: bool = False) -> None:
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

        self.begin(sequences, done, reserved)
        try:
            await future
        except asyncio.CancelledError:
            self.cancel(sequences)
            raise

    def cancel(self, sequences: list[Sequence], error: UnrollError | None = None) -> None:
        """Ends a request's sequences and frees their slots, at the latest after their chunk.

        Who still waits for them gets the error at once, even if a kernel hangs.
        """
        self._scheduler.cancel(sequences, error)
        ticket = next((self._tickets[s] for s in sequences if s in self._tickets), None)
        if error is not None and ticket is not None:
            ticket.tell(error)
        self._resolve()

    async def drain(self, timeout_s: float) -> None:
        """Takes no more, lets what is there finish, then stops the lanes.

        Args:
            timeout_s: after so many seconds what is left ends with `ShuttingDown`; a kernel that
                hangs has as long again.
        """
        self._draining = True
        if not self._is_empty:
            self._emptied = self._emptied or asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
            except TimeoutError:
                self._give_up(ShuttingDown("the service stopped before the end"))
        self._stopped = True
        await asyncio.to_thread(self._lanes.stop, timeout_s)

    @property
    def _is_empty(self) -> bool:
        return len(self._scheduler) == 0 and not self._reservations

    def _give_up(self, error: UnrollError) -> None:
        self._stopped = True
        self._scheduler.cancel_all(error)
        for ticket in list(self._tickets.values()):
            ticket.tell(error)
        self._resolve()

    def _dispatch(self) -> None:
        """Gives the free lanes chunks, then tells who ended meanwhile."""
        self._dispatch_is_due = False
        while (chunk := self._scheduler.next_chunk()) is not None:
            try:
                self._lanes.give(chunk, pack(chunk, self.runner.state_size))
            except MemoryError as error:
                self._loop.call_soon(self._computed, chunk, error)
        if self._scheduler.holds_back and self._look is None:
            self._look = self._loop.call_later(LOOK_S, self._look_again)
        self._resolve()

    def _look_again(self) -> None:
        self._look = None
        self._dispatch()

    def _computed(self, chunk: Chunk, results: Results | Exception) -> None:
        """Takes a chunk back from a lane."""
        if isinstance(results, Exception):
            for sequence in chunk.sequences:
                sequence.error = sequence.error or RunFailed(
                    f"the lane failed: {type(results).__name__}"
                )
        else:
            unpack(chunk, results)
        self._count(chunk)
        self._scheduler.advance(chunk)
        for sequence in chunk.sequences:
            if sequence.listener is not None and sequence.error is None:
                sequence.listener(sequence)
        # First the lane, so that it computes while answers are printed.
        self._dispatch()

    def _count(self, chunk: Chunk) -> None:
        self.counters.chunks += 1
        self.counters.rows += len(chunk.sequences)
        steps = sum(chunk.steps)
        self.counters.time_steps += steps
        self.counters.padding += len(chunk.steps) * max(chunk.steps) - steps
        self._count_compilations()

    def _count_compilations(self) -> None:
        self.counters.compilations = self._compiled_before + self.runner.compilations

    def _count_load(self) -> None:
        load = self.load()
        self.counters.waiting, self.counters.running = load.waiting, load.running
        if self._emptied is not None and self._is_empty:
            self._emptied.set()

    def _resolve(self) -> None:
        """Counts ended sequences off their requests."""
        for sequence in self._scheduler.take_ended():
            ticket = self._tickets.pop(sequence)
            ticket.left -= 1
            if sequence.error is None:
                self.counters.completed += 1
            else:
                self.counters.failed += 1
            if sequence.error is not None and ticket.done is not None:
                ticket.tell(sequence.error)
                self.cancel(ticket.sequences)
            elif ticket.left == 0:
                ticket.tell(None)
        self._count_load()

    def _reserved(self, reservation: Reservation) -> None:
        """Called when a reservation takes room, or gives it back."""
        if reservation.is_over:
            self._reservations.remove(reservation)
        else:
            self._reservations.add(reservation)
        self._count_load()
