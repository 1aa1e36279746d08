"""What went wrong, in one line: from an exception, or from a process's log."""

from pathlib import Path

LONGEST = 200


def one_line(error: BaseException) -> str:
    """An error's type and the beginning of its text."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:LONGEST]


def last_line(log: Path) -> str:
    """What a process said last: of a traceback, the error."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:LONGEST] if lines else "it ended without a word"


def last_complaint(log: Path) -> str:
    """What a process warned of last; else what it said last."""
    lines = log.read_text(errors="replace").splitlines()
    found = [line for line in lines if " ERROR " in line or " WARNING " in line]
    return found[-1][:LONGEST] if found else last_line(log)
