"""Whether a worker answers, asked without waiting for it; where its socket has room."""

import multiprocessing
import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from app.balance import MAX_PID, _path, bytes_too_long
from app.supervisor import Pulse

LIMIT_S = 60.0


class Patient:
    """A worker's end of the pipe, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        ours, self.pipe = multiprocessing.Pipe()
        self.ours: Connection = ours
        self.pulse = Pulse(ours, LIMIT_S, lambda: self.now)

    def answer(self) -> None:
        assert self.pipe.recv() == b"ping"
        self.pipe.send(True)

    def beats_after(self, seconds: float) -> bool:
        self.now += seconds
        return self.pulse.beats()


@pytest.fixture
def patient() -> Iterator[Patient]:
    patient = Patient()
    yield patient
    patient.ours.close()
    patient.pipe.close()


def test_one_that_answers_lives_for_ever(patient: Patient) -> None:
    assert patient.pulse.beats()
    for _ in range(100):
        patient.answer()
        assert patient.beats_after(LIMIT_S / 2)


def test_one_that_does_not_answer_is_not_waited_for_and_hangs_in_the_end(patient: Patient) -> None:
    """It has not read its ping; nobody sends more of them."""
    assert patient.pulse.beats()
    assert patient.beats_after(LIMIT_S - 1)
    assert not patient.beats_after(1)
    patient.pipe.recv()
    assert not patient.pipe.poll()


def test_a_late_answer_is_one(patient: Patient) -> None:
    assert patient.pulse.beats()
    assert patient.beats_after(LIMIT_S - 1)
    patient.answer()
    assert patient.beats_after(2)
    assert patient.beats_after(LIMIT_S - 1)
    assert not patient.beats_after(2)


def test_a_stop_of_all_processes_for_a_while_is_no_hanging(patient: Patient) -> None:
    """The answer was there before, or there was no question."""
    assert patient.pulse.beats()
    patient.answer()
    assert patient.beats_after(100 * LIMIT_S)


def test_one_that_has_closed_its_end_does_not_live(patient: Patient) -> None:
    assert patient.pulse.beats()
    patient.pipe.close()
    assert not patient.beats_after(1)


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
