"""`Workers`: starts the workers of a service, replaces those that die or hang, and stops them."""

import logging
import math
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app.stats.shared_stats import SharedStats, describe_exit
from app.workers.connection_dispatcher import Dispatcher
from app.workers.service_manager import tell_manager
from app.workers.worker_server import WorkerConfig, WorkerServer

logger = logging.getLogger(__name__)

# Seconds from one look at the workers to the next count as no more than so many; the parent looks
# twice a second.
MAX_LOOK_S = 1.0
# A worker has so many times as long for its first beat: it imports large libraries before, on a new
# machine from a slow disk, and all workers do so at once.
STARTING = 5
# A worker that ends within so many seconds could not stay up.
STAYED_UP_S = 60.0
# Its successor starts at once, the next after this delay, and each further one after twice the
# delay of the one before: at most so many seconds. What ends them at once would else take the cores
# from the workers that answer.
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 60.0
# Seconds beyond those that uvicorn has for its end until a worker counts as one that hangs.
LAST_JOIN_S = 3.0
# Seconds between two looks at signals while the service gives notice.
LOOK_S = 0.05


class WorkerProcess(Process):
    """uvicorn's, with the server of this service."""

    config: WorkerConfig

    @property
    def server(self) -> uvicorn.Server:
        """Made in the process itself."""
        if self._server is None:
            self._server = WorkerServer(self.config)
        return self._server


class Pulse:
    """Whether the event loop of a worker goes on, by the beats that it counts.

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
        self._began = self._looked = clock()
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

    @property
    def lived_s(self) -> float:
        """Seconds from the first look to now."""
        return self._clock() - self._began


class RestartDelay:
    """How long the successors of a worker wait for their start.

    Attributes:
        delay_s: of the last one; 0 while workers stay up.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Called when a worker has stayed up."""
        self.delay_s = self._next_s = 0.0

    def after_an_end(self) -> float:
        """The seconds for the next successor."""
        self.delay_s = self._next_s
        self._next_s = min(max(FIRST_DELAY_S, 2 * self.delay_s), MAX_DELAY_S)
        return self.delay_s


class Workers(Multiprocess):
    """uvicorn's supervisor with a dispatcher.

    Args:
        config: of the workers.
        listener: bound.
        stats: of the service.
        clock: seconds.

    Attributes:
        failed: whether it ended though nobody asked it to.
    """

    config: WorkerConfig

    def __init__(
        self,
        config: WorkerConfig,
        listener: socket.socket,
        stats: SharedStats,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # As `nohup` leaves it.
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        super().__init__(config, [listener])
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.failed = False
        self._stats = stats
        self._clock = clock
        self._dispatcher = Dispatcher(
            listener, config.backlog, config.home, stats, waits=config.inherited
        )
        self._notice_s = 0.0
        self._told_ready = False
        self._pulses: dict[Process, Pulse] = {}
        # By index in `processes`; a process that has ended stays there until it is replaced.
        self._delays: defaultdict[int, RestartDelay] = defaultdict(RestartDelay)
        self._replaced_at: dict[Process, float] = {}
        self._exit_status = 0

    def init_processes(self) -> None:
        """Called at the start."""
        for _ in range(self.processes_num):
            self.processes.append(self._start())
        self._dispatcher.start()

    def _start(self) -> Process:
        process = WorkerProcess(self.config, self.sockets)
        process.start()
        return process

    def keep_subprocess_alive(self) -> None:
        """Called twice a second, between looks for signals."""
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                # Workers that end do as they are told.
                return
            if process not in self._replaced_at and not self._is_well(index, process):
                self._bury(index, process)
            if self._clock() >= self._replaced_at.get(process, math.inf):
                del self._replaced_at[process]
                self.processes[index] = self._start()
        crashing = sum(self._delays[index].delay_s > 0 for index in range(len(self.processes)))
        self._stats.tell_crashing(crashing, self._exit_status)
        if not self._told_ready and self._stats.ready:
            self._told_ready = True
            tell_manager("READY=1")

    def _is_well(self, index: int, process: Process) -> bool:
        """Whether a worker lives and its event loop goes on."""
        pulse = self._pulse(process)
        if pulse.lived_s >= STAYED_UP_S:
            self._delays[index].reset()
        return process.process.is_alive() and pulse.beats()

    def _bury(self, index: int, process: Process) -> None:
        """Ends a worker that is not well, and says when the next one starts."""
        hangs, lived_s = process.process.is_alive(), self._pulses.pop(process).lived_s
        process.kill()
        process.join()
        status = process.exitcode
        assert status is not None, "it has been joined"
        if status == STARTUP_FAILURE:
            # As the next one would.
            logger.error("worker %d cannot start: the service ends", process.pid)
            self.failed = True
            self.should_exit.set()
            return
        self._exit_status = status
        delay_s = self._delays[index].after_an_end()
        self._replaced_at[process] = self._clock() + delay_s
        why = "it hangs" if hangs else f"it {describe_exit(status)} {lived_s:.0f} s after its start"
        when = f" in {delay_s:.0f} s, as those before it ended soon too" if delay_s else ""
        logger.error("worker %d is replaced%s: %s", process.pid, when, why)

    def _pulse(self, process: Process) -> Pulse:
        if process not in self._pulses:
            assert process.pid is not None, "it has been started"
            count = partial(self._stats.beats, process.pid)
            self._pulses[process] = Pulse(
                count, self.config.timeout_worker_healthcheck, self._clock
            )
        return self._pulses[process]

    def handle_term(self) -> None:
        """Called when the service is to stop, and others need to notice."""
        super().handle_term()
        if self._stats.ready:
            self._notice_s = self.config.stop_notice_s

    def handle_hup(self) -> None:
        """Called when the terminal is closed."""
        logger.info("Received SIGHUP, exiting.")
        self.should_exit.set()

    def terminate_all(self) -> None:
        """Called at the end. Workers answer as before until their parent tells them to stop."""
        self._stats.tell_stopping()
        tell_manager("STOPPING=1")
        if self.config.inherited:
            # Whoever takes over does so now.
            self._dispatcher.stop()
        ends_at = time.monotonic() + self._notice_s
        while time.monotonic() < ends_at and signal.SIGINT not in self.signal_queue:
            time.sleep(LOOK_S)
        if not self.config.inherited:
            self._dispatcher.stop()
        self._stats.tell_dispatched()
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
