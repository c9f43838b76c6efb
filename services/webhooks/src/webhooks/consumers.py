"""Every fact that partners may hear of becomes messages to the endpoints of those it concerns."""

from __future__ import annotations

from chassis.consumer import Consumer
from chassis.database import Transaction
from contracts.registry import Received

from webhooks import usecases
from webhooks.public_events import TEST_TYPE, is_operational, partner_facing


async def _fan_out(tx: Transaction, received: Received) -> None:
    envelope = received.envelope
    event = usecases.StoredEvent(
        envelope.id, envelope.type, envelope.subject, envelope.aggregateversion, received.body, envelope.traceparent,
        envelope.correlationid,
    )  # fmt: skip
    concerned = set(envelope.party_ids)
    if envelope.organizationid is not None:
        concerned.add(envelope.organizationid)
    if concerned:
        about = getattr(received.event, "endpoint_id", None) if is_operational(envelope.type) else None
        await usecases.fan_out(tx, event, sorted(concerned), about=about)


EVENTS = Consumer(
    "events", dict.fromkeys((kind for name, kind in partner_facing().items() if name != TEST_TYPE), _fan_out), sla_s=1.0
)
