"""A service that is told to stop before it serves ends with status 0, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

# Called just then: a function of the command, which the signal comes in.
RUN = """
import os, sys
import app.__main__ as command

owner = command.WorkerServer if "{name}" == "run" else command
before = getattr(owner, "{name}")

def told(*given):
    os.kill(os.getpid(), {number})
    return before(*given)

setattr(owner, "{name}", told)
sys.exit(command.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("name", "workers"), [("raise_file_limit", 2), ("configure", 2), ("serve", 1), ("run", 1)]
)
def test_a_stop_before_it_serves(
    tmp_path: Path, number: signal.Signals, name: str, workers: int
) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    models.mkdir()
    settings = {
        "TMPDIR": str(home),
        "UNROLL_MODELS_DIR": str(models),
        "UNROLL_MODEL": "tiny",
        "UNROLL_WORKERS": str(workers),
        "UNROLL_PORT": "0",
    }
    code = RUN.format(number=int(number), name=name)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        timeout=60,
        check=False,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not list(home.iterdir())
    assert b"Traceback" not in done.stderr
