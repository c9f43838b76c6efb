"""Facts about partners' endpoints: who owns them hears what went wrong, at another endpoint and by e-mail."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from contracts.envelope import Event, Moment

# Words that will grow, so that no reader can close over them.
Word = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
EventType = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", max_length=200)]


class _EndpointEvent(Event, abstract=True):
    producer: ClassVar[str] = "webhooks"
    aggregate: ClassVar[str] = "endpoint"
    endpoint_id: UUID


class EndpointTest(_EndpointEvent):
    """A partner asked for a test event; receiving it proves that the endpoint and its signature check work."""


class EndpointFailing(_EndpointEvent):
    """Deliveries to an endpoint keep failing: so many percent of what switches it off are reached."""

    organization_id: UUID
    since: Moment
    percent: int = Field(ge=1, le=99)


class EndpointDisabled(_EndpointEvent):
    """An endpoint was switched off because of what came of its deliveries; events are held until it is enabled."""

    organization_id: UUID
    reason: Word


class EndpointRecovered(_EndpointEvent):
    """An endpoint that was failing accepted a delivery."""

    organization_id: UUID


class MessageExhausted(Event):
    """The last attempt to deliver an event to an endpoint failed; it goes again only when somebody asks for it."""

    producer: ClassVar[str] = "webhooks"
    aggregate: ClassVar[str] = "message"
    message_id: UUID
    organization_id: UUID
    endpoint_id: UUID
    event_id: UUID
    event_type: EventType
    attempts: int = Field(ge=1)
    last_status: int | None = Field(default=None, ge=100, le=999)
    last_error: Word | None = None
