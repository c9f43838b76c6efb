"""The public routes of webhooks: parse, one call, shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfRuntime, Tx, api_router, require, set_etag
from chassis.wire import Body, UtcMoment, View
from fastapi import Depends, Query, Request, Response
from pydantic import ConfigDict, Field

from webhooks import domain, public_events, queries, usecases
from webhooks.sender import SystemLookup, resolve
from webhooks.url_policy import URL_CHARS_MAX

router = api_router("webhooks")

Manager = Annotated[Principal, require("webhooks:manage")]
EndpointStatus = Literal["active", "paused", "failing", "disabled"]
MessageStatus = Literal["pending", "delivering", "delivered", "retrying", "exhausted", "held", "cancelled"]
Outcome = Literal["delivered", "failed", "refused"]

Url = Annotated[str, Field(min_length=1, max_length=URL_CHARS_MAX, description="where events are posted to, by https")]
EventTypes = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=domain.EVENT_TYPE_CHARS_MAX)]],
    Field(max_length=domain.EVENT_TYPES_MAX, description="full types or prefixes ending in `.*`; none means all"),
]
Description = Annotated[str, Field(max_length=domain.DESCRIPTION_CHARS_MAX)]
RatePerS = Annotated[int, Field(strict=True, ge=1, le=domain.RATE_PER_S_MAX, description="at most so many a second")]
Ordered = Annotated[bool, Field(strict=True, description="the events of one subject one after the other")]
TimeoutS = Annotated[int, Field(strict=True, ge=1, le=domain.TIMEOUT_S_MAX, description="for one whole attempt")]
RetryScheduleS = Annotated[
    list[Annotated[int, Field(strict=True, ge=1, le=domain.RETRY_S_MAX)]],
    Field(
        max_length=domain.RETRIES_MAX,
        description="waits after the first, second, … failed attempt; none means one attempt, null the usual ten in 75 h",
    ),
]


class EndpointIn(Body):
    """A new endpoint; people name the organization, a key has its own."""

    url: Url
    event_types: EventTypes = []
    description: Description = ""
    rate_per_s: RatePerS | None = None
    ordered: Ordered = False
    timeout_s: TimeoutS = domain.TIMEOUT_S_DEFAULT
    retry_schedule_s: RetryScheduleS | None = None
    organization_id: UUID | None = None


class EndpointPatch(Body):
    """The settings to change; what is absent or null stays, but for `rate_per_s` and `retry_schedule_s`, where null means the default."""

    url: Url | None = None
    event_types: EventTypes | None = None
    description: Description | None = None
    rate_per_s: RatePerS | None = None
    ordered: Ordered | None = None
    timeout_s: TimeoutS | None = None
    retry_schedule_s: RetryScheduleS | None = None


class RotationIn(Body):
    """How long the old secret signs as well."""

    overlap_s: Annotated[int, Field(strict=True, ge=0, le=int(domain.OVERLAP_MAX.total_seconds()))] = int(
        domain.OVERLAP_DEFAULT.total_seconds()
    )


class EndpointOut(View):
    """An endpoint."""

    id: UUID
    version: int
    organization_id: UUID
    url: str
    event_types: list[str]
    description: str
    rate_per_s: int | None
    ordered: bool
    timeout_s: int
    retry_schedule_s: list[int] | None
    status: EndpointStatus
    failing_since: UtcMoment | None
    failing_percent: int
    disabled_reason: str | None
    created_at: UtcMoment


class EndpointWithSecretOut(EndpointOut):
    """An endpoint and its newest secret, shown this once."""

    secret: str


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


class EventTypeOut(View):
    """An event type: the JSON Schema of its `data`, and an example of the whole envelope."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    type: str
    description: str
    schema_: dict[str, Any] = Field(alias="schema")
    example: dict[str, Any]


_SETTINGS = ("url", "description", "rate_per_s", "ordered", "timeout_s", "retry_schedule_s")
_NULLABLE = ("rate_per_s", "retry_schedule_s")


def _of(endpoint: domain.Endpoint, response: Response) -> EndpointOut:
    set_etag(response, endpoint.version)
    return EndpointOut.model_validate(_fields(endpoint))


