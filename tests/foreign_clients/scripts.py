"""Runs clients of other servers' protocols, in the environment that they have of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "client_scripts"
LIMIT_S = 120.0


def run_client(script: str, *arguments: str) -> Any:
    """What a script of `client_scripts/` prints, which is JSON."""
    assert PYTHON.exists(), f"there is no {PYTHON}, which `make test` makes"
    command = [str(PYTHON), str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
