"""Messages and their attempts: what became of each event at each endpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from chassis.database import Row
from chassis.kernel import Invalid
from chassis.pagination import Page, PageAsked
from chassis.routing import Now, Tx, api_router
from chassis.wire import UtcMoment, View
from fastapi import Query

from webhooks import domain, queries, usecases
from webhooks.api.callers import Manager

router = api_router("webhooks")

MessageStatus = Literal["pending", "delivering", "delivered", "retrying", "exhausted", "held", "cancelled"]
Asked = Literal["pending", "delivering", "delivered", "retrying", "exhausted", "held", "cancelled", "undelivered"]
UNDELIVERED = "undelivered"
Outcome = Literal["delivered", "failed", "refused"]


class MessageOut(View):
    """An event on its way to one endpoint; `event_id` is its `webhook-id`."""

    id: UUID
    event_id: UUID
    event_type: str
    endpoint_id: UUID
    organization_id: UUID
    status: MessageStatus
    attempts: int
    next_attempt_at: UtcMoment | None
    last_status: int | None
    last_error: str | None
    created_at: UtcMoment
    delivered_at: UtcMoment | None


class HeaderOut(View):
    """One header field."""

    name: str
    value: str


class AttemptOut(View):
    """One POST: what was sent where, and what came back (the beginning of it)."""

    id: UUID
    number: int
    attempted_at: UtcMoment
    outcome: Outcome
    status: int | None
    error: str | None
    detail: str
    duration_ms: int
    url: str
    request_head: list[HeaderOut]
    response_head: list[HeaderOut]
    response_body: str
    response_truncated: bool


def message_out(fields: Row | dict[str, Any]) -> MessageOut:
    """A message as callers see it."""
    waits = fields["status"] in ("pending", "retrying")
    return MessageOut.model_validate({**fields, "next_attempt_at": fields["due_at"] if waits else None})


def _attempt(row: Row) -> AttemptOut:
    heads = {name: [HeaderOut(name=n, value=v) for n, v in row[name]] for name in ("request_head", "response_head")}
    body = row["response_body"].decode("utf-8", "replace")
    return AttemptOut.model_validate({**row, **heads, "response_body": body})


@router.get("/v1/webhook-messages", operation_id="list_webhook_messages")
async def list_webhook_messages(
    tx: Tx,
    paging: PageAsked,
    principal: Manager,
    status: Annotated[list[Asked], Query(max_length=8)] = [],  # noqa: B006 - FastAPI copies defaults
    endpoint_id: UUID | None = None,
    organization_id: UUID | None = None,
    event_type: Annotated[str | None, Query(min_length=1, max_length=domain.EVENT_TYPE_CHARS_MAX)] = None,
) -> Page[MessageOut]:
    """Messages to your endpoints, newest first; `event_type` may be a prefix ending in `.*`.

    `status=undelivered` alone: what was never delivered, and why - retrying, exhausted, held or cancelled.
    """
    if UNDELIVERED in status and len(status) > 1:
        raise Invalid("undelivered stands alone", pointer="query:status")
    wanted = queries.MessageFilter(tuple(status), endpoint_id, organization_id, event_type)
    before = UUID(paging.position[0]) if paging.position else None
    find = queries.undelivered if UNDELIVERED in status else queries.messages
    rows = await find(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page([message_out(row) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/webhook-messages/{message_id}", operation_id="get_webhook_message")
async def get_webhook_message(message_id: UUID, tx: Tx, principal: Manager) -> MessageOut:
    """One message."""
    return message_out(await queries.message(tx, principal, message_id))


@router.get("/v1/webhook-messages/{message_id}/attempts", operation_id="list_webhook_attempts")
async def list_webhook_attempts(message_id: UUID, tx: Tx, paging: PageAsked, principal: Manager) -> Page[AttemptOut]:
    """Every attempt to deliver a message, newest first."""
    await queries.message(tx, principal, message_id)
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.attempts(tx, message_id, limit=paging.limit, before=before)
    return paging.page([_attempt(row) for row in rows], [[row["id"]] for row in rows])


@router.post("/v1/webhook-messages/{message_id}/retry", status_code=202, operation_id="retry_webhook_message")
async def retry_webhook_message(message_id: UUID, tx: Tx, principal: Manager, now: Now) -> MessageOut:
    """Attempt a message once more, now, however it ended before."""
    before = await usecases.retry(tx, principal, message_id)
    return message_out({**before, "status": "pending", "due_at": now})
