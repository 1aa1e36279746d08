"""Everything at once for long: `python -m benchmarks.robustness.soak [--minutes 20] [--leak]`.

Callers of all routes and formats, valid and not, who hang up while they send, wait or read, are
slow, or have sessions and streams. Every 30 s it prints what the workers' memory is (PSS, the
median of readings), at the end whether it has grown since minute 5. `--leak` serves with
`leaking_app` instead, which must be seen to grow. Exit status 1 if it has grown.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.models.ensure_model import ensure_model
from benchmarks.robustness.soak_callers import CALLERS, Port
from benchmarks.servers.kinds import KINDS, UNROLL
from benchmarks.servers.server import Server, serve

WINDOW_S, READING_S = 30.0, 1.0
# Until the service has met all kinds of requests.
SETTLED_MIN = 5.0
GROWN = 0.03
SIDE_BY_SIDE = 24
PAUSE_S = 0.05
LIMIT_S = 90.0
UNITS = 100


def workers_pss_mb(server: Server) -> float:
    """Memory of the worker processes, in MB (1e6 bytes), what they share counted once."""
    total = 0
    for pid in server.process.pids():
        try:
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total * 1024 / 1e6


async def call(port: Port, until: float, seed: int, seen: Counter[str]) -> None:
    """One caller after the other, each of any kind."""
    random = Random(seed)
    kinds = list(CALLERS)
    while time.monotonic() < until:
        kind = random.choice(kinds)
        try:
            async with asyncio.timeout(LIMIT_S):
                ended = await CALLERS[kind](port, random)
        except (OSError, EOFError, TimeoutError) as error:
            ended = type(error).__name__
        seen[f"{kind}: {ended}"] += 1
        await asyncio.sleep(random.random() * PAUSE_S)


async def watch(server: Server, until: float) -> list[float]:
    """The memory of each window, MB."""
    windows: list[float] = []
    while time.monotonic() < until:
        end, readings = time.monotonic() + WINDOW_S, []
        while time.monotonic() < end:
            readings.append(workers_pss_mb(server))
            await asyncio.sleep(READING_S)
        windows.append(median(readings))
        minutes = len(windows) * WINDOW_S / 60
        print(f"{minutes:5.1f} min {windows[-1]:8.1f} MB, at most {max(readings):.1f}", flush=True)
    return windows


async def soak(server: Server, minutes: float) -> list[float]:
    """All callers beside each other."""
    until, seen = time.monotonic() + 60 * minutes, Counter[str]()
    port = Port(server.port, f"lstm{UNITS}")
    watching = asyncio.create_task(watch(server, until))
    await asyncio.gather(*(call(port, until, seed, seen) for seed in range(SIDE_BY_SIDE)))
    windows = await watching
    for kind, number in sorted(seen.items()):
        print(f"{number:8} {kind}")
    return windows


def growth(windows: list[float], settled_min: float) -> float:
    """How much larger the last third after a time is than the first: 0.03 is 3 %."""
    after = windows[int(settled_min * 60 / WINDOW_S) :]
    third = max(1, len(after) // 3)
    return median(after[-third:]) / median(after[:third]) - 1


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--leak", action="store_true")
    given = parser.parse_args()
    # Of a shorter run the first part settles.
    settled_min = min(SETTLED_MIN, given.minutes / 3)
    kind = KINDS[UNROLL]
    if given.leak:
        kind = replace(kind, module="benchmarks.robustness.leaking_app")
    with serve(kind, ensure_model(UNITS)) as server:
        print(f"  0.0 min {workers_pss_mb(server):8.1f} MB", flush=True)
        windows = asyncio.run(soak(server, given.minutes))
        grown = growth(windows, settled_min)
        time.sleep(5.0)
        print(f"5 s after the last caller {workers_pss_mb(server):.1f} MB")
    print(f"after minute {settled_min:.1f} it changes by {grown:+.1%}, at most {GROWN:.0%} is well")
    return int(grown > GROWN)


if __name__ == "__main__":
    sys.exit(main())
