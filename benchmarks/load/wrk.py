"""Drives a server with `wrk`: a closed loop of so many clients, each with one request at a time.

`wrk` adds latencies that nobody had: for each above twice the mean it records those that requests
sent meanwhile would have had, if clients did not wait for their answers. In a closed loop they do,
so what was added is taken away again.
"""

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.workloads import NO_WRAP, STREAM_PIECES, Workload, Wrap
from benchmarks.paths import BUILD

# One sends JSON, the other bodies of any bytes.
SCRIPT, BODIES_SCRIPT = (Path(__file__).with_name(name) for name in ("wrk.lua", "bodies.lua"))
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
        p50_ms, p99_ms: latency of a request.
    """

    requests: int
    duration_s: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.errors) / self.duration_s


def as_recorded(corrected: Mapping[int, int], interval: int) -> dict[int, int]:
    """What `wrk` recorded before it added to it (`stats_correct` in its stats.c).

    A latency n of at least twice the interval was counted again at n - interval, n - 2 * interval
    and so on, while that is above the interval.

    Args:
        corrected: how often each latency stands, as `wrk` gives it.
        interval: that it took as the time between two requests of a client; above 0.
    """
    return {
        value: count - (corrected.get(value + interval, 0) if value > interval else 0)
        for value, count in corrected.items()
    }


def percentile(counts: Mapping[int, int], percent: float) -> int:
    """The smallest latency that so many percent do not exceed; 0 without any."""
    rank = math.ceil(percent / 100 * sum(counts.values()))
    for value in sorted(counts):
        rank -= counts[value]
        if rank <= 0:
            return value
    return 0


def parse(output: str, clients: int) -> Load:
    """Reads what `done.lua` printed.

    Raises:
        WrkFailed: it is not there.
    """
    lines = [line for line in output.splitlines() if line.startswith('{"requests":')]
    if len(lines) != 1:
        raise WrkFailed(f"wrk printed no result: {output.strip()[-500:]}")
    found = json.loads(lines[0])
    latencies: dict[int, int] = dict(found["latencies_us"])
    of_a_client = found["requests"] // clients
    if of_a_client:
        latencies = as_recorded(latencies, found["duration_us"] // of_a_client)
    return Load(
        requests=found["requests"],
        duration_s=found["duration_us"] / 1e6,
        errors=found["status_errors"] + found["socket_errors"],
        p50_ms=percentile(latencies, 50) / 1e3,
        p99_ms=percentile(latencies, 99) / 1e3,
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
    """Runs `wrk` with a script that includes `done.lua`; raises as `drive`."""
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
    return parse(done.stdout, clients)
