"""A normal caller beside each kind of attack: its latency, and what it is answered.

    python -m benchmarks.robustness.attacks [--seconds 6] [--only PART-OF-A-NAME ...]

Unroll serves 3 x LSTM 100 with a worker a core. The normal caller asks for 10 time steps each few
milliseconds, from 127.0.0.2, over four connections and now and then a new one. It is measured
without the attack, with the same attack on a server that only reads (`sink`), which shows what the
attackers take of the cores that they share, and with the attack on the service.
"""

import argparse
import multiprocessing
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import BUILD
from benchmarks.processes.process import Process, free_port
from benchmarks.robustness.attack_traffic import ATTACKS, Attack, Traffic, post
from benchmarks.servers.kinds import UNROLL, ServerKind
from benchmarks.servers.server import Server, serve

NORMAL = "127.0.0.2"
PAUSE_S = 0.004
CONNECTIONS, NEW_EACH = 4, 10
# So long an attack goes on before it is measured.
LEAD_S = 2.0
TIMEOUT_S = 30.0


class Seen(NamedTuple):
    """What a normal caller saw: milliseconds at the median and the 99th percentile, and answers."""

    p50_ms: float
    p99_ms: float
    answers: dict[str, int]


@dataclass(frozen=True)
class Limited(ServerKind):
    """Unroll with all defaults, and a limit of open files; 0 for what it is."""

    name: str = UNROLL
    module: str = "app"
    about: str = "all defaults"
    peer: bool = False
    files: int = 0

    def command(self) -> list[str]:
        """Program and arguments."""
        limit = ["prlimit", f"--nofile={self.files}:{self.files}"] if self.files else []
        return [*limit, *super().command()]


class NormalCaller:
    """Asks, waits for the answer, pauses."""

    def __init__(self, port: int) -> None:
        self._port = port
        rows = b",".join([b"[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5]"] * 10)
        self._request = post(b'{"outputs":"last","states":"none","sequences":[[' + rows + b"]]}")
        self._open: list[socket.socket | None] = [None] * CONNECTIONS

    def watch(self, seconds: float) -> Seen:
        """Asks for so long."""
        times: list[float] = []
        answers: Counter[str] = Counter()
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            place, number = number % CONNECTIONS, number + 1
            if number % NEW_EACH == 0:
                self._close(place)
            began = time.perf_counter()
            answers[self._ask(place)] += 1
            times.append(1e3 * (time.perf_counter() - began))
            time.sleep(PAUSE_S)
        for place in range(CONNECTIONS):
            self._close(place)
        times.sort()
        return Seen(times[len(times) // 2], times[len(times) * 99 // 100], dict(answers))

    def _ask(self, place: int) -> str:
        try:
            connection = self._open[place]
            if connection is None:
                connection = socket.create_connection(
                    ("127.0.0.1", self._port), TIMEOUT_S, (NORMAL, 0)
                )
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open[place] = connection
            connection.sendall(self._request)
            head = connection.recv(1 << 16)
            if not head:
                raise ConnectionResetError
            return head[9:12].decode()
        except OSError as error:
            self._close(place)
            return type(error).__name__

    def _close(self, place: int) -> None:
        connection, self._open[place] = self._open[place], None
        if connection is not None:
            connection.close()


def _attack(attack: Attack, port: int, ready: Any, stop: Any, answers: Any) -> None:
    """The attackers' process."""
    traffic = Traffic(port)
    attack.start(traffic)
    ready.set()
    stop.wait()
    answers.put(dict(traffic.answers))
    traffic.stopped.set()


@contextmanager
def attacked(name: str, port: int) -> Iterator[dict[str, int]]:
    """While it is open the attack goes on; then it has the attackers' answers."""
    attack = next(attack for attack in ATTACKS if attack.name == name)
    context = multiprocessing.get_context("fork")
    ready, stop, queue = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=_attack, args=(attack, port, ready, stop, queue), daemon=True)
    process.start()
    found: dict[str, int] = {}
    try:
        ready.wait()
        time.sleep(LEAD_S)
        yield found
    finally:
        stop.set()
        found.update(queue.get(timeout=10))
        process.terminate()
        process.join()


@contextmanager
def sink() -> Iterator[int]:
    """The port of a server that only reads."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.robustness.sink", str(port)]
    process = Process(command, {}, BUILD / "logs" / "sink.log")
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.stop()


def measure(server: Server, attack: Attack, seconds: float) -> None:
    """Prints the attack's row."""
    caller = NormalCaller(server.port)
    caller.watch(1.0)
    alone = caller.watch(seconds)
    with sink() as port, attacked(attack.name, port):
        beside_sink = caller.watch(seconds)
    with attacked(attack.name, server.port) as answers:
        beside = caller.watch(seconds)
    parts = [
        attack.name,
        attack.about,
        f"{alone.p50_ms:.1f}, {alone.p99_ms:.1f}",
        f"x{beside_sink.p50_ms / alone.p50_ms:.1f}, x{beside_sink.p99_ms / alone.p99_ms:.1f}",
        f"x{beside.p50_ms / alone.p50_ms:.1f}, x{beside.p99_ms / alone.p99_ms:.1f}",
        _text(beside.answers),
        _text(answers),
    ]
    print(f"| {' | '.join(parts)} |", flush=True)
    server.rest()


def _text(answers: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(answers.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--only", nargs="*", default=[""])
    given = parser.parse_args(arguments)
    model = ensure_model(100)
    print(
        "| attack | how | p50, p99 without, ms | beside the same on a sink | beside it | answers |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    chosen = [attack for attack in ATTACKS if any(part in attack.name for part in given.only)]
    for files in sorted({attack.files for attack in chosen}):
        with serve(Limited(files=files), model) as server:
            for attack in chosen:
                if attack.files == files:
                    measure(server, attack, given.seconds)


if __name__ == "__main__":
    main()
