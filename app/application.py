"""`create_app`: wires settings, registry and routes together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.types import Lifespan

from app import __version__, heap
from app.api import docs, health, metrics, openapi, problems, protocols
from app.api.connection_limit import ConnectionLimit
from app.api.server_context import ServerContext
from app.engine.runner_interface import RunnerLoader
from app.registry.agreed_version import PIN_FILE, AgreedVersion
from app.registry.registry import Registry
from app.service.inference import InferenceService
from app.sessions.service import SessionService, open_store
from app.settings import Settings
from app.stats.shared_stats import SharedStats, WorkerStats

# Seconds between two signs of life for the parent.
BEAT_S = 1.0

DESCRIPTION = """Send sequences of any lengths; get the outputs of every time step and the final
state of every layer. Send those states back to continue where a sequence ended."""


def create_app(
    settings: Settings,
    load_runner: RunnerLoader,
    stats: WorkerStats | None = None,
    home: Path | None = None,
) -> FastAPI:
    """Makes an application; tests make as many as they like.

    Args:
        settings: of this application.
        load_runner: makes the kernel from a verified model folder.
        stats: of this worker, among those of all; of one that is alone if None.
        home: a folder that all workers share; None for an application that is alone.
    """
    pinned = AgreedVersion(home / PIN_FILE if home else None)
    registry = Registry(settings, load_runner, stats or SharedStats().claim(), pinned)
    inference = InferenceService(settings, registry, SessionService(open_store(settings, home)))
    app = FastAPI(
        title="Unroll",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan(inference),
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme of this side of a proxy.
        redirect_slashes=False,
    )
    app.state.context = ServerContext(
        registry=registry,
        stats=registry.stats,
        deadlines=inference.deadlines,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        refusal=inference.early_refusal,
        connections=ConnectionLimit(),
    )
    _install_routes(app, inference)
    return app


def _lifespan(inference: InferenceService) -> Lifespan[FastAPI]:
    """What happens before the first request and after the last one."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beating = asyncio.create_task(_beat(inference.registry))
        inference.registry.start_loading()
        yield
        await inference.registry.drain()
        await inference.sessions.close()
        inference.bodies.large.close()
        beating.cancel()

    return lifespan


async def _beat(registry: Registry) -> None:
    """Tells for ever that the event loop goes on, and how this worker is; gives memory back."""
    while True:
        registry.stats.beat()
        registry.tell()
        heap.give_back()
        await asyncio.sleep(BEAT_S)


def _install_routes(app: FastAPI, inference: InferenceService) -> None:
    registry = inference.registry
    problems.install(app)
    openapi.install(app, registry)
    protocols.install(app, inference)
    app.include_router(health.make_router(registry))
    metrics.install(app, registry)
    docs.install(app)
