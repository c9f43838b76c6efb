"""Facts that webhooks sends to one endpoint only; they do not travel on the bus."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from contracts.envelope import Event


class EndpointTest(Event):
    """A partner asked for a test event; receiving it proves that the endpoint and its signature check work."""

    producer: ClassVar[str] = "webhooks"
    aggregate: ClassVar[str] = "endpoint"
    endpoint_id: UUID
