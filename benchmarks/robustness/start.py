"""`python -m benchmarks.robustness.start MODELS_DIR NAME`: from `exec` to `/readyz`, at what price.

Starts the service anew a few times: seconds until `/readyz` says yes, the memory of all processes
together (proportional set size, sampled) at its peak, whether one of them has loaded TensorFlow,
and how long the first 100 requests take beside those that follow. `--root` starts another checkout.
"""

import argparse
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.paths import ROOT

LIMIT_S = 180.0
STEPS = 50


def start(root: Path, models_dir: Path, name: str, port: int) -> subprocess.Popen[bytes]:
    """The service, in a session of its own."""
    environment = {
        **os.environ,
        "UNROLL_MODELS_DIR": str(models_dir),
        "UNROLL_MODEL": name,
        "UNROLL_PORT": str(port),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=root,
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Asks `/readyz` until it says yes."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.01)
    raise SystemExit("the service is not ready")


def processes_of(session: int) -> list[int]:
    """All processes that it has started, itself included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
    return found


def memory_mb(session: int) -> float:
    """The proportional set size of all processes together."""
    total = 0
    for pid in processes_of(session):
        with suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(text.partition("\nPss:")[2].split()[0])
    return total / 1024


def has_tensorflow(session: int) -> bool:
    """Whether one of the processes has TensorFlow's library in its memory."""
    for pid in processes_of(session):
        with suppress(OSError):
            if "libtensorflow" in Path(f"/proc/{pid}/maps").read_text():
                return True
    return False


def request_seconds(port: int, count: int, features: int) -> list[float]:
    """How long each of so many requests takes, one after the other."""
    row = [[0.1 * index for index in range(features)]] * STEPS
    body = json.dumps({"sequences": [row], "outputs": "last"})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("POST", "/predict", body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        taken.append(time.perf_counter() - began)
    return taken


def p99(values: list[float]) -> float:
    """What 99 of 100 are at most."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def measure(given: argparse.Namespace) -> dict[str, float]:
    """One start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    process = start(given.root, given.models_dir, given.name, port)
    found: dict[str, float] = {}
    try:
        if given.memory:
            peak = 0.0
            ready = False
            while not ready:
                peak = max(peak, memory_mb(process.pid))
                with suppress(OSError, http.client.HTTPException):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
                    connection.request("GET", "/readyz")
                    ready = connection.getresponse().status == 200
            found["peak_mb"] = max(peak, memory_mb(process.pid))
        else:
            wait_until_ready(port, process)
            found["ready_s"] = time.monotonic() - began
        found["tensorflow"] = has_tensorflow(process.pid)
        if given.requests:
            taken = request_seconds(port, 100 + given.requests, given.features)
            first, later = taken[:100], taken[100:]
            found["first_p99_ms"] = 1e3 * p99(first)
            found["later_p99_ms"] = 1e3 * p99(later)
            found["first_ms"] = 1e3 * first[0]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
    return found


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness.start")
    parser.add_argument("models_dir", type=Path)
    parser.add_argument("name")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the checkout that serves")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="sample memory in place of seconds")
    parser.add_argument("--requests", type=int, default=0, help="after the first 100")
    parser.add_argument("--features", type=int, default=8, help="of the model")
    given = parser.parse_args()
    rounds = [measure(given) for _ in range(given.runs)]
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        print(f"{name}: median {median(values):.3g}, of {[round(value, 3) for value in values]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
