"""Starts a process and everything it starts, measures and ends all of it. Linux only.

All of them are found by a variable of their environment: frameworks detach their workers, so
neither process groups nor parents would tell.
"""

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.paths import ROOT
from benchmarks.processes.failure_line import last_line

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT_S = 15.0
# For what the workers are about to answer their parent.
SETTLE_S = 0.02


class Process:
    """A command and all of its descendants.

    Args:
        command: program and arguments.
        environment: variables besides this process's own.
        log: file that takes its output.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        # A name of its own: what a descendant starts as a `Process` is found by both.
        variable = f"BENCH_PROCESS_{uuid.uuid4().hex}"
        self._mark = f"{variable}=1".encode()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            self._popen = subprocess.Popen(
                command,
                env={**os.environ, **environment, variable: "1"},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=ROOT,
            )

    @property
    def ended(self) -> bool:
        """Whether the command itself has ended."""
        return self._popen.poll() is not None

    def pids(self) -> list[int]:
        """Every live process of it."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    # Of one that has ended it is empty.
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all live processes, and the ended ones they waited for."""
        return sum(map(_cpu_seconds, self.pids()))

    def memory_bytes(self) -> int:
        """Memory of all live processes, what they share counted once (PSS)."""
        return sum(map(_pss_bytes, self.pids()))

    def pause(self) -> None:
        """Stops every process, so that an idle server takes no CPU from a measured one.

        The command first, and last when they go on: a parent that asks its workers whether they
        live (uvicorn's does) would else take those for dead that were stopped before they answered.
        """
        self._signal(signal.SIGSTOP, [self._popen.pid])
        time.sleep(SETTLE_S)
        self._signal(signal.SIGSTOP, self.pids())

    def resume(self) -> None:
        """Lets them go on."""
        self._signal(signal.SIGCONT, [pid for pid in self.pids() if pid != self._popen.pid])
        time.sleep(SETTLE_S)
        self._signal(signal.SIGCONT, self.pids())

    def wait(self, timeout_s: float) -> str | None:
        """Until the command ends, or is ended; nothing that it has started outlives it.

        Returns:
            In one line what went wrong, None if nothing did.
        """
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"ended after {timeout_s:.0f} s, its limit"
        finally:
            self.kill()
        return None if status == 0 else last_line(self.log)

    def stop(self) -> None:
        """Ends every process: politely, then not."""
        self.resume()
        if not self.ended:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """Ends every process at once, those that are paused too."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while (pids := self.pids()) and time.monotonic() < deadline:
            self._signal(signal.SIGKILL, pids)
            self._popen.poll()
            time.sleep(0.02)
        self._popen.wait()

    def _signal(self, number: int, pids: Sequence[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def available_cores() -> int:
    """Cores that processes may use."""
    return len(os.sched_getaffinity(0))


def busy_core_seconds() -> float:
    """What all cores have done since the machine started, time that a hypervisor took included."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu_seconds(pid: int) -> float:
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # User and system time, its own and that of the children it has waited for: a worker that is
    # replaced takes nothing away.
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
