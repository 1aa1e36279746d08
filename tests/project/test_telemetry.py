"""Nothing here tells anybody that it is used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("package", ["app", "model", "benchmarks"])
def test_onnx_runtime_sends_nothing_and_leaves_no_file(tmp_path: Path, package: str) -> None:
    """Where it does, it makes a number for this machine, and a database of what is to be sent."""
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    program = f"import {package}, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not list(tmp_path.rglob("*"))
