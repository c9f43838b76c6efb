"""Endpoints: where a partner has events posted to, how they are signed, what was missed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from chassis.job_routes import JobOut
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfRuntime, Tx, api_router, set_etag
from chassis.wire import Body, UtcMoment, View
from fastapi import Depends, Query, Request, Response
from pydantic import Field, SecretStr

from webhooks import domain, queries, usecases
from webhooks.api.callers import Manager
from webhooks.api.messages import MessageOut, message_out
from webhooks.keyring import Keyring
from webhooks.sender import SystemLookup, resolve
from webhooks.url_policy import URL_CHARS_MAX

router = api_router("webhooks")

ANONYMOUS: dict[str, Any] = {"security": []}
KEYS_FRESH_S = 300  # a rotation without overlap is seen by receivers no later
SECRET_CHARS_MAX = 100  # `whsec_` and 64 bytes in base64 are 94

EndpointStatus = Literal["active", "paused", "failing", "disabled"]

Url = Annotated[str, Field(min_length=1, max_length=URL_CHARS_MAX, description="where events are posted to, by https")]
EventTypes = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=domain.EVENT_TYPE_CHARS_MAX)]],
    Field(max_length=domain.EVENT_TYPES_MAX, description="full types or prefixes ending in `.*`; none means all"),
]
Description = Annotated[str, Field(max_length=domain.DESCRIPTION_CHARS_MAX)]
RatePerS = Annotated[int, Field(strict=True, ge=1, le=domain.RATE_PER_S_MAX, description="at most so many a second")]
Ordered = Annotated[bool, Field(strict=True, description="the events of one subject one after the other")]
TimeoutS = Annotated[int, Field(strict=True, ge=1, le=domain.TIMEOUT_S_MAX, description="for one whole attempt")]
Parties = Annotated[
    list[UUID],
    Field(max_length=domain.PARTIES_MAX, description="events that concern one of these organizations; none means all"),
]
Ed25519 = Annotated[bool, Field(strict=True, description="sign with Ed25519 (`v1a`) as well")]
Secret = Annotated[
    SecretStr,
    Field(min_length=1, max_length=SECRET_CHARS_MAX, description="`whsec_` and 24 to 64 bytes in base64, of your own"),
]
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
    parties: Parties = []
    ed25519: Ed25519 = False
    secret: Secret | None = None
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
    parties: Parties | None = None
    ed25519: Ed25519 | None = None


class RotationIn(Body):
    """How long the old secret signs as well, and the new one if it is of your making."""

    secret: Secret | None = None

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
    parties: list[UUID]
    ed25519: bool
    status: EndpointStatus
    failing_since: UtcMoment | None
    failing_percent: int
    disabled_reason: str | None
    created_at: UtcMoment


class EndpointWithSecretOut(EndpointOut):
    """An endpoint and its newest secret, shown this once; `public_key` (`whpk_…`) goes with it when the endpoint has one."""

    secret: str
    public_key: str | None


class KeySetOut(View):
    """A JWK set (RFC 7517): what verifies an endpoint's `v1a` signatures."""

    keys: list[dict[str, str]]


class RecoveryIn(Body):
    """Since when, at most 30 days ago, until when (now) and which messages to send again."""

    since: UtcMoment
    until: UtcMoment | None = None
    include: Literal["undelivered", "all"] = "undelivered"


_SETTINGS = ("url", "description", "rate_per_s", "ordered", "timeout_s", "retry_schedule_s", "parties", "ed25519")
_NULLABLE = ("rate_per_s", "retry_schedule_s")


def _of(endpoint: domain.Endpoint, response: Response) -> EndpointOut:
    set_etag(response, endpoint.version)
    return EndpointOut.model_validate(_fields(endpoint))


def _with_secret(made: usecases.WithSecret, response: Response) -> EndpointWithSecretOut:
    set_etag(response, made.endpoint.version)
    response.headers["Cache-Control"] = "no-store"
    shown = {"secret": made.secret, "public_key": made.public_key}
    return EndpointWithSecretOut.model_validate(_fields(made.endpoint) | shown)


