"""What the results were measured on, and with what."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.paths import ROOT
from benchmarks.processes.peers_venv import peers_python
from benchmarks.processes.process import available_cores

OURS = (
    *("fastapi", "numpy", "onnxruntime", "openvino", "orjson"),
    *("starlette", "tensorflow", "uvicorn", "uvloop"),
)
PEERS = (
    *("bentoml", "fastapi", "granian", "keras", "litserve", "numpy", "onnxruntime", "orjson"),
    *("ray", "tensorflow", "torch", "uvicorn", "uvloop"),
)
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
VERSIONS_OF_PEERS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


def machine() -> dict[str, Any]:
    """The processor, cores, the flags that matter to kernels, and memory."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    has = set(flags.group(1).split()) if flags else set()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model.group(1) if model else platform.processor(),
        "cores": available_cores(),
        "flags": {name: name in has for name in FLAGS},
        "virtual": "hypervisor" in has,
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
    }


def versions() -> dict[str, Any]:
    """Of Python, of libraries on both sides, and of the load generator."""
    peers = subprocess.run(
        [str(peers_python()), "-c", VERSIONS_OF_PEERS, *PEERS],
        capture_output=True,
        text=True,
        check=True,
    )
    # It has no option for it and fails after it has said so.
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "unroll": {name: importlib.metadata.version(name) for name in OURS},
        "peers": json.loads(peers.stdout),
        "wrk": (wrk.stdout + wrk.stderr).split(" [")[0].strip(),
    }


def commit() -> str:
    """The commit that was measured, and whether the code differs from it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def origin(rounds: int) -> dict[str, Any]:
    """Where the results of a section are from: what the page has to say of them.

    Args:
        rounds: of the run.
    """
    return {
        "command": command(),
        "commit": commit(),
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(),
    }


def command() -> str:
    """The command as it was given."""
    return " ".join(["python -m benchmarks.serving", *sys.argv[1:]])
