"""Runs sections, each in a process that is ended when its time is over.

What a section has measured until then is kept; what went wrong is told in one line; the next one
begins with nothing left of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import Plan, dump
from benchmarks.models.files import BUILD, ROOT
from benchmarks.processes.side import last_line
from benchmarks.servers.rounds import say

# In the environment of a section and of all that it starts: servers have sessions of their own.
TOKEN = "BENCH_SECTION"
# For what a section does between its last measurement and its end.
GRACE_S = 5.0
# Those that need the models, and how long they wait for them.
SERVING = ("chunks", "service")
MODELS_S = 60.0


class Group:
    """A command and all of its descendants.

    Args:
        command: program and arguments.
        log: takes their output.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        token = uuid.uuid4().hex
        self._mark = f"{TOKEN}={token}".encode()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, TOKEN: token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
            )

    def wait(self, timeout_s: float) -> str | None:
        """Until it ends, or is ended; returns in one line what went wrong, if anything did."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"ended after {timeout_s:.0f} s, its limit"
        finally:
            self.end()
        return None if status == 0 else last_line(self.log)

    def end(self) -> None:
        """Ends every process of it, servers that are paused too."""
        while pids := self._pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._process.poll()
            time.sleep(0.02)
        self._process.wait()

    def _pids(self) -> list[int]:
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


def run(plan: Plan, results: dict[str, Any], keep: Callable[[], None]) -> None:
    """Runs all sections of a plan.

    Args:
        plan: what to measure.
        results: gets `sections`: of each `result`, `error` (None if all went well), `seconds`.
        keep: called after each section.
    """
    prepare = [sys.executable, "-m", "benchmarks.gpu.prepare", *map(str, plan.models())]
    models = Group(prepare, BUILD / "logs" / "gpu-prepare.log")
    error: str | None = None
    waits = True
    try:
        for name, part in plan.sections().items():
            if name in SERVING and waits:
                error, waits = models.wait(MODELS_S), False
            if name in SERVING and error:
                say(f"{name}: the models: {error}")
                found = {"result": {}, "error": f"the models: {error}", "seconds": 0.0}
            else:
                found = run_section(name, part)
            results["sections"][name] = found
            keep()
    finally:
        models.end()


def run_section(name: str, part: Any) -> dict[str, Any]:
    """One section, by its name and its plan."""
    say(f"== {name}, at most {part.limit_s:.0f} s")
    file = BUILD / "gpu" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    started = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", str(file), dump(part)]
    error = Group(command, BUILD / "logs" / f"gpu-{name}.log").wait(part.limit_s + GRACE_S)
    seconds = time.monotonic() - started
    if error:
        say(f"{name}: {error}")
    say(f"== {name} took {seconds:.0f} s")
    result = json.loads(file.read_text()) if file.is_file() else {}
    return {"result": result, "error": error, "seconds": seconds}
