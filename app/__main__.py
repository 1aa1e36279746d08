"""`python -m app`: serves with uvicorn, drains on SIGTERM."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys

import uvicorn
from pydantic import ValidationError

from app.main import create_app
from app.protocol import DirectProtocol
from app.registry import Registry
from app.settings import Settings

# Seconds that the last answers get to leave after draining: the errors of who did not finish.
DELIVERY_S = 5
SWITCH_INTERVAL_S = 0.0005
# New containers before the garbage collector looks at them. A body is a list a time step, gone when
# its arrays are made, so Python's own 700 would have it look at nothing but those.
GC_THRESHOLD = 50_000


class DrainingServer(uvicorn.Server):
    """Drains while uvicorn waits for open requests, so that those too slow still get an answer."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the listening sockets and lets running requests finish."""
        # uvicorn allows any ASGI callable or its name here; ours is always the application.
        registry: Registry = self.config.app.state.registry  # type: ignore[union-attr]
        draining = asyncio.create_task(registry.drain())
        await super().shutdown(sockets)
        await draining


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


def main() -> int:
    """The command; returns the exit status."""
    parse_arguments()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            if not item["loc"]:
                print(f"error: {item['msg']}", file=sys.stderr)
                continue
            name = f"UNROLL_{str(item['loc'][0]).upper()}"
            print(f"error: {name}: {item['msg']}, got {item['input']!r}", file=sys.stderr)
        return 2
    for name in unknown_settings():
        logging.warning("%s is no setting of this service: see python -m app --help", name)
    # A lane that has its chunk back waits for Python's lock up to that long while the event loop is
    # busy; Python's own 5 ms would leave the kernel idle.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GC_THRESHOLD)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=DirectProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        # Nothing here asks who the caller is or by which scheme.
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + DELIVERY_S,
    )
    server = DrainingServer(config)
    # When it has drained, uvicorn raises the signal again for whoever handled it before: nobody, so
    # that a stop that was asked for is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    server.run()
    if app.state.registry.loading:
        # The loader is deep in TensorFlow, which cannot be interrupted, nor left while it runs.
        logging.shutdown()
        os._exit(0)
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
