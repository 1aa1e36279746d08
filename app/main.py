"""`create_app`: wires settings, registry and routes together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from app import metrics, openapi, problems
from app.engine.runner import ModelRunner, RunnerLoader
from app.manifest import Manifest
from app.registry import Registry
from app.routes import docs, health, predict
from app.settings import Settings

DESCRIPTION = """Send sequences of any lengths; get the outputs of every time step and the final
state of every layer. Send those states back to continue where a sequence ended."""


def load_tensorflow(folder: Path, manifest: Manifest) -> ModelRunner:
    """The default kernel. TensorFlow takes seconds to import, so it is when a model is loaded."""
    from app.engine.runners.tensorflow import TensorFlowRunner

    return TensorFlowRunner(folder, manifest)


def create_app(settings: Settings, load_runner: RunnerLoader = load_tensorflow) -> FastAPI:
    """Makes an application; tests make as many as they like.

    Args:
        settings: of this application.
        load_runner: makes the kernel from a verified model folder.
    """
    registry = Registry(settings, load_runner)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        registry.start_loading()
        yield
        await asyncio.to_thread(registry.drain)

    app = FastAPI(
        title="Unroll",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.registry = registry
    problems.install(app)
    openapi.install(app, registry)
    app.include_router(predict.make_router(settings, registry))
    app.include_router(health.make_router(registry))
    metrics.install(app, registry)
    docs.install(app)
    return app
