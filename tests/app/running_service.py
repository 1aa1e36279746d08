"""`Service`: an application and its client in one event loop, without sockets or threads.

Not Starlette's `TestClient`, which warns that it is to leave httpx.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from fastapi import FastAPI

from app.application import create_app
from app.engine.runner_interface import ModelRunner
from app.manifest import Manifest
from app.settings import Settings
from tests.app.fakes import FakeRunner

T = TypeVar("T")


class Service:
    """Runs the lifespan while it is a context; the loop turns only within its methods."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    def __enter__(self) -> Self:
        lifespan = self.app.router.lifespan_context(self.app)
        self.run(self._stack.enter_async_context(lifespan))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self.run(self.client.aclose())
        self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def wait_until_ready(self) -> Self:
        until = time.monotonic() + 30.0
        while (answer := self.get("/readyz")).status_code != 200:
            assert time.monotonic() < until, answer.text
            self.run(asyncio.sleep(0.005))
        return self

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class Loader:
    """A `RunnerLoader` of fakes.

    Attributes:
        runner: the fake that the application has, once it is loaded.
        gate: closed, it holds loading back until it is opened.
    """

    def __init__(self, poison: float | None = None, overflow: float | None = None) -> None:
        self._special = {"poison": poison, "overflow": overflow}
        self.runner = FakeRunner()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, folder: Path, manifest: Manifest) -> ModelRunner:
        self.gate.wait(30)
        self.runner = FakeRunner(num_outputs=len(manifest.outputs), **self._special)
        return self.runner


def make_service(models_dir: Path, load: Any = None, **changes: Any) -> Service:
    """The application with `load`'s runners; one lane of four slots unless told."""
    sizes = {"model": "tiny", "lanes": 1, "slots_per_lane": 4, "max_chunk_steps": 16}
    settings = Settings(models_dir=models_dir, **{**sizes, **changes})
    return Service(create_app(settings, load or Loader()))
