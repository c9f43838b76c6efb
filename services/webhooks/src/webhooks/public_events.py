"""Which facts partners may hear of, and what webhooks itself tells of their endpoints."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from chassis.outbox import Announcement, envelope_bytes
from contracts.envelope import Event
from contracts.events.deliveries import DeliveryOffered
from contracts.events.webhooks import (
    EndpointDisabled,
    EndpointFailing,
    EndpointRecovered,
    EndpointTest,
    MessageExhausted,
)
from contracts.registry import event_types

from contracts import catalogue
from webhooks import domain
from webhooks.domain import Attempt, Endpoint

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


def is_operational(event_type: str) -> bool:
    """Whether a type tells of endpoints and messages themselves: who wants that asks for it by name."""
    return event_type.startswith("vouajudar.webhooks.")


def announce(endpoint: Endpoint, event: Any) -> Announcement | None:
    """What its owner has to know though nobody of theirs did it; the rest they did themselves."""
    public: Event
    whose: dict[str, Any] = {"endpoint_id": endpoint.id, "organization_id": endpoint.organization_id}
    match event:
        case domain.EndpointFailing():
            public = EndpointFailing(**whose, since=event.since, percent=event.percent)
        case domain.EndpointDisabled():
            public = EndpointDisabled(**whose, reason=event.reason)
        case domain.EndpointRecovered():
            public = EndpointRecovered(**whose)
        case _:
            return None
    return Announcement(public, endpoint.organization_id)


def message_exhausted(
    message_id: UUID, attempt: Attempt, *, organization_id: UUID, endpoint_id: UUID, event_id: UUID, event_type: str,
    attempts: int,
) -> Announcement:  # fmt: skip
    """A message was given up after this attempt, the last of so many."""
    event = MessageExhausted(
        message_id=message_id, organization_id=organization_id, endpoint_id=endpoint_id, event_id=event_id,
        event_type=event_type, attempts=attempts, last_status=attempt.status, last_error=attempt.error,
    )  # fmt: skip
    return Announcement(event, organization_id)


def endpoint_test(endpoint: Endpoint, event_id: UUID, now: datetime) -> bytes:
    """The envelope of a test event for this endpoint."""
    event = EndpointTest(endpoint_id=endpoint.id)
    return envelope_bytes(Announcement(event, endpoint.organization_id), endpoint.id, event_id, endpoint.version, now)
