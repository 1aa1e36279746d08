"""Workers that hang or end are replaced; those that cannot stay up, ever more slowly."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from uvicorn.supervisors.multiprocess import SIGNALS

from app.stats.shared_stats import SharedStats
from app.workers.connection_dispatcher import bytes_too_long
from app.workers.connection_receiver import MAX_PID, socket_path
from app.workers.supervisor import STARTING, STAYED_UP_S, Pulse, RestartDelay, Workers
from app.workers.worker_server import WorkerConfig

pytestmark = pytest.mark.long

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


def test_successors_wait_ever_longer_and_at_most_a_minute() -> None:
    delay = RestartDelay()
    found = [delay.after_an_end() for _ in range(10)]
    assert found == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert delay.delay_s == 60
    delay.reset()
    assert delay.delay_s == 0
    assert [delay.after_an_end() for _ in range(3)] == [0, 1, 2]


class FakeProcess:
    """A worker of uvicorn that ends with status 4 after a life by the clock.

    Attributes:
        pid: its number in the order of starts.
    """

    def __init__(self, now: Callable[[], float], life_s: float, pid: int) -> None:
        self._now, self._life_s, self.pid = now, life_s, pid
        self.process = self
        self.exitcode = 4

    def start(self) -> None:
        self._ends = self._now() + self._life_s

    def is_alive(self) -> bool:
        return self._now() < self._ends

    def kill(self) -> None:
        self._ends = self._now()

    def join(self) -> None:
        assert not self.is_alive()


@pytest.fixture
def _signals() -> Iterator[None]:
    """uvicorn's supervisor takes them all."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_each_place_has_a_delay_of_its_own_until_a_worker_stays_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    # The first worker stays up. The second ends at once six times, stays up, and ends once more.
    lives = iter([1e9, *[0.0] * 6, STAYED_UP_S + 1, 1e9])
    starts: list[float] = []

    def make(*_: object) -> FakeProcess:
        starts.append(now)
        return FakeProcess(lambda: now, next(lives), len(starts))

    monkeypatch.setattr("app.workers.supervisor.WorkerProcess", make)
    stats = SharedStats()
    config = WorkerConfig(
        "no:app", home=tmp_path, stats=stats.claim, workers=2, timeout_worker_healthcheck=10**9
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        workers = Workers(config, listener, stats, lambda: now)
        workers.init_processes()
        told = []
        while now < 150:
            now += 0.5
            workers.keep_subprocess_alive()
            told.append(stats.trouble != "")
        workers._dispatcher.stop()
        workers._dispatcher.join(20)
        workers._dispatcher._sender.close()
    # A delay counts from the look that finds the end, half a second after the start.
    assert starts[2:] == [0.5, 2.0, 4.5, 9.0, 17.5, 34.0, 95.0]
    assert told.index(True) == 1
    assert not told[round(2 * (34.0 + STAYED_UP_S))]
    assert len(starts) == 9


SERVICE = """
import os, pathlib, signal, time
from app.__main__ import serve
from app.stats.shared_stats import SharedStats
from app.workers.worker_server import WorkerConfig

home = pathlib.Path({home!r})

async def hanging(scope, receive, send):
    time.sleep(1000)

def make_hanging():
    return hanging

def make_crashing():
    told = SharedStats(2, home / "stats").trouble
    # One write: both workers say so at once.
    os.write(1, f"started\\ntold: {{told}}\\n".encode())
    {crash}

if __name__ == "__main__":
    (home / "stats").touch()
    config = WorkerConfig("service:make_{kind}", factory=True, home=home, stats=print, port=0,
                          workers=2, timeout_worker_healthcheck={health_s})
    serve(config, config.bind_socket())
"""


class Lines:
    """A service of two workers, and what it says until the time is over."""

    def __init__(self, home: Path, limit_s: float, **names: object) -> None:
        text = SERVICE.format(home=str(home), **{"crash": "", "health_s": 60, **names})
        (home / "service.py").write_text(text)
        self._path = os.pathsep.join([str(home), os.getcwd()])
        self._command, self._limit_s = [sys.executable, home / "service.py"], limit_s

    def __enter__(self) -> Iterator[str]:
        self._parent = subprocess.Popen(
            self._command,
            env={**os.environ, "PYTHONPATH": self._path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._timer = threading.Timer(self._limit_s, self._parent.terminate)
        self._timer.start()
        assert self._parent.stdout is not None
        return iter(self._parent.stdout)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._parent.terminate()
        assert self._parent.stdout is not None
        self._parent.stdout.read()
        self._parent.stdout.close()
        self._parent.wait(30)


def test_a_worker_whose_event_loop_hangs_without_pythons_lock_is_replaced(tmp_path: Path) -> None:
    """Its other threads go on all the while."""
    with Lines(tmp_path, 30, kind="hanging", health_s=0.8) as lines:
        assert any("is replaced: it hangs" in line for line in lines)


@pytest.mark.parametrize(
    ("crash", "how"),
    [
        ("os._exit(7)", "ended with status 7"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
    ],
)
def test_workers_that_end_at_once_start_ever_more_slowly_and_all_are_told_why(
    tmp_path: Path, crash: str, how: str
) -> None:
    said = []
    with Lines(tmp_path, 120, kind="crashing", crash=crash) as lines:
        for line in lines:
            said.append(line)
            if "is replaced in 2 s" in line:
                break
    # At most four of each worker until then, however fast this machine is.
    assert 4 <= sum(line == "started\n" for line in said) <= 8, said
    replaced = [line for line in said if " is replaced" in line]
    assert all(f": it {how} " in line for line in replaced), said
    assert "those before it" not in replaced[0]
    assert any("is replaced in 1 s, as those before it ended soon too:" in line for line in said)
    # What a worker can tell its callers.
    told = [line for line in said if line.startswith("told:")]
    assert told[0] == "told: \n"
    assert told[-1].endswith(f" of the service's workers cannot stay up: the last one {how}\n")


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
                made.bind(str(socket_path(home, MAX_PID)))
        else:
            made.bind(str(socket_path(home, MAX_PID)))