def _with_secret(endpoint: domain.Endpoint, secret: str, response: Response) -> EndpointWithSecretOut:
    set_etag(response, endpoint.version)
    response.headers["Cache-Control"] = "no-store"
    return EndpointWithSecretOut.model_validate({**_fields(endpoint), "secret": secret})


def _fields(endpoint: domain.Endpoint) -> dict[str, Any]:
    own = (
        "id", "version", "organization_id", "status", "failing_since", "failing_percent", "disabled_reason", "created_at",
    )  # fmt: skip
    return {
        **{name: getattr(endpoint, name) for name in own},
        **{name: getattr(endpoint.settings, name) for name in _SETTINGS},
        "event_types": endpoint.settings.event_types.patterns,
    }


def _message(fields: Row | dict[str, Any]) -> MessageOut:
    waits = fields["status"] in ("pending", "retrying")
    return MessageOut.model_validate({**fields, "next_attempt_at": fields["due_at"] if waits else None})


def _attempt(row: Row) -> AttemptOut:
    heads = {name: [HeaderOut(name=n, value=v) for n, v in row[name]] for name in ("request_head", "response_head")}
    body = row["response_body"].decode("utf-8", "replace")
    return AttemptOut.model_validate({**row, **heads, "response_body": body})


@cache
def _lookup() -> SystemLookup:
    return SystemLookup()


def _url_check(request: Request, runtime: OfRuntime) -> Callable[[str], Awaitable[str]]:
    """Looks a name up once per request, however often its command is run."""
    if not hasattr(request.state, "checked_urls"):
        request.state.checked_urls = {}
    checked: dict[str, str] = request.state.checked_urls

    async def check(url: str) -> str:
        if url not in checked:
            checked[url] = (await resolve(url, runtime.settings.allowed_networks, _lookup())).url
        return checked[url]

    return check


UrlCheck = Annotated[Callable[[str], Awaitable[str]], Depends(_url_check)]


@router.get("/v1/event-types", operation_id="list_event_types")
async def list_event_types(paging: PageAsked, _: Manager) -> Page[EventTypeOut]:
    """Every event type that an endpoint can receive, by name."""
    after = paging.position[0] if paging.position else ""
    found = [kind for kind in public_events.described() if kind["type"] > after][: paging.limit + 1]
    return paging.page([EventTypeOut.model_validate(kind) for kind in found], [[kind["type"]] for kind in found])


@router.post("/v1/webhook-endpoints", status_code=201, operation_id="create_webhook_endpoint")
async def create_webhook_endpoint(
    body: EndpointIn, tx: Tx, principal: Manager, check_url: UrlCheck, runtime: OfRuntime, now: Now, response: Response
) -> EndpointWithSecretOut:
    """Have events posted to a URL of yours; the answer shows the signing secret, this once."""
    endpoint, secret = await usecases.create(
        tx,
        principal,
        usecases.vault_of(runtime.secret),
        check_url,
        organization_id=body.organization_id,
        endpoint=cast("usecases.NewEndpoint", body.model_dump(exclude={"organization_id"})),
        now=now,
    )
    response.headers["Location"] = f"/v1/webhook-endpoints/{endpoint.id}"
    return _with_secret(endpoint, secret, response)


