"""The peers' own virtual environment, so that their dependencies never mix with the project's.

It is made from `requirements-bench.txt` when it is first needed. `BENCH_PEERS_VENV` names one that
is there already.
"""

import hashlib
import os
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

from benchmarks.paths import BUILD, ROOT


class EnvironmentFailed(Exception):
    """The peers cannot be installed."""


REQUIREMENTS = ROOT / "requirements-bench.txt"


@cache
def peers_python() -> Path:
    """The interpreter of the peers' environment, installed if need be.

    Raises:
        EnvironmentFailed: pip failed; its log says why.
    """
    given = os.environ.get("BENCH_PEERS_VENV")
    if given:
        return Path(given).resolve() / "bin" / "python"
    home = BUILD / "venv"
    python = home / "bin" / "python"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = home / "installed"
    if stamp.is_file() and stamp.read_text() == digest:
        return python
    print("installing the peers into", home.relative_to(ROOT), file=sys.stderr, flush=True)
    venv.create(home, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    with (BUILD / "pip.log").open("w") as log:
        done = subprocess.run(
            [*command, "-r", str(REQUIREMENTS)], stdout=log, stderr=log, check=False
        )
    if done.returncode:
        raise EnvironmentFailed(f"pip could not install the peers: see {log.name}")
    stamp.write_text(digest)
    return python
