"""A real server on a real port, as a user starts it: `python -m app`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

START_TIMEOUT_S = 180.0
# Of anything else that is waited for.
LIMIT_S = 120.0
# Puts a listener where a service that is given one looks for it.
GIVE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)

START = "\nimport runpy; runpy.run_module('app', run_name='__main__')"


class Server:
    """A running server.

    Attributes:
        url: where it listens.
        process: to send signals to.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def client(self) -> httpx.Client:
        """A client with room for slow machines."""
        # Nothing here is encrypted, and reading all certificates takes longer than most requests.
        return httpx.Client(base_url=self.url, timeout=LIMIT_S, verify=False)

    def counter(self, *names: str) -> float:
        """A number of `/metrics`, or the sum of several at one moment."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        numbers = {line.split()[0]: line.split()[1] for line in lines if line[0] != "#"}
        return sum(float(numbers[name]) for name in names)

    def have_come(self) -> float:
        """Sequences that it has been sent so far, but for those that failed."""
        return self.counter(
            "unroll_sequences_waiting",
            "unroll_sequences_running",
            "unroll_sequences_completed_total",
        )

    def processes(self) -> list[int]:
        """All of its processes that live, the first one included."""
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return sorted(pid for pid in pids if _group_of(pid) == self.process.pid)

    def workers(self) -> list[int]:
        """Those of its processes that answer."""
        found = []
        for pid in self.processes():
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if pid != self.process.pid and b"spawn_main" in command:
                    found.append(pid)
        return found

    def stop(self) -> int:
        """SIGTERM, then its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for `condition`; if it does not come, fails with `what`."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    models_dir: Path,
    model: str,
    log: Path,
    ready: bool = True,
    listener: socket.socket | None = None,
    before: str = "",
    **settings: object,
) -> Iterator[Server]:
    """Starts a server and waits until it is ready.

    Args:
        models_dir: the folder of models.
        model: the one to serve.
        log: the file that its output goes to.
        ready: False: waits only until it answers.
        listener: that it is given, as by systemd; its own on a free port if None.
        before: what its first process does first, in Python.
        settings: of the service.
    """
    port = listener.getsockname()[1] if listener else free_port()
    command = [sys.executable, "-m", "app"]
    if before:
        command[1:] = [
            "-c",
            f"{before}\nimport runpy; runpy.run_module('app', run_name='__main__')",
        ]
    if listener:
        command[1:1] = ["-c", GIVE, str(listener.fileno())]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("UNROLL_")},
        "UNROLL_MODELS_DIR": str(models_dir),
        "UNROLL_MODEL": model,
        "UNROLL_PORT": str(port),
        # Few call shapes compile quickly.
        "UNROLL_SLOTS_PER_LANE": "8",
        # Nobody needs to notice a stop.
        "UNROLL_STOP_NOTICE_S": "0",
        **{f"UNROLL_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[listener.fileno()] if listener else [],
            stdout=output,
            stderr=output,
            text=True,
            # All of its processes are one group, which can be ended as one.
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        _wait(server, "/readyz" if ready else "/healthz")
        yield server
    finally:
        end(server)


def end(server: Server) -> None:
    """Kills the server with its workers and waits for all of them: ports and cores are free."""
    for pid in server.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait(30)
    deadline = time.monotonic() + 30
    while left := server.processes():
        assert time.monotonic() < deadline, f"{left} do not end"
        # A worker may have been started between the look and the kill.
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _group_of(pid: int) -> int | None:
    """The process group of a process that has not ended."""
    try:
        # The name before it may hold anything, a bracket too.
        state, _, group, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(group)


def _wait(server: Server, path: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended: {server.log.read_text()}")
        try:
            # As in `client`: without certificates, whose reading would slow the start down.
            if httpx.get(server.url + path, timeout=5.0, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server is not ready: {server.log.read_text()}")
