import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes.process import Process, busy_core_seconds

# A child that leaves its session, as frameworks' workers do, and burns time; then the same here.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
print("started", flush=True)
while True: pass
"""


@pytest.fixture
def process(tmp_path: Path) -> Process:
    started = Process([sys.executable, "-c", PARENT], {}, tmp_path / "log")
    deadline = time.monotonic() + 30
    while len(started.pids()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return started


def test_measures_pauses_and_ends_a_server_with_its_detached_workers(process: Process) -> None:
    try:
        pids = process.pids()
        assert len(pids) == 2
        assert process.memory_bytes() > 1e6

        process.pause()
        time.sleep(0.1)
        paused = process.cpu_seconds()
        time.sleep(0.3)
        # The clock of CPU time has ticks of 10 ms.
        assert process.cpu_seconds() - paused <= 0.021

        busy = busy_core_seconds()
        process.resume()
        time.sleep(0.5)
        assert busy_core_seconds() > busy + 0.05
        assert process.cpu_seconds() > paused + 0.05
        assert not process.ended
        process.pause()
    finally:
        process.stop()
    assert process.ended
    assert process.pids() == []
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists() or is_zombie(pid)


def is_zombie(pid: int) -> bool:
    return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_says_when_the_command_has_ended(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "print('bye')"], {"A": "1"}, tmp_path / "log")
    process._popen.wait(30)
    assert process.ended
    process.stop()
    assert (tmp_path / "log").read_text() == "bye\n"


def test_other_processes_are_left_alone(tmp_path: Path, process: Process) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        process.stop()
        assert other.poll() is None
        other.kill()


def test_a_command_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A child in a session of its own, stopped, as servers are while others are measured."""
    pid = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {pid}; kill -STOP $$; sleep 60' & sleep 60"
    process = Process(["sh", "-c", script], {}, tmp_path / "log")
    while not (pid.is_file() and pid.read_text().strip()):
        time.sleep(0.01)
    assert process.wait(0.1) == "ended after 0 s, its limit"
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    # It may wait to be buried.
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_what_went_wrong_in_a_command_is_told_in_a_line(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "raise ValueError('no')"], {}, tmp_path / "log")
    assert process.wait(30) == "ValueError: no"
    assert Process(["true"], {}, tmp_path / "log").wait(30) is None
