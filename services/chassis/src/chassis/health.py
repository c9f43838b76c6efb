"""Is it alive, is it ready, how are its queues: answered on the internal port only (queues to operators too)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY
from prometheus_client.exposition import generate_latest

Check = Callable[[], Awaitable[str | None]]  # what is wrong, or None


def health_router(checks: dict[str, Check]) -> APIRouter:
    """`/livez` answers while the loop turns; `/readyz` names what is missing; `/metrics` is Prometheus text."""
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        failed = {name: reason for name, check in checks.items() if (reason := await check()) is not None}
        response.status_code = 503 if failed else 200
        return {"status": "waiting", "missing": failed} if failed else {"status": "ready"}

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return router
