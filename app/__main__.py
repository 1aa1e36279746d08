"""`python -m app`: serves with uvicorn, in as many processes as there are cores."""

import argparse
import fcntl
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from app import logs
from app.api.connection_limit import raise_file_limit
from app.settings import Settings
from app.stats.shared_stats import SharedStats
from app.workers.connection_dispatcher import bytes_too_long
from app.workers.service_manager import inherited_listener
from app.workers.supervisor import Workers
from app.workers.worker_app import STATS_FILE, Worker
from app.workers.worker_server import WorkerConfig, WorkerServer

# Seconds after draining for the last answers to leave: the errors of requests that did not finish.
DELIVERY_S = 5
# A worker whose event loop does nothing for so many seconds hangs, and is replaced. Loading a model
# may hold Python's lock for a while.
HEALTH_S = 60
# Space in the temporary folder: for what the workers count, and an empty file of sessions.
START_BYTES = 1 << 20


# Of every answer: it is what it says it is, and the caller's alone.
HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))


def parse_arguments() -> None:
    """There are no arguments but `--help`, which lists the settings."""
    lines = []
    for name, field in Settings.model_fields.items():
        lines.append(f"  UNROLL_{name.upper()}={field.default}\n      {field.description}")
    argparse.ArgumentParser(
        prog="python -m app",
        description="Serve an exported model over HTTP. Settings come from the environment:",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()


def unknown_settings() -> list[str]:
    """Variables of the environment that look like settings, misspelt perhaps."""
    known = {f"UNROLL_{name.upper()}" for name in Settings.model_fields}
    return sorted(
        name for name in os.environ if name.startswith("UNROLL_") and name.upper() not in known
    )


def configure(settings: Settings, worker: Worker, inherited: bool) -> WorkerConfig:
    """How uvicorn serves."""
    return WorkerConfig(
        worker,
        home=worker.home,
        stats=worker.claim,
        stop_notice_s=settings.stop_notice_s,
        inherited=inherited,
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        # By their names: the parent, which does not answer, starts its workers without them.
        http="app.server.http_protocol:HTTPProtocol",
        ws="app.server.websocket_protocol:StreamProtocol",
        ws_max_size=settings.max_body_bytes,
        # Numbers hardly shrink, and every connection would keep a dictionary.
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        server_header=False,
        headers=list(HEADERS),
        # Nothing here asks who the caller is or by which scheme.
        proxy_headers=False,
        workers=settings.num_workers,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + DELIVERY_S,
        timeout_worker_healthcheck=HEALTH_S,
    )


def serve(config: WorkerConfig, listener: socket.socket) -> bool:
    """Serves until it is told to stop; returns whether it did."""
    if config.workers > 1:
        stats = SharedStats(config.workers, config.home / STATS_FILE)
        workers = Workers(config, listener, stats)
        workers.run()
        return not workers.failed
    server = WorkerServer(config)
    # uvicorn's own handlers come a moment later. After it has drained, it raises the signal again
    # for these, so that a stop that was asked for is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    # A terminal that is closed stops the server too, unless it was started by `nohup`.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)
    server.run([listener])
    return server.started


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A temporary folder for what all workers share.

    The folder is locked: systemd-tmpfiles deletes what has been among temporary files for days,
    unless it is locked. Without the folder's files a worker could not be replaced, or would serve
    another version.
    """
    with tempfile.TemporaryDirectory(prefix="unroll-") as name:
        folder = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(folder)


def fault_of_folder(home: Path, num_workers: int) -> str:
    """Why the workers cannot share a temporary folder; empty if they can."""
    if num_workers > 1 and (excess := bytes_too_long(home)):
        most = len(os.fsencode(tempfile.gettempdir())) - excess
        return (
            f"must have at most {most} bytes, for the sockets of the workers; with "
            "UNROLL_WORKERS=1 there are none"
        )
    found = os.statvfs(home)
    if (free := found.f_bavail * found.f_frsize) < START_BYTES:
        return f"has {free} bytes of space left, the service starts with {START_BYTES} or more"
    return ""


def _end_at_once(*_: object) -> None:
    """Ends the service before it serves; it leaves nothing behind."""
    raise SystemExit(0)


def main() -> int:
    """The command; returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_at_once)
    parse_arguments()
    logs.set_up()
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            if not item["loc"]:
                print(f"error: {item['msg'].removeprefix('Value error, ')}", file=sys.stderr)
                continue
            name = f"UNROLL_{str(item['loc'][0]).upper()}"
            print(f"error: {name}: {item['msg']}, got {item['input']!r}", file=sys.stderr)
        return 2
    try:
        listener = inherited_listener()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    raise_file_limit()
    for name in unknown_settings():
        logging.warning("%s is no setting of this service: see python -m app --help", name)
    with shared_folder() as home:
        if fault := fault_of_folder(home, settings.num_workers):
            print(f"error: TMPDIR: {tempfile.gettempdir()!r} {fault}", file=sys.stderr)
            return 2
        (home / STATS_FILE).touch()
        config = configure(settings, Worker(settings, home, os.getpid()), listener is not None)
        served = serve(config, listener or config.bind_socket())
    logging.shutdown()
    # A thread may still be loading a model, in a library that cannot be interrupted and must not
    # run while Python ends.
    os._exit(0 if served else 1)


if __name__ == "__main__":
    sys.exit(main())
