"""`Engine`: joins scheduler and lanes.

1. The service calls `begin`, or `submit`, which returns when all is computed: the request's
   sequences wait for slots. A piece of a session is admitted before (`admit`), and comes when the
   pieces before it are computed.
2. `_dispatch` cuts chunks for the lanes that are free and packs their numbers.
3. A lane computes them: a thread, or the event loop itself.
4. `_computed` unpacks the results, gives the lane its next chunk, then tells the requests that are
   done.

All but the threads' computing happens on the event loop, so nothing here needs a lock.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

from app.engine.batch import Batch, Lanes, LoopLane, Results, pack, unpack
from app.engine.cost_model import Cost
from app.engine.counters import Counters
from app.engine.runner_interface import ModelRunner
from app.engine.scheduler import Chunk, Scheduler, Sizes
from app.engine.sequence import Admission, Done, Sequence
from app.engine.thread_lanes import ThreadLanes
from app.errors import Overloaded, RunFailed, ShuttingDown, UnrollError

logger = logging.getLogger(__name__)

# Seconds that requests are told of their ends for, most of which goes to printing their answers;
# then callers are read first.
TELL_S = 2e-3
# Seconds until the next look at sequences that wait though a lane is free: if the lane beside it
# hangs, no chunk comes back that would wake them.
LOOK_S = 0.5


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
        self._has_threads = threads
        if threads:
            self._lanes = ThreadLanes(sizes.lanes, runner, self._computed)
        else:
            assert sizes.lanes == 1, "there is one event loop"
            self._lanes = LoopLane(runner, self._computed)
        # Of each sequence that waits or runs.
        self._admissions: dict[Sequence, Admission] = {}
        # Sequences that have ended, and whose requests are to be told.
        self._ended: deque[Sequence] = deque()
        self._draining = False
        self._stopped = False
        self._emptied: asyncio.Event | None = None  # while `drain` waits for it
        self._dispatch_is_due = False
        self._look: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the lanes. Everything else is called on `loop`."""
        self._loop = loop
        # The worker that this one replaces counted here too.
        self._compiled_before = self.counters.compilations
        self._count_compilations()
        self._lanes.start(loop)

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        return self._lanes.alive

    def refusal(self, caller: str, left_s: float) -> Overloaded | None:
        """Why a caller's next request is refused while more comes than can be computed in time.

        No error is raised, and its frames kept, since there are thousands a second.

        Args:
            caller: who sends it.
            left_s: seconds until it must be answered.

        Returns:
            None if it may be taken, or `begin` tells why it is not.
        """
        if self._draining:
            return None
        return self._scheduler.admission.refusal_of_next(caller, left_s)

    @property
    def is_crowded(self) -> bool:
        """Whether a request may be refused, so that it is worth looking before it is parsed."""
        return self._draining or self._scheduler.admission.is_crowded

    def check_room(self, steps: int, caller: str, left_s: float) -> None:
        """Whether one more sequence would be taken.

        Args:
            steps: of its request, as far as is known.
            caller: who sends it.
            left_s: seconds until it must be answered.

        Raises:
            Overloaded, ShuttingDown: as `begin` would.
        """
        self._check_open()
        self._scheduler.admission.check(1, steps, caller, left_s)

    def admit(self, steps: int, caller: str = "", left_s: float = math.inf) -> Admission:
        """Admits a piece whose sequence comes later; a drain waits until it leaves.

        Its room is its own until `leave`: it waits elsewhere within the limits of those who wait
        here, and no other request takes its place before it has come, or may come again.

        Args:
            steps: time steps of the piece.
            caller: who sends it.
            left_s: seconds until it must be answered.

        Raises:
            Overloaded, ShuttingDown: as `begin` would.
        """
        self._check_open()
        self._scheduler.admission.take(1, steps, caller, left_s)
        self._count_load()
        return Admission(steps, caller)

    def leave(self, admission: Admission) -> None:
        """Ends what `admit` began; a sequence that is still in the engine keeps its room till then.

        Called once for each.
        """
        last = admission.sequences[-1] if admission.sequences else None
        self._scheduler.release(admission.steps, admission.caller, last)
        self._count_load()

    def _check_open(self, admitted: bool = False) -> None:
        if self._stopped or (self._draining and not admitted):
            raise ShuttingDown("the service is stopping")

    def begin(
        self, sequences: list[Sequence], done: Done, admission: Admission | None = None
    ) -> None:
        """Takes a request's sequences; `done` is called when all are complete or one failed.

        Args:
            sequences: new ones, at least one; results are found in them afterwards.
            done: is not called before this returns.
            admission: of a piece, whose one sequence this is; None for a request that is admitted
                now.

        Raises:
            Overloaded: the engine is full; nothing was queued. Never for a piece.
            ShuttingDown: the engine takes no more; a piece it takes while it drains.
        """
        self._check_open(admission is not None)
        self._scheduler.add(sequences, expected=admission is not None)
        if admission is None:
            admission = Admission()
        else:
            assert admission.left == 0, "this is a bug: the sequence before has not ended"
            assert admission.steps == len(sequences[0].inputs), "this is a bug: it has other room"
        admission.sequences, admission.left, admission.done = sequences, len(sequences), done
        for sequence in sequences:
            self._admissions[sequence] = admission
        self._count_load()
        # Not at once: requests that arrive at the same moment may share a chunk.
        self._dispatch_soon()

    async def submit(self, sequences: list[Sequence], admission: Admission | None = None) -> None:
        """As `begin`, and waits until it is done; a caller that is cancelled cancels its sequences.

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

        self.begin(sequences, done, admission)
        try:
            await future
        except asyncio.CancelledError:
            self.cancel(sequences)
            raise

    def cancel(self, sequences: list[Sequence], error: UnrollError | None = None) -> None:
        """Ends a request's sequences and frees their slots, at the latest after their chunk.

        A caller that still waits gets the error at once, even if a kernel hangs.
        """
        self._scheduler.cancel(sequences, error)
        inside = (self._admissions[s] for s in sequences if s in self._admissions)
        if error is not None and (admission := next(inside, None)) is not None:
            _tell(admission, error)
        self._resolve()

    async def drain(
        self, timeout_s: float, expected: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Takes no more, lets all that is admitted finish, then stops the lanes.

        Args:
            timeout_s: after so many seconds what is left ends with `ShuttingDown`; a kernel that
                hangs has as long again.
            expected: returns once all requests have begun that are still taken.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if expected is not None:
                    await expected()
                self._draining = True
                if not self._is_empty:
                    self._emptied = self._emptied or asyncio.Event()
                    await self._emptied.wait()
        except TimeoutError:
            self._give_up(ShuttingDown("the service stopped before the end"))
        self._stopped = True
        await asyncio.to_thread(self._lanes.stop, timeout_s)

    @property
    def _is_empty(self) -> bool:
        return self._scheduler.admission.held.sequences == 0 and not self._ended

    def _give_up(self, error: UnrollError) -> None:
        self._stopped = True
        self._scheduler.cancel_all(error)
        for admission in list(self._admissions.values()):
            _tell(admission, error)
        self._resolve()

    @property
    def _reads_first(self) -> bool:
        """Whether the event loop reads what callers have sent before it cuts the next chunk.

        Where several share the engine a newcomer is in the next chunk then. One caller's requests
        are answered evenly if the next chunk is cut before: its answers are read while that is
        computed, where else all would come and wait together.
        """
        return not self._has_threads and self._scheduler.is_shared

    def _give(self, chunk: Chunk, batch: Batch) -> None:
        if self._has_threads:
            self._lanes.give(chunk, batch)
        else:
            self._loop.call_soon(self._lanes.give, chunk, batch)

    def _dispatch_soon(self) -> None:
        """Has `_dispatch` called once the event loop has read what callers have sent."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Gives the free lanes chunks, then tells the requests that are done."""
        self._dispatch_is_due = False
        if self._ended and not (self._has_threads or self._reads_first):
            # They have waited longest. Where callers share the engine, the others do not wait for
            # the answers to one of them.
            self._resolve()
            self._dispatch_soon()
            return
        while (chunk := self._scheduler.next_chunk()) is not None:
            try:
                batch = pack(chunk, self.runner.state_size)
            except MemoryError as error:
                self._loop.call_soon(self._computed, chunk, type(error).__name__)
                continue
            if self._reads_first:
                # It is computed at once. Who comes meanwhile may be in the next one.
                self._lanes.give(chunk, batch)
                break
            self._give(chunk, batch)
        if self._has_threads and self._scheduler.holds_back and self._look is None:
            self._look = self._loop.call_later(LOOK_S, self._look_again)
        self._resolve()

    def _look_again(self) -> None:
        self._look = None
        self._dispatch()

    def _computed(self, chunk: Chunk, results: Results | str) -> None:
        """Takes a chunk back from a lane."""
        if isinstance(results, str):
            for sequence in chunk.sequences:
                sequence.error = sequence.error or RunFailed(f"the lane failed: {results}")
        else:
            unpack(chunk, results)
        self._count(chunk)
        self._scheduler.advance(chunk)
        for sequence in chunk.sequences:
            if sequence.listener is not None and sequence.error is None:
                sequence.listener(sequence)
        if self._reads_first:
            # `_dispatch`, which called this, tells the requests.
            self._dispatch_soon()
        else:
            # First the lane, so that it computes while answers are printed, or read.
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
        running, counters = self._scheduler.running, self.counters
        counters.waiting = self._scheduler.admission.held.sequences - running
        counters.running = running
        if self._emptied is not None and self._is_empty:
            self._emptied.set()

    def _resolve(self) -> None:
        """Counts ended sequences off their requests, of many some at a time."""
        self._ended.extend(self._scheduler.take_ended())
        until = 0.0
        while self._ended:
            if until and self.clock() >= until:
                self._dispatch_soon()
                break
            until = until or self.clock() + TELL_S
            sequence = self._ended.popleft()
            admission = self._admissions.pop(sequence)
            admission.left -= 1
            if sequence.error is None:
                self.counters.completed += 1
            else:
                self.counters.failed += 1
            if sequence.error is not None and admission.done is not None:
                _tell(admission, sequence.error)
                self.cancel(admission.sequences)
            elif admission.left == 0:
                _tell(admission, None)
        self._count_load()


def _tell(admission: Admission, error: UnrollError | None) -> None:
    """Tells a request that it has ended, once: what comes later is not told."""
    done, admission.done = admission.done, None
    if done is None:
        return
    try:
        done(error)
    except Exception:
        # The other requests of the chunk are told all the same.
        logger.exception("this is a bug: a request could not be told that it is done")
