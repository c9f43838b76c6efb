"""An event becomes a message per endpoint that wants it; a message may be tried again by hand."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.kernel import InvalidTransition

from webhooks import queries, repository
from webhooks.domain import EndpointSettings, EndpointStatus, EventFilter, MessageStatus
from webhooks.public_events import is_operational
from webhooks.repository import ENDPOINTS, Listener, StoredEvent

MESSAGES_HINT = "webhook-messages"  # something may be due
_HELD_BACK = frozenset({EndpointStatus.PAUSED, EndpointStatus.DISABLED})


async def fan_out(
    tx: Transaction, event: StoredEvent, organization_ids: Collection[UUID], *, about: UUID | None = None
) -> None:
    """Store a message for every endpoint of these organizations that wants the event; once, however often it comes.

    What is `about` an endpoint goes to the others that ask for it by name: the one in trouble cannot hear of it.
    """
    found = [row for row in await queries.endpoints_of(tx, organization_ids) if row["id"] != about]
    listeners = [_listener(row) for row in found if _wants(row, event.type, organization_ids)]
    if listeners:
        repository.store(tx, event, listeners)
        tx.hints.add(MESSAGES_HINT)


def _wants(endpoint: Row, event_type: str, concerned: Collection[UUID]) -> bool:
    types = EventFilter(tuple(endpoint["event_types"]))
    if is_operational(event_type):
        return types.names(event_type)
    return EndpointSettings(url="", event_types=types, parties=tuple(endpoint["parties"])).wants(event_type, concerned)


def _listener(row: Row) -> Listener:
    status = MessageStatus.HELD if row["status"] in _HELD_BACK else MessageStatus.PENDING
    return Listener(row["id"], row["organization_id"], status, row["ordered"])


async def retry(tx: Transaction, principal: Principal, message_id: UUID) -> Row:
    """One more attempt, now; what is under way or held is refused. Returns the message as it was before."""
    message = await queries.message(tx, principal, message_id)
    endpoint = await ENDPOINTS.get(tx, message["endpoint_id"])
    endpoint.require_delivering()
    status = MessageStatus(message["status"])
    if not status.can_be_retried:
        raise InvalidTransition(status=status, allowed=[])
    repository.make_due(tx, message_id, seen_as=status)
    tx.hints.add(MESSAGES_HINT)
    return message
