"""`Workers`: starts the workers of a service, replaces those that die or hang, and stops them."""

import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app.stats.shared_stats import Board
from app.workers.dispatcher import Dealer, WorkerConfig

logger = logging.getLogger(__name__)

# Seconds from one look at the workers to the next count as no more than so many; there are two a
# second.
MAX_LOOK_S = 1.0
# A worker has so many times as long for its first beat: it imports large libraries before, on a new
# machine from a slow disk, and all of them do at once.
STARTING = 5
# Seconds beyond those that uvicorn has for its end until a worker counts as one that hangs.
LAST_JOIN_S = 2.0


class Pulse:
    """Whether the event loop of a worker goes on, by what it counts on the board.

    uvicorn's own answers come from another thread: they would come while the loop hangs.

    Args:
        count: of the worker's beats.
        limit_s: seconds that it has for the next one; `STARTING` times as long for the first.
        clock: seconds.
    """

    def __init__(
        self, count: Callable[[], int], limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._limit_s = limit_s
        self._clock = clock
        self._seen = count()
        self._looked = clock()
        self._silent_s = 0.0
        self._has_begun = False

    def beats(self) -> bool:
        """Looks; whether there is time left for the next beat."""
        now = self._clock()
        # While this process was stopped all may have been, so that counts for little.
        self._silent_s += min(now - self._looked, MAX_LOOK_S)
        self._looked = now
        if (count := self._count()) != self._seen:
            self._seen, self._silent_s, self._has_begun = count, 0.0, True
        return self._silent_s < self._limit_s * (1 if self._has_begun else STARTING)


class Workers(Multiprocess):
    """uvicorn's supervisor with a dealer.

    Args:
        config: of the workers.
        listener: bound.
        board: of the service.

    Attributes:
        failed: whether it ended though nobody asked it to.
    """

    def __init__(self, config: WorkerConfig, listener: socket.socket, board: Board) -> None:
        # As `nohup` leaves it.
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        super().__init__(config, [listener])
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.failed = False
        self._board = board
        self._dealer = Dealer(listener, config.backlog, config.home, board)
        self._pulses: dict[Process, Pulse] = {}

    def init_processes(self) -> None:
        """Called at the start."""
        super().init_processes()
        self._dealer.start()

    def keep_subprocess_alive(self) -> None:
        """Called twice a second, between looks for signals."""
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                # Workers that end do as they are told.
                return
            lives = process.process.is_alive()
            if lives and self._pulse(process).beats():
                continue
            self._pulses.pop(process, None)
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                # As the next one would.
                logger.error("worker %d cannot start: the service ends", process.pid)
                self.failed = True
                self.should_exit.set()
                return
            why = "it hangs" if lives else f"it ended with status {process.exitcode}"
            logger.error("worker %d is replaced: %s", process.pid, why)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def _pulse(self, process: Process) -> Pulse:
        if process not in self._pulses:
            assert process.pid is not None, "it has been started"
            count = partial(self._board.beats, process.pid)
            self._pulses[process] = Pulse(count, self.config.timeout_worker_healthcheck)
        return self._pulses[process]

    def handle_hup(self) -> None:
        """Called when the terminal is closed."""
        logger.info("Received SIGHUP, exiting.")
        self.should_exit.set()

    def terminate_all(self) -> None:
        """Called at the end."""
        self._dealer.stop()
        super().terminate_all()

    def join_all(self) -> None:
        """Called last. A worker that hangs is not waited for."""
        limit_s = (self.config.timeout_graceful_shutdown or 0) + LAST_JOIN_S
        until = time.monotonic() + limit_s
        for process in self.processes:
            process.process.join(max(0.0, until - time.monotonic()))
            if process.process.is_alive():
                logger.error("worker %d does not end: it is killed", process.pid)
                process.process.kill()
                process.process.join()
