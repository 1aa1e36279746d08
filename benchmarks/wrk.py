"""Drives a server with `wrk`: a closed loop of so many clients, each with one request at a time."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.places import BUILD
from benchmarks.workloads import NO_WRAP, STREAM_PIECES, Workload, Wrap

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_S = 30


class WrkFailed(Exception):
    """`wrk` is not there, or did not say what it measured."""


@dataclass(frozen=True)
class Load:
    """What `wrk` saw.

    Attributes:
        requests: answered.
        duration_s: of the run.
        errors: answers that are not 2xx or 3xx, and failures of sockets.
        p50_ms, p90_ms, p99_ms, max_ms: latency.
    """

    requests: int
    duration_s: float
    errors: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.errors) / self.duration_s


def parse(output: str) -> Load:
    """Reads what `wrk.lua` printed.

    Raises:
        WrkFailed: it is not there.
    """
    lines = [line for line in output.splitlines() if line.startswith('{"requests":')]
    if len(lines) != 1:
        raise WrkFailed(f"wrk printed no result: {output.strip()[-500:]}")
    found = json.loads(lines[0])
    return Load(
        requests=found["requests"],
        duration_s=found["duration_us"] / 1e6,
        errors=found["status_errors"] + found["socket_errors"],
        **{f"{name}_ms": found[f"{name}_us"] / 1e3 for name in ("p50", "p90", "p99", "max")},
    )


def bodies_file(workload: Workload) -> Path:
    """The bodies, one a line, written anew."""
    path = BUILD / "bodies" / f"{workload.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(workload.bodies) + b"\n")
    return path


def drive(url: str, workload: Workload, clients: int, seconds: float, wrap: Wrap = NO_WRAP) -> Load:
    """Runs `wrk` with one thread, to spare the cores for the server.

    Args:
        url: of the endpoint.
        workload: what to send.
        clients: connections, each waiting for its answer before it sends again.
        seconds: how long, in whole seconds, at least 1.
        wrap: what the server wants around a body.

    Raises:
        WrkFailed: it is not installed or failed.
    """
    mode = "stream" if workload.streams else "plain"
    arguments = [str(bodies_file(workload)), mode, str(STREAM_PIECES)]
    arguments += [wrap.before.decode(), wrap.after.decode()]
    return run(url, SCRIPT, arguments, clients, seconds)


def run(url: str, script: Path, arguments: list[str], clients: int, seconds: float) -> Load:
    """Runs `wrk` with a script that prints as `wrk.lua` does; raises as `drive`."""
    if shutil.which("wrk") is None:
        raise WrkFailed("wrk is not installed: apt-get install wrk")
    done = subprocess.run(
        ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_S}s"]
        + ["-s", str(script), url, "--", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise WrkFailed(f"wrk failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return parse(done.stdout)