@router.get("/v1/webhook-endpoints", operation_id="list_webhook_endpoints")
async def list_webhook_endpoints(
    tx: Tx, paging: PageAsked, principal: Manager, organization_id: UUID | None = None
) -> Page[EndpointOut]:
    """Your organizations' endpoints, newest first."""
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.endpoints(tx, principal, organization_id=organization_id, limit=paging.limit, before=before)
    return paging.page([EndpointOut.model_validate(dict(row)) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/webhook-endpoints/{endpoint_id}", operation_id="get_webhook_endpoint")
async def get_webhook_endpoint(endpoint_id: UUID, tx: Tx, principal: Manager, response: Response) -> EndpointOut:
    """One endpoint; its secret is never shown again."""
    row = await queries.endpoint(tx, principal, endpoint_id)
    set_etag(response, row["version"])
    return EndpointOut.model_validate(dict(row))


@router.patch("/v1/webhook-endpoints/{endpoint_id}", operation_id="change_webhook_endpoint")
async def change_webhook_endpoint(
    endpoint_id: UUID,
    body: EndpointPatch,
    tx: Tx,
    principal: Manager,
    check_url: UrlCheck,
    now: Now,
    response: Response,
    if_match: IfMatch,
) -> EndpointOut:
    """Change settings, for messages that wait already as well."""
    given = body.model_dump(exclude_unset=True)
    wanted = {name: value for name, value in given.items() if value is not None or name in _NULLABLE}
    endpoint = await usecases.change(
        tx, principal, endpoint_id, check_url, wanted=cast("usecases.Change", wanted), now=now, if_match=if_match
    )  # fmt: skip
    return _of(endpoint, response)


@router.delete("/v1/webhook-endpoints/{endpoint_id}", status_code=204, operation_id="delete_webhook_endpoint")
async def delete_webhook_endpoint(endpoint_id: UUID, tx: Tx, principal: Manager, now: Now, if_match: IfMatch) -> None:
    """Remove an endpoint; what waits for it is cancelled."""
    await usecases.delete(tx, principal, endpoint_id, now=now, if_match=if_match)


@router.post("/v1/webhook-endpoints/{endpoint_id}/rotate-secret", operation_id="rotate_webhook_secret")
async def rotate_webhook_secret(
    endpoint_id: UUID,
    tx: Tx,
    principal: Manager,
    runtime: OfRuntime,
    now: Now,
    response: Response,
    if_match: IfMatch,
    body: RotationIn | None = None,
) -> EndpointWithSecretOut:
    """Sign with a new secret, shown this once; the old one signs as well for 24 hours, or as long as you say."""
    overlap = timedelta(seconds=(body or RotationIn()).overlap_s)
    endpoint, secret = await usecases.rotate_secret(
        tx, principal, usecases.vault_of(runtime.secret), endpoint_id, overlap=overlap, now=now, if_match=if_match
    )
    return _with_secret(endpoint, secret, response)


@router.post("/v1/webhook-endpoints/{endpoint_id}/test", status_code=202, operation_id="test_webhook_endpoint")
async def test_webhook_endpoint(endpoint_id: UUID, tx: Tx, principal: Manager, now: Now) -> MessageOut:
    """Send a test event to this endpoint, whatever it listens to."""
    return _message(await usecases.send_test(tx, principal, endpoint_id, now=now))


@router.post("/v1/webhook-endpoints/{endpoint_id}/pause", operation_id="pause_webhook_endpoint")
async def pause_webhook_endpoint(
    endpoint_id: UUID, tx: Tx, principal: Manager, now: Now, response: Response, if_match: IfMatch
) -> EndpointOut:
    """Hold events back until the endpoint is enabled."""
    return _of(await usecases.pause(tx, principal, endpoint_id, now=now, if_match=if_match), response)


@router.post("/v1/webhook-endpoints/{endpoint_id}/enable", operation_id="enable_webhook_endpoint")
async def enable_webhook_endpoint(
    endpoint_id: UUID, tx: Tx, principal: Manager, now: Now, response: Response, if_match: IfMatch
) -> EndpointOut:
    """Send again, what was held first."""
    return _of(await usecases.enable(tx, principal, endpoint_id, now=now, if_match=if_match), response)


@router.get("/v1/webhook-messages", operation_id="list_webhook_messages")
async def list_webhook_messages(
    tx: Tx,
    paging: PageAsked,
    principal: Manager,
    status: Annotated[list[MessageStatus], Query(max_length=7)] = [],  # noqa: B006 - FastAPI copies defaults
    endpoint_id: UUID | None = None,
    event_type: Annotated[str | None, Query(min_length=1, max_length=domain.EVENT_TYPE_CHARS_MAX)] = None,
) -> Page[MessageOut]:
    """Messages to your endpoints, newest first; `event_type` may be a prefix ending in `.*`."""
    wanted = queries.MessageFilter(status, endpoint_id, event_type)
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.messages(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page([_message(row) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/webhook-messages/{message_id}", operation_id="get_webhook_message")
async def get_webhook_message(message_id: UUID, tx: Tx, principal: Manager) -> MessageOut:
    """One message."""
    return _message(await queries.message(tx, principal, message_id))


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
    return _message({**before, "status": "pending", "due_at": now})
