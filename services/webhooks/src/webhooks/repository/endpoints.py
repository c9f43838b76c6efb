"""Loads and saves endpoints."""

from __future__ import annotations

from typing import Any

from chassis.repository import Repository

from webhooks.domain import EVENTS, UPCASTERS, Endpoint, EndpointNotFound
from webhooks.public_events import announce


def _columns(endpoint: Endpoint) -> dict[str, Any]:
    settings = endpoint.settings
    return {
        "organization_id": endpoint.organization_id,
        "url": settings.url,
        "event_types": list(settings.event_types.patterns),
        "description": settings.description,
        "rate_per_s": settings.rate_per_s,
        "ordered": settings.ordered,
        "timeout_s": settings.timeout_s,
        "parties": list(settings.parties),
        "ed25519": settings.ed25519,
        "retry_schedule_s": None if settings.retry_schedule_s is None else list(settings.retry_schedule_s),
        "status": endpoint.status,
        "failing_since": endpoint.failing_since,
        "failing_percent": endpoint.failing_percent,
        "disabled_reason": endpoint.disabled_reason,
        "created_at": endpoint.created_at,
    }


ENDPOINTS = Repository(
    table="webhook_endpoints",
    aggregate=Endpoint,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_columns,
    announce=announce,
    not_found=EndpointNotFound,
)