def _clear(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _fields(endpoint: domain.Endpoint) -> dict[str, Any]:
    own = (
        "id", "version", "organization_id", "status", "failing_since", "failing_percent", "disabled_reason", "created_at",
    )  # fmt: skip
    return {
        **{name: getattr(endpoint, name) for name in own},
        **{name: getattr(endpoint.settings, name) for name in _SETTINGS},
        "event_types": endpoint.settings.event_types.patterns,
    }


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


@router.post("/v1/webhook-endpoints", status_code=201, operation_id="create_webhook_endpoint")
async def create_webhook_endpoint(
    body: EndpointIn, tx: Tx, principal: Manager, check_url: UrlCheck, runtime: OfRuntime, now: Now, response: Response
) -> EndpointWithSecretOut:
    """Have events posted to a URL of yours; the answer shows the signing secret, this once."""
    made = await usecases.create(
        tx,
        principal,
        Keyring(runtime.secret),
        check_url,
        organization_id=body.organization_id,
        endpoint=cast("usecases.NewEndpoint", body.model_dump(exclude={"organization_id", "secret"})),
        secret=_clear(body.secret),
        now=now,
    )
    response.headers["Location"] = f"/v1/webhook-endpoints/{made.endpoint.id}"
    return _with_secret(made, response)


@router.get("/v1/webhook-endpoints", operation_id="list_webhook_endpoints")
async def list_webhook_endpoints(
    tx: Tx,
    paging: PageAsked,
    principal: Manager,
    organization_id: UUID | None = None,
    status: Annotated[list[EndpointStatus], Query(max_length=4)] = [],  # noqa: B006 - FastAPI copies defaults
    event_type: Annotated[str | None, Query(min_length=1, max_length=domain.EVENT_TYPE_CHARS_MAX)] = None,
) -> Page[EndpointOut]:
    """Your organizations' endpoints, newest first; with `event_type` those that hear of it."""
    wanted = queries.EndpointFilter(organization_id, status, event_type)
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.endpoints(tx, principal, wanted, limit=paging.limit, before=before)
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
    asked = body or RotationIn()
    made = await usecases.rotate_secret(
        tx,
        principal,
        Keyring(runtime.secret),
        endpoint_id,
        secret=_clear(asked.secret),
        overlap=timedelta(seconds=asked.overlap_s),
        now=now,
        if_match=if_match,
    )
    return _with_secret(made, response)


@router.get(
    "/v1/webhook-endpoints/{endpoint_id}/jwks.json", operation_id="get_webhook_key_set", openapi_extra=ANONYMOUS
)
async def get_webhook_key_set(endpoint_id: UUID, tx: Tx, runtime: OfRuntime, now: Now, response: Response) -> KeySetOut:
    """The public keys of an endpoint that signs with Ed25519, newest first; no secret, so that its receivers can look them up."""
    keys = await usecases.public_keys(tx, Keyring(runtime.secret), endpoint_id, now=now)
    response.headers["Cache-Control"] = f"public, max-age={KEYS_FRESH_S}"
    return KeySetOut(keys=keys)


@router.post("/v1/webhook-endpoints/{endpoint_id}/recover", status_code=202, operation_id="recover_webhook_endpoint")
async def recover_webhook_endpoint(
    endpoint_id: UUID, body: RecoveryIn, tx: Tx, principal: Manager, now: Now, response: Response, if_match: IfMatch
) -> JobOut:
    """Send again what was not delivered since a moment, or everything, under its old ids; a job tells how far that is."""
    job = await usecases.recover(
        tx,
        principal,
        endpoint_id,
        since=body.since,
        until=body.until,
        everything=body.include == "all",
        now=now,
        if_match=if_match,
    )
    response.headers["Location"] = f"/v1/jobs/{job['id']}"
    return JobOut.model_validate(job)


@router.post("/v1/webhook-endpoints/{endpoint_id}/test", status_code=202, operation_id="test_webhook_endpoint")
async def test_webhook_endpoint(endpoint_id: UUID, tx: Tx, principal: Manager, now: Now) -> MessageOut:
    """Send a test event to this endpoint, whatever it listens to."""
    return message_out(await usecases.send_test(tx, principal, endpoint_id, now=now))


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
