"""What callers lose while the service stops, is taken over or loses a worker: nothing, one hopes.

    python -m benchmarks.robustness.stopping sigterm|takeover|kill [--rounds N] [--workers N] ...

It serves the model that `UNROLL_MODELS_DIR` and `UNROLL_MODEL` name. `sigterm`: SIGTERM at a random
moment under 48 keep-alive callers, while others open connections. `takeover`: a second process
takes the port over, again and again. `kill`: kill -9 of each worker, while sessions go on.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.robustness.callers import Connection, Lost, Reset, body_of, request_of
from benchmarks.robustness.services import Listener, Service
from benchmarks.robustness.session_callers import SessionCaller, disagreement
from tests.support.redis_server import redis_server

CALLERS, NEWCOMERS = 48, 4
# Seconds between two requests of a caller, at most.
PAUSE_S = 0.02
PROBE_S = 0.02
RECOVERY_S = 5.0
# Of a service of which one is killed.
WORKERS = 2


async def keep_alive(port: int, data: bytes, counts: Counter[str], until: asyncio.Event) -> None:
    """Sends requests on one connection until it is told to close, then on the next."""
    while not until.is_set():
        try:
            connection = await Connection.open(port)
        except OSError:
            counts["connections refused"] += 1
            return
        while not until.is_set() and not connection.is_ended:
            await ask(connection, data, counts)
            await asyncio.sleep(random.random() * PAUSE_S)
        counts["connections ended"] += 1
        connection.close()


async def newcomers(port: int, data: bytes, counts: Counter[str], until: asyncio.Event) -> None:
    """Opens a connection for each request."""
    while not until.is_set():
        try:
            connection = await Connection.open(port)
        except OSError:
            counts["newcomers refused"] += 1
            return
        await ask(connection, data, counts, "newcomers' ")
        connection.close()
        await asyncio.sleep(random.random() * PAUSE_S)


async def ask(connection: Connection, data: bytes, counts: Counter[str], who: str = "") -> None:
    """Sends a request and counts what becomes of it."""
    try:
        answer = await connection.ask(data)
        counts[f"{who}{answer.status}"] += 1
    except Reset:
        counts[f"{who}RESET"] += 1
    except Lost:
        counts[f"{who}LOST"] += 1


async def sigterm(options: argparse.Namespace) -> None:
    """SIGTERM at random moments."""
    total: Counter[str] = Counter()
    for number in range(options.rounds):
        async with Service(options.workers, UNROLL_STOP_NOTICE_S=options.notice) as service:
            counts: Counter[str] = Counter()
            data, until = request_of(await body_of(service.port)), asyncio.Event()
            tasks = [
                asyncio.create_task(way(service.port, data, counts, until))
                for way, count in ((keep_alive, CALLERS), (newcomers, NEWCOMERS))
                for _ in range(count)
            ]
            await asyncio.sleep(0.2 + 2 * random.random())
            sent = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(service.process.wait, 60)
            counts[f"exit status {status}"] += 1
            await asyncio.gather(*tasks)
            print(number, f"ended after {time.monotonic() - sent:.2f} s", dict(counts), flush=True)
            total += counts
    print("sigterm", f"{options.workers} workers", dict(total), flush=True)


async def takeover(options: argparse.Namespace) -> None:
    """One process takes over from another."""
    counts: Counter[str] = Counter()
    with Listener() as listener:
        service = await Service(options.workers, listener).__aenter__()
        data, until = request_of(await body_of(listener.port)), asyncio.Event()
        tasks = [
            asyncio.create_task(way(listener.port, data, counts, until))
            for way, count in ((keep_alive, CALLERS), (newcomers, NEWCOMERS))
            for _ in range(count)
        ]
        for number in range(options.rounds):
            successor = await Service(options.workers, listener).__aenter__()
            await asyncio.sleep(random.random())
            service.process.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(service.process.wait, 60)
            counts[f"exit status {status}"] += 1
            service = successor
            print(number, dict(counts), flush=True)
        until.set()
        await asyncio.gather(*tasks)
        await service.__aexit__()
    print("takeover", f"{options.workers} workers", dict(counts), flush=True)


async def probe(port: int, counts: Counter[str], until: asyncio.Event) -> None:
    """Asks `/readyz` on new connections."""
    request = b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"
    while not until.is_set():
        connection = await Connection.open(port)
        await ask(connection, request, counts, "readyz ")
        connection.close()
        await asyncio.sleep(PROBE_S)


async def is_whole(port: int) -> bool:
    """Whether all workers answer."""
    connection = await Connection.open(port)
    try:
        answer = await connection.ask(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
    except Lost:
        return False
    finally:
        connection.close()
    told: dict[str, Any] = json.loads(answer.body)
    return answer.status == 200 and told["workers_ready"] == told["workers"]


async def kill(options: argparse.Namespace) -> None:
    """Kill -9 of each worker of a service in turn. `rounds` counts the kills."""
    counts: Counter[str] = Counter()
    recoveries, worst, pieces = [], 0.0, 0
    folder = tempfile.TemporaryDirectory()
    with folder as home, redis_server(Path(home)) if options.redis else nullcontext() as redis:
        url = redis.url if redis else "memory://"
        for _ in range(options.rounds // 2):
            async with Service(WORKERS, UNROLL_SESSIONS_URL=url) as service:
                body, until = await body_of(service.port), asyncio.Event()
                sessions = [SessionCaller(service.port, body, number) for number in range(8)]
                tasks = [asyncio.create_task(caller.run(until)) for caller in sessions]
                tasks.append(asyncio.create_task(probe(service.port, counts, until)))
                for victim in service.workers():
                    await asyncio.sleep(0.5 + random.random())
                    began = time.monotonic()
                    os.kill(victim, signal.SIGKILL)
                    # Until its successor is there; the service may not have seen that it is gone.
                    while len(now := service.workers()) < WORKERS or victim in now:
                        await asyncio.sleep(PROBE_S / 2)
                    while not await is_whole(service.port):
                        await asyncio.sleep(PROBE_S)
                    recoveries.append(time.monotonic() - began)
                await asyncio.sleep(0.5)
                until.set()
                await asyncio.gather(*tasks)
                for caller in sessions:
                    worst = max(worst, await disagreement(service.port, caller))
                    pieces += caller.pieces
                print(f"recovered after {recoveries[-2:]} s", dict(counts), flush=True)
    late = sum(recovery > RECOVERY_S for recovery in recoveries)
    print(
        f"kill, sessions {'on Redis' if options.redis else 'in memory'}: {len(recoveries)} kills, "
        f"recovery {sorted(recoveries)[len(recoveries) // 2]:.1f} s (median), "
        f"{max(recoveries):.1f} s at most, {late} beyond {RECOVERY_S:g} s; {dict(counts)}; "
        f"{pieces} pieces of sessions, largest difference to uninterrupted {worst:.1e}"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("sigterm", "takeover", "kill"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--notice", type=float, default=5.0)
    parser.add_argument("--redis", action="store_true")
    options = parser.parse_args()
    asyncio.run({"sigterm": sigterm, "takeover": takeover, "kill": kill}[options.what](options))


if __name__ == "__main__":
    main()
