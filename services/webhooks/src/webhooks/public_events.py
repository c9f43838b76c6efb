"""Which facts partners may hear of, and the one that webhooks itself sends them."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from chassis.outbox import Announcement, envelope_bytes
from contracts.envelope import Event
from contracts.events.deliveries import DeliveryOffered
from contracts.events.webhooks import EndpointTest
from contracts.registry import event_types

from contracts import catalogue
from webhooks.domain import Endpoint

# Facts about people and credentials, and the parts of a load, of which there are a thousand to one that matters.
_INTERNAL = frozenset({
    ("identity", "user"), ("identity", "api_key"), ("identity", "signing_key"), ("resources", "catalogue_chunk"),
})  # fmt: skip

_INTERNAL_TYPES = frozenset({DeliveryOffered.type_name()})  # whom volunteers' offers went to concerns them alone

TEST_TYPE = EndpointTest.type_name()


@cache
def partner_facing() -> dict[str, type[Event]]:
    """Every type that an endpoint can receive, by name."""
    return {
        name: kind
        for name, kind in sorted(event_types().items())
        if (kind.producer, kind.aggregate) not in _INTERNAL and name not in _INTERNAL_TYPES
    }


@cache
def described() -> tuple[dict[str, Any], ...]:
    """Every type that an endpoint can receive, by name, with its meaning, schema and a whole example."""
    return tuple(
        {
            "type": name,
            "description": (kind.__doc__ or "").strip(),
            "schema": catalogue.schema(name),
            "example": catalogue.example(name),
        }
        for name, kind in partner_facing().items()
    )


def announce(_: Endpoint, __: Any) -> Announcement | None:
    """Nothing: what happens to an endpoint concerns its owner alone, who reads it from the API."""
    return None


def endpoint_test(endpoint: Endpoint, event_id: UUID, now: datetime) -> bytes:
    """The envelope of a test event for this endpoint."""
    event = EndpointTest(endpoint_id=endpoint.id)
    return envelope_bytes(Announcement(event, endpoint.organization_id), endpoint.id, event_id, endpoint.version, now)
