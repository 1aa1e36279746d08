"""`Service`: `python -m app` as a robustness program starts it, on a port or a `Listener`."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from benchmarks.robustness.callers import free_port

START_S = 180.0
# Puts a listener where a service that is given one looks for it.
GIVE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


class Listener:
    """What systemd does: a listener that outlives the services that it is given to.

    Attributes:
        port: of it.
    """

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = int(self.socket.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Service:
    """Runs while it is a context, which is entered when the service is ready.

    Args:
        workers: of it.
        listener: it is given; its own if None.
        environment: more of it.
    """

    def __init__(
        self, workers: int, listener: Listener | None = None, **environment: object
    ) -> None:
        self.port = listener.port if listener else free_port()
        self._listener = listener
        self._folder = tempfile.TemporaryDirectory()
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(f"{self._folder.name}/notify")
        self._manager.settimeout(START_S)
        self._environment = {
            **os.environ,
            "NOTIFY_SOCKET": f"{self._folder.name}/notify",
            "UNROLL_PORT": str(self.port),
            "UNROLL_WORKERS": str(workers),
            **{name: str(value) for name, value in environment.items()},
        }
        self.process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        command, files = [sys.executable, "-m", "app"], []
        if self._listener:
            files = [self._listener.socket.fileno()]
            command[1:1] = ["-c", GIVE, str(files[0])]
        with Path(self._folder.name, "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=self._environment, pass_fds=files, stdout=log, stderr=log
            )
        told = await asyncio.to_thread(self._manager.recv, 100)
        assert told == b"READY=1", told
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self.process.wait, 60)
        self._manager.close()
        self._folder.cleanup()

    def workers(self) -> list[int]:
        """Those of its processes that answer."""
        main = self.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [int(child) for child in children if _is_worker(child)]


def _is_worker(pid: str) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
