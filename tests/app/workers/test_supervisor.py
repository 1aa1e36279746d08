"""Whether a worker's event loop goes on; where its socket has room."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.workers.dispatcher import MAX_PID, _path, bytes_too_long
from app.workers.supervisor import STARTING, Pulse

LIMIT_S = 60.0


class Patient:
    """A worker's count, and a clock, both set by hand."""

    def __init__(self) -> None:
        self.now, self.count = 1000.0, 0
        self.pulse = Pulse(lambda: self.count, LIMIT_S, lambda: self.now)

    def beats_after(self, seconds: float) -> bool:
        """Looks twice a second, as the parent does."""
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            found = self.pulse.beats()
        return found


@pytest.fixture
def patient() -> Patient:
    return Patient()


def test_one_that_counts_on_lives_for_ever(patient: Patient) -> None:
    for _ in range(100):
        patient.count += 1
        assert patient.beats_after(LIMIT_S / 2)


def test_one_that_never_counts_hangs_in_the_end(patient: Patient) -> None:
    assert patient.beats_after(STARTING * LIMIT_S - 1)
    assert not patient.beats_after(1)


def test_one_that_starts_slowly_has_no_more_time_later(patient: Patient) -> None:
    assert patient.beats_after((STARTING - 1) * LIMIT_S)
    patient.count += 1
    assert patient.beats_after(LIMIT_S)
    assert not patient.beats_after(1)


def test_a_late_beat_is_one(patient: Patient) -> None:
    patient.count += 1
    assert patient.beats_after(LIMIT_S - 1)
    patient.count += 1
    assert patient.beats_after(LIMIT_S)
    assert not patient.beats_after(1)


def test_a_stop_of_all_processes_for_a_while_is_no_hanging(patient: Patient) -> None:
    """The parent looks before the worker has had time to count on."""
    patient.count += 1
    assert patient.beats_after(LIMIT_S / 2)
    patient.now += 100 * LIMIT_S
    assert patient.beats_after(LIMIT_S / 4)
    assert not patient.beats_after(LIMIT_S / 2)


HANGING = """
import pathlib, time
from app.__main__ import serve
from app.workers.dispatcher import WorkerConfig

async def app(scope, receive, send):
    time.sleep(1000)

def make():
    return app

if __name__ == "__main__":
    home = pathlib.Path({home!r})
    (home / "board").touch()
    serve(WorkerConfig("hanging:make", factory=True, home=home, port=0, workers=2,
                       timeout_worker_healthcheck=0.8))
"""


def test_a_worker_whose_event_loop_hangs_without_pythons_lock_is_replaced(tmp_path: Path) -> None:
    """Its other threads go on all the while."""
    (tmp_path / "hanging.py").write_text(HANGING.format(home=str(tmp_path)))
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    with subprocess.Popen(
        [sys.executable, tmp_path / "hanging.py"],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stderr is not None
        try:
            found = (line for line in parent.stderr if "is replaced: it hangs" in line)
            # Ends the parent, and with it the lines, if nothing is said.
            timer = threading.Timer(30, parent.terminate)
            timer.start()
            assert next(found, None) is not None
        finally:
            timer.cancel()
            parent.terminate()
            parent.stderr.read()


@pytest.mark.parametrize("excess", [-1, 0, 1, 5])
def test_the_longest_folder_that_holds_sockets_is_known(tmp_path: Path, excess: int) -> None:
    room = 107 - len(f"/{MAX_PID}.sock") + excess
    home = tmp_path / ("\N{GREEK SMALL LETTER PI}" * 4)
    home /= "x" * (room - len(os.fsencode(home)) - 1)
    home.mkdir(parents=True)
    assert bytes_too_long(home) == max(0, excess)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        if excess > 0:
            with pytest.raises(OSError, match="too long"):
                made.bind(str(_path(home, MAX_PID)))
        else:
            made.bind(str(_path(home, MAX_PID)))
