"""Endpoints, messages and attempts as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.jobs import JobNotFound
from contracts.registry import event_types
from sqlalchemy import func, or_, select

from webhooks.domain import EndpointNotFound, EndpointStatus, EventFilter, MessageNotFound
from webhooks.tables import ATTEMPTS, ENDPOINTS, MESSAGES

_E, _M, _A = ENDPOINTS.c, MESSAGES.c, ATTEMPTS.c
_ENDPOINT = [column for column in ENDPOINTS.c if column.name != "state"]  # the state carries the sealed secrets


@dataclass(frozen=True)
class EndpointFilter:
    """What a list of endpoints is narrowed to; with `event_type` to those that hear of this type."""

    organization_id: UUID | None = None
    status: Sequence[str] = ()
    event_type: str | None = None


@dataclass(frozen=True)
class MessageFilter:
    """What a list of messages is narrowed to; `event_type` is a full type or a prefix ending in `.*`."""

    status: Sequence[str] = ()
    endpoint_id: UUID | None = None
    organization_id: UUID | None = None
    event_type: str | None = None

    @property
    def types(self) -> list[str]:
        """Every type there is that fits."""
        wanted = EventFilter(() if self.event_type is None else (self.event_type,))
        return [name for name in event_types() if wanted.matches(name)]


def managed(principal: Principal) -> list[UUID]:
    """The organizations whose endpoints the caller may see and change."""
    return [organization_id for organization_id in principal.memberships if principal.manages(organization_id)]


async def endpoint(tx: Transaction, principal: Principal, endpoint_id: UUID) -> Row:
    """An endpoint of the caller's."""
    query = select(*_ENDPOINT).where(
        _E.id == endpoint_id, _E.organization_id.in_(managed(principal)), _E.status != EndpointStatus.DELETED
    )
    row = await tx.fetchrow(query)
    if row is None:
        raise EndpointNotFound
    return row


async def endpoints(
    tx: Transaction, principal: Principal, wanted: EndpointFilter, *, limit: int, before: UUID | None
) -> list[Row]:
    """The caller's endpoints, newest first; one more than `limit` when there are more."""
    query = select(*_ENDPOINT).where(_E.organization_id.in_(managed(principal)), _E.status != EndpointStatus.DELETED)
    if wanted.organization_id is not None:
        query = query.where(_E.organization_id == wanted.organization_id)
    if wanted.status:
        query = query.where(_E.status.in_(wanted.status))
    if wanted.event_type is not None:
        covering = EventFilter.covering(wanted.event_type)
        query = query.where(or_(_E.event_types == [], _E.event_types.overlap(covering)))
    if before is not None:
        query = query.where(_E.id < before)
    return await tx.fetch(query.order_by(_E.id.desc()).limit(limit + 1))


async def endpoints_of(tx: Transaction, organization_ids: Collection[UUID]) -> list[Row]:
    """What decides who hears of an event that concerns these organizations."""
    return await tx.fetch(
        "SELECT id, organization_id, status, event_types, parties, ordered FROM webhook_endpoints"
        " WHERE organization_id = ANY($1::uuid[]) AND status <> 'deleted' ORDER BY id",
        list(organization_ids),
    )


async def endpoints_counted(tx: Transaction, organization_id: UUID) -> int:
    """How many endpoints an organization has."""
    count: int = await tx.fetchval(
        "SELECT count(*) FROM webhook_endpoints WHERE organization_id = $1 AND status <> 'deleted'", organization_id
    )
    return count


async def message(tx: Transaction, principal: Principal, message_id: UUID) -> Row:
    """A message of one of the caller's organizations."""
    query = select(MESSAGES).where(_M.id == message_id, _M.organization_id.in_(managed(principal)))
    row = await tx.fetchrow(query)
    if row is None:
        raise MessageNotFound
    return row


async def messages(
    tx: Transaction, principal: Principal, wanted: MessageFilter, *, limit: int, before: UUID | None
) -> list[Row]:
    """The caller's messages, newest first; one more than `limit` when there are more."""
    query = select(MESSAGES).where(_M.organization_id.in_(managed(principal)))
    if wanted.status:
        query = query.where(_M.status.in_(wanted.status))
    if wanted.organization_id is not None:
        query = query.where(_M.organization_id == wanted.organization_id)
    if wanted.endpoint_id is not None:
        query = query.where(_M.endpoint_id == wanted.endpoint_id)
    if wanted.event_type is not None and wanted.event_type.endswith(".*"):
        query = query.where(func.starts_with(_M.event_type, wanted.event_type[:-1]))
    elif wanted.event_type is not None:
        query = query.where(_M.event_type == wanted.event_type)
    if before is not None:
        query = query.where(_M.id < before)
    return await tx.fetch(query.order_by(_M.id.desc()).limit(limit + 1))


# One probe of a partial index per organization (or endpoint) and type, each as long as a page at most: the cost grows
# with neither the length of the table nor that of a backlog, whatever is asked for.
_UNDELIVERED = """SELECT m.* FROM (
    SELECT k.id FROM unnest($1::uuid[]) s CROSS JOIN unnest($2::text[]) t CROSS JOIN LATERAL (
        SELECT id FROM webhook_messages WHERE {scope} = s AND event_type = t
        AND status IN ('retrying', 'exhausted', 'held', 'cancelled') AND delivered_at IS NULL AND id < $3
        ORDER BY id DESC LIMIT $4) k
    ORDER BY k.id DESC LIMIT $4) found
JOIN webhook_messages m ON m.id = found.id WHERE m.organization_id = ANY($5) ORDER BY m.id DESC"""
_OF_ORGANIZATIONS, _OF_ENDPOINT = (_UNDELIVERED.format(scope=name) for name in ("organization_id", "endpoint_id"))
_NEWEST = UUID(int=2**128 - 1)


async def undelivered(
    tx: Transaction, principal: Principal, wanted: MessageFilter, *, limit: int, before: UUID | None
) -> list[Row]:
    """The caller's messages that were never delivered, but those still on their first way, newest first."""
    organizations = [each for each in managed(principal) if wanted.organization_id in (None, each)]
    bounds = (wanted.types, before or _NEWEST, limit + 1, organizations)
    if wanted.endpoint_id is None:
        return await tx.fetch(_OF_ORGANIZATIONS, organizations, *bounds)
    return await tx.fetch(_OF_ENDPOINT, [wanted.endpoint_id], *bounds)


async def recovery(tx: Transaction, principal: Principal, job_id: UUID) -> Row:
    """A recovery of one of the caller's endpoints."""
    row = await tx.fetchrow(
        "SELECT * FROM webhook_recoveries WHERE job_id = $1 AND organization_id = ANY($2)", job_id, managed(principal)
    )
    if row is None:
        raise JobNotFound
    return row


async def attempts(tx: Transaction, message_id: UUID, *, limit: int, before: UUID | None) -> list[Row]:
    """The attempts of a message, newest first; one more than `limit` when there are more."""
    query = select(ATTEMPTS).where(_A.message_id == message_id)
    if before is not None:
        query = query.where(_A.id < before)
    return await tx.fetch(query.order_by(_A.id.desc()).limit(limit + 1))
