"""`Workers`: starts the workers of a service, replaces those that die or hang, and stops them."""

import logging
import pickle
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app.balance import Dealer, WorkerConfig
from app.board import Board

logger = logging.getLogger(__name__)

# Seconds beyond those that uvicorn has for its end until a worker counts as one that hangs.
LAST_JOIN_S = 2.0


class Pulse:
    """Whether a worker answers its parent. Never waits for it: a signal would have to, too.

    Args:
        pipe: to the worker.
        limit_s: seconds that it has for an answer.
        clock: seconds.
    """

    def __init__(
        self, pipe: Connection, limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pipe = pipe
        self._limit_s = limit_s
        self._clock = clock
        self._asked: float | None = None  # since when an answer is due

    def beats(self) -> bool:
        """Asks if nothing is asked; whether there is time left for the answer."""
        now = self._clock()
        try:
            if self._asked is not None and self._pipe.poll():
                self._pipe.recv()
                self._asked = None
            if self._asked is None:
                self._pipe.send(b"ping")
                self._asked = now
        except (OSError, EOFError, pickle.UnpicklingError):
            return False
        return now - self._asked < self._limit_s


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
        pulse = Pulse(process.parent_conn, self.config.timeout_worker_healthcheck)
        return self._pulses.setdefault(process, pulse)

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
