"""`GET /healthz`, `/readyz` and `/models`: how the service is, for probes and people."""

from typing import Any

from fastapi import APIRouter

from app.api.model_metadata import describe_columns
from app.api.openapi import PROBLEMS
from app.api.schemas import ModelInfo, ModelList, Readiness, Status
from app.errors import NotReady
from app.registry.registry import Registry


def make_router(registry: Registry) -> APIRouter:
    """The routes, bound to a registry."""
    router = APIRouter(tags=["health"], responses={431: PROBLEMS[431]})

    @router.get("/healthz", summary="Whether the process answers at all")
    async def healthz() -> Status:
        return Status(status="ok")

    @router.get(
        "/readyz",
        summary="Whether a model is loaded and warm",
        responses={503: PROBLEMS[503]},
        response_model_exclude_none=True,
    )
    async def readyz() -> Readiness:
        if not registry.ready:
            raise NotReady(registry.status)
        shared = registry.stats.shared
        return Readiness(
            status="ready",
            workers=shared.workers,
            workers_ready=shared.workers_ready,
            workers_failing=shared.workers_failing,
            detail=shared.trouble or None,
        )

    @router.get(
        "/models",
        summary="The versions found, what goes in and what comes out",
        response_model_exclude_none=True,
    )
    async def models() -> ModelList:
        found = []
        for model in registry.models:
            devices = model.engine.runner.devices if model.engine else ()
            columns: dict[str, Any] = (
                describe_columns(model.manifest, devices) if model.manifest else {}
            )
            found.append(
                ModelInfo(
                    name=model.name,
                    version=model.version,
                    state=model.state,
                    reason=model.reason or None,
                    **columns,
                )
            )
        return ModelList(models=found)

    return router
