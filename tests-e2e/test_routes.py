"""Through the gateway: every public route of every service, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

SERVICES = ("identity", "batches", "deliveries", "resources", "notifications", "analytics", "webhooks")


@pytest.mark.parametrize("service", SERVICES)
async def test_every_documented_route_is_reachable(
    public: httpx.AsyncClient, settings: dict[str, str], service: str
) -> None:
    """A route of the OpenAPI document is answered by its service, not by the gateway."""
    document: dict[str, Any] = (await public.get(f"/openapi/{service}.json")).json()
    assert document["paths"]

    for path, operations in document["paths"].items():
        concrete = re.sub(r"\{[^}]+\}", "00000000-0000-7000-8000-000000000000", path)
        for method in operations:
            answer = await public.request(method.upper(), concrete)
            told = answer.json().get("code") if "json" in answer.headers.get("content-type", "") else None
            assert answer.status_code not in (502, 503, 504), (method, path)
            assert told not in ("not-found", "method-not-allowed"), (method, path)  # what answers for no route
            assert answer.headers.get("x-request-id"), (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/metrics",
        "/internal/v1/contacts/00000000-0000-7000-8000-000000000000",
        "/v1/batchesx",
        "/",
        "/docs",
    ],
)
async def test_nothing_internal_is_reachable(public: httpx.AsyncClient, path: str) -> None:
    """Health, metrics and internal routes are no public routes: 404 as a problem, from the gateway."""
    answer = await public.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404
