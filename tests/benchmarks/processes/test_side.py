from pathlib import Path

import pytest

from benchmarks.processes.failure_line import last_complaint, last_line, one_line
from benchmarks.processes.side import Side, SideFailed

SIDE = "tests.benchmarks.processes.quiet_side"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "side.log"


def test_a_side_answers_and_its_errors_are_told(log: Path) -> None:
    side = Side(SIDE, [], {}, log)
    try:
        assert side.wait() == {"version": 1}
        assert side.ask("double", value=3) == {"value": 6}
        with pytest.raises(SideFailed, match="ValueError: two lines"):
            side.ask("fail")
        assert side.ask("double", value=4) == {"value": 8}, "it goes on"
        with pytest.raises(SideFailed, match="the last word"):
            side.ask("leave")
        with pytest.raises(SideFailed, match="the last word"):
            side.ask("double", value=5)
    finally:
        side.close()
    assert "a library's own print" in log.read_text()


def test_a_side_that_does_not_answer_is_ended(log: Path) -> None:
    side = Side(SIDE, [], {}, log)
    try:
        side.wait()
        with pytest.raises(SideFailed, match="no answer within 0 s"):
            side.ask("wait", timeout_s=0.2)
    finally:
        side.close()


def test_a_side_that_does_not_start_says_why(log: Path) -> None:
    side = Side(SIDE, ["absent"], {}, log)
    try:
        with pytest.raises(SideFailed, match="ModuleNotFoundError: No module named 'torch'"):
            side.wait()
    finally:
        side.close()


def test_errors_are_one_line(tmp_path: Path) -> None:
    assert one_line(ValueError("a\n b")) == "ValueError: a b"
    assert one_line(KeyError()) == "KeyError"
    empty = tmp_path / "log"
    empty.write_text("\n")
    assert last_line(empty) == "it ended without a word"
    empty.write_text("x ERROR app: refused\nx INFO app: bye\n")
    assert last_complaint(empty) == "x ERROR app: refused"
