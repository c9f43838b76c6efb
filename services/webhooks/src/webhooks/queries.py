"""Endpoints, messages and attempts as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from sqlalchemy import func, select

from webhooks.domain import EndpointNotFound, EndpointStatus, MessageNotFound
from webhooks.tables import ATTEMPTS, ENDPOINTS, MESSAGES

_E, _M, _A = ENDPOINTS.c, MESSAGES.c, ATTEMPTS.c
_ENDPOINT = [column for column in ENDPOINTS.c if column.name != "state"]  # the state carries the sealed secrets


@dataclass(frozen=True)
class MessageFilter:
    """What a list of messages is narrowed to; `event_type` is a full type or a prefix ending in `.*`."""

    status: Sequence[str] = ()
    endpoint_id: UUID | None = None
    event_type: str | None = None


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
    tx: Transaction, principal: Principal, *, organization_id: UUID | None, limit: int, before: UUID | None
) -> list[Row]:
    """The caller's endpoints, newest first; one more than `limit` when there are more."""
    query = select(*_ENDPOINT).where(_E.organization_id.in_(managed(principal)), _E.status != EndpointStatus.DELETED)
    if organization_id is not None:
        query = query.where(_E.organization_id == organization_id)
    if before is not None:
        query = query.where(_E.id < before)
    return await tx.fetch(query.order_by(_E.id.desc()).limit(limit + 1))


async def endpoints_of(tx: Transaction, organization_ids: Collection[UUID]) -> list[Row]:
    """What decides who hears of an event that concerns these organizations."""
    return await tx.fetch(
        "SELECT id, organization_id, status, event_types, ordered FROM webhook_endpoints"
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
    if wanted.endpoint_id is not None:
        query = query.where(_M.endpoint_id == wanted.endpoint_id)
    if wanted.event_type is not None and wanted.event_type.endswith(".*"):
        query = query.where(func.starts_with(_M.event_type, wanted.event_type[:-1]))
    elif wanted.event_type is not None:
        query = query.where(_M.event_type == wanted.event_type)
    if before is not None:
        query = query.where(_M.id < before)
    return await tx.fetch(query.order_by(_M.id.desc()).limit(limit + 1))


async def attempts(tx: Transaction, message_id: UUID, *, limit: int, before: UUID | None) -> list[Row]:
    """The attempts of a message, newest first; one more than `limit` when there are more."""
    query = select(ATTEMPTS).where(_A.message_id == message_id)
    if before is not None:
        query = query.where(_A.id < before)
    return await tx.fetch(query.order_by(_A.id.desc()).limit(limit + 1))
