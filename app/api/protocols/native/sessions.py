"""`GET` and `DELETE /sessions/{id}`: what the service keeps for its callers."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, HTTPException

from app.api.openapi import PROBLEMS
from app.api.schemas import SessionInfo
from app.service.inference import InferenceService

OTHERS = ["HEAD", "OPTIONS", "PATCH", "POST", "PUT"]


def make_router(inference: InferenceService) -> APIRouter:
    """The routes, bound to an application's sessions."""
    router = APIRouter(tags=["sessions"])
    problems: dict[int | str, dict[str, Any]] = {
        status: PROBLEMS[status] for status in (404, 422, 431, 503)
    }

    @router.get(
        "/sessions/{id:path}", summary="Where a session is, and its state", responses=problems
    )
    async def read(id: str) -> SessionInfo:
        async with inference.in_time():
            kept = await inference.sessions.read(id)
        return SessionInfo(
            id=id,
            time_step=kept.record.time_step,
            state=kept.record.state,
            expires_in_s=kept.expires_in_s,
        )

    @router.delete(
        "/sessions/{id:path}",
        status_code=204,
        summary="End a session, after the requests that came before",
        responses=problems,
    )
    async def delete(id: str) -> None:
        async with inference.in_time():
            await inference.sessions.delete(id)

    @router.api_route("/sessions/{id:path}", methods=OTHERS, include_in_schema=False)
    async def refuse(id: str) -> None:
        # Starlette would name the method of the first route only.
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "DELETE, GET"})

    return router
