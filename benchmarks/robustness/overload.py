"""Goodput beyond the peak: `python -m benchmarks.robustness.overload` (gcc and wrk needed).

Requests come at random moments, at a multiple of what the service answers at its peak, from callers
who are patient or give up. Goodput is what is answered within the caller's patience.
"""

import argparse
import json
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load.workloads import make
from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import BUILD
from benchmarks.servers.kinds import unroll
from benchmarks.servers.server import Server, serve

SOURCE = Path(__file__).with_name("open_loop.c")
PROGRAM = BUILD / "open_loop"
# Callers send from here; a caller of another address sends beside them.
ADDRESS = "127.0.0.2"
# Of this machine they connect to several.
SERVER = unroll("overloaded", "on all addresses", {"UNROLL_HOST": "0.0.0.0"})
PATIENT_S, IMPATIENT_S = 60.0, 2.0
CLIENTS = 64


@dataclass(frozen=True)
class Case:
    """What is sent.

    Attributes:
        workload: its name.
        factor: times the peak.
        patience_s: seconds until a caller gives up.
    """

    workload: str
    factor: float
    patience_s: float


def compiled() -> Path:
    """The generator; raises `CalledProcessError` where it cannot be compiled."""
    BUILD.mkdir(exist_ok=True)
    command = ["gcc", "-O2", "-o", str(PROGRAM), str(SOURCE), "-lm"]
    subprocess.run(command, check=True)
    return PROGRAM


def requests_file(workload: str) -> Path:
    """The requests of a workload as the generator reads them."""
    path = BUILD / "bodies" / f"{workload}.requests"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for body in make(workload).bodies:
            head = b"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            file.write(b"%d\n%b" % (len(request), request))
    return path


def flood(server: Server, case: Case, rate: float, seconds: float) -> dict[str, Any]:
    """What the generator saw."""
    command = [str(PROGRAM), str(server.port), f"{rate:.3f}", f"{seconds:g}"]
    command += [f"{case.patience_s:g}", str(requests_file(case.workload)), ADDRESS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def recovery_s(server: Server, usual_ms: float) -> float:
    """Seconds until a lone request takes no longer than usual, or twice as long."""
    began = time.perf_counter()
    body = make("fixed").bodies[0]
    while (past := time.perf_counter() - began) < 30:
        sent = time.perf_counter()
        try:
            server.answer(body)
        except OSError:
            continue
        if (time.perf_counter() - sent) * 1e3 <= 2 * usual_ms:
            break
    return past


def usual_ms(server: Server) -> float:
    """The time of a lone request."""
    body, took = make("fixed").bodies[0], []
    for _ in range(50):
        sent = time.perf_counter()
        server.answer(body)
        took.append((time.perf_counter() - sent) * 1e3)
    return median(took)


def warm(server: Server, workload: str, seconds: float) -> float:
    """The peak: requests a second of a closed loop."""
    server.load(make(workload), CLIENTS, 2)
    return server.load(make(workload), CLIENTS, seconds).per_second


def line(case: Case, peak: float, seconds: float, found: dict[str, Any], rest_s: float) -> str:
    """A row of the table."""
    statuses = found["statuses"]
    goodput = statuses.get("200", 0) / seconds
    others = " ".join(f"{status}:{count}" for status, count in statuses.items() if status != "200")
    return (
        f"| {case.workload} | {case.factor:g} | {case.patience_s:g} | {goodput / peak:.2f} "
        f"| {found['ok_p50_ms']:.0f} | {found['ok_p99_ms']:.0f} | {others or '-'} "
        f"| {found['refused_p50_ms']:.1f} | {found['late']} | {found['lost']} "
        f"| {found['cpu_s'] / seconds:.2f} | {rest_s:.1f} |"
    )


HEAD = """| workload | rate/peak | patience s | goodput/peak | ok p50 ms | ok p99 ms | refused | \
refused p50 ms | given up | lost | generator's cores | normal after s |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def measure(units: int, cases: list[Case], seconds: float) -> None:
    """Prints a table of a model."""
    with serve(SERVER, ensure_model(units)) as server:
        alone_ms = usual_ms(server)
        peaks = {name: warm(server, name, 8) for name in dict.fromkeys(c.workload for c in cases)}
        before = server.process.memory_bytes()
        shown = ", ".join(f"{name} {peak:.0f}/s" for name, peak in peaks.items())
        print(f"3 x LSTM {units}; peaks {shown}; alone {alone_ms:.1f} ms\n{HEAD}", flush=True)
        for case in cases:
            peak = peaks[case.workload]
            found = flood(server, case, case.factor * peak, seconds)
            print(line(case, peak, seconds, found, recovery_s(server, alone_ms)), flush=True)
        time.sleep(3)
        after = server.process.memory_bytes()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as page:
            assert page.status == 200
        print(
            f"memory {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after: {after / before:.3f}"
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each case")
    parser.add_argument("--units", type=int, nargs="+", default=[100, 512], help="of the models")
    parser.add_argument("--workloads", nargs="+", default=["fixed", "many"])
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 2, 4, 10])
    parser.add_argument("--patience", type=float, nargs="+", default=[PATIENT_S, IMPATIENT_S])
    given = parser.parse_args()
    compiled()
    cases = [
        Case(workload, factor, patience)
        for workload in given.workloads
        for patience in given.patience
        for factor in given.factors
    ]
    for units in given.units:
        measure(units, cases, given.seconds)


if __name__ == "__main__":
    main()
