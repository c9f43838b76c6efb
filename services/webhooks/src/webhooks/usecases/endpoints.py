"""What owners do with their endpoints. Callers' rights are checked here, once: whoever may not see one gets a 404."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import Invalid, new_id
from chassis.telemetry import current_context

from webhooks import queries, repository
from webhooks.domain import (
    Endpoint,
    EndpointId,
    EndpointNotFound,
    EndpointSettings,
    EndpointStatus,
    EventFilter,
    MessageStatus,
    NotYourOrganization,
    OrganizationId,
    OrganizationNotFound,
    SecretInUse,
    TooManyEndpoints,
)
from webhooks.keyring import Keyring
from webhooks.public_events import TEST_TYPE, endpoint_test, partner_facing
from webhooks.repository import ENDPOINTS, Listener, StoredEvent
from webhooks.signing import InvalidSecret, format_public_key, format_secret, jwk_of, parse_secret
from webhooks.usecases.messages import MESSAGES_HINT

ENDPOINTS_HINT = "webhook-endpoints"  # an endpoint may be sent to again
ENDPOINTS_MAX = 200  # of one organization; each is looked at for every event that concerns it
KEY_BYTES = 32

CheckUrl = Callable[[str], Awaitable[str]]
"""Gives a URL in normal form, or raises `UrlNotAllowed`."""


class NewEndpoint(TypedDict):
    """What a partner says of a new endpoint."""

    url: str
    event_types: Sequence[str]
    description: str
    rate_per_s: int | None
    ordered: bool
    timeout_s: int
    retry_schedule_s: Sequence[int] | None
    parties: Sequence[UUID]
    ed25519: bool


class Change(TypedDict, total=False):
    """The settings to change; what is absent stays."""

    url: str
    event_types: Sequence[str]
    description: str
    rate_per_s: int | None
    ordered: bool
    timeout_s: int
    retry_schedule_s: Sequence[int] | None
    parties: Sequence[UUID]
    ed25519: bool


class WithSecret(NamedTuple):
    """An endpoint, its newest secret in clear, which nobody is ever told again, and the public key beside it if it has one."""

    endpoint: Endpoint
    secret: str
    public_key: str | None


async def create(
    tx: Transaction, principal: Principal, keyring: Keyring, check_url: CheckUrl, *,
    organization_id: UUID | None, endpoint: NewEndpoint, secret: str | None, now: datetime,
) -> WithSecret:  # fmt: skip
    """A new active endpoint, with the secret given or a new one."""
    owner = _owner(principal, organization_id)
    settings = await _settings(EndpointSettings(url=""), Change(**endpoint), check_url)
    if await queries.endpoints_counted(tx, owner) >= ENDPOINTS_MAX:
        raise TooManyEndpoints(f"at most {ENDPOINTS_MAX} endpoints")
    key = _key(secret)
    created = Endpoint.create(
        EndpointId(new_id()),
        organization_id=OrganizationId(owner),
        settings=settings,
        sealed_secret=keyring.seal(key),
        now=now,
    )
    ENDPOINTS.save(tx, created, now=now)
    return _with_secret(created, key, keyring)


async def change(
    tx: Transaction, principal: Principal, endpoint_id: UUID, check_url: CheckUrl, *,
    wanted: Change, now: datetime, if_match: int | None,
) -> Endpoint:  # fmt: skip
    """Use other settings, for waiting messages too."""
    endpoint = await own_endpoint(tx, principal, endpoint_id, if_match)
    endpoint.change(await _settings(endpoint.settings, wanted, check_url))
    ENDPOINTS.save(tx, endpoint, now=now)
    if "url" in wanted:
        repository.heal(tx, endpoint.id)
    return endpoint


async def rotate_secret(
    tx: Transaction, principal: Principal, keyring: Keyring, endpoint_id: UUID, *,
    secret: str | None, overlap: timedelta, now: datetime, if_match: int | None,
) -> WithSecret:  # fmt: skip
    """Sign with the secret given or a new one; the old one signs as well until the overlap is over."""
    endpoint = await own_endpoint(tx, principal, endpoint_id, if_match)
    key = _key(secret)
    if key in {keyring.open(known) for known in endpoint.valid_secrets(now)}:
        raise SecretInUse("choose one that does not sign already", pointer="/secret")
    endpoint.rotate_secret(keyring.seal(key), now=now, overlap=overlap)
    ENDPOINTS.save(tx, endpoint, now=now)
    return _with_secret(endpoint, key, keyring)


async def public_keys(tx: Transaction, keyring: Keyring, endpoint_id: UUID, *, now: datetime) -> list[dict[str, str]]:
    """What verifies the `v1a` signatures made now, newest first, for whoever knows the endpoint's id."""
    endpoint = await ENDPOINTS.get(tx, endpoint_id)
    if endpoint.status is EndpointStatus.DELETED or not endpoint.settings.ed25519:
        raise EndpointNotFound
    return [jwk_of(keyring.pair(endpoint.id, secret)) for secret in endpoint.valid_secrets(now)]


async def pause(
    tx: Transaction, principal: Principal, endpoint_id: UUID, *, now: datetime, if_match: int | None
) -> Endpoint:
    """Hold messages back."""
    endpoint = await own_endpoint(tx, principal, endpoint_id, if_match)
    endpoint.pause()
    ENDPOINTS.save(tx, endpoint, now=now)
    return endpoint


async def enable(
    tx: Transaction, principal: Principal, endpoint_id: UUID, *, now: datetime, if_match: int | None
) -> Endpoint:
    """Send again, what was held first."""
    endpoint = await own_endpoint(tx, principal, endpoint_id, if_match)
    endpoint.enable()
    ENDPOINTS.save(tx, endpoint, now=now)
    repository.heal(tx, endpoint.id)
    tx.hints.update((ENDPOINTS_HINT, MESSAGES_HINT))
    return endpoint


async def delete(
    tx: Transaction, principal: Principal, endpoint_id: UUID, *, now: datetime, if_match: int | None
) -> None:
    """Remove it; messages that wait for it are cancelled."""
    endpoint = await own_endpoint(tx, principal, endpoint_id, if_match)
    endpoint.delete()
    ENDPOINTS.save(tx, endpoint, now=now)
    tx.hints.update((ENDPOINTS_HINT, MESSAGES_HINT))


async def send_test(tx: Transaction, principal: Principal, endpoint_id: UUID, *, now: datetime) -> dict[str, Any]:
    """Send a test event to this endpoint alone, whatever it listens to; the message as the API shows messages."""
    endpoint = await own_endpoint(tx, principal, endpoint_id, None)
    endpoint.require_delivering()
    event_id = new_id()
    body = endpoint_test(endpoint, event_id, now)
    event = _stored_test(endpoint, event_id, body)
    listener = Listener(endpoint.id, endpoint.organization_id, MessageStatus.PENDING)
    (message_id,) = repository.store(tx, event, [listener])
    tx.hints.add(MESSAGES_HINT)
    return {
        "id": message_id, "event_id": event_id, "event_type": TEST_TYPE, "endpoint_id": endpoint.id,
        "organization_id": endpoint.organization_id, "status": MessageStatus.PENDING, "attempts": 0, "due_at": now,
        "last_status": None, "last_error": None, "created_at": now, "delivered_at": None,
    }  # fmt: skip


def _stored_test(endpoint: Endpoint, event_id: UUID, body: bytes) -> StoredEvent:
    context = current_context()
    return StoredEvent(
        event_id, TEST_TYPE, endpoint.id, endpoint.version, body, context.traceparent, context.correlation_id
    )


async def _settings(present: EndpointSettings, wanted: Change, check_url: CheckUrl) -> EndpointSettings:
    values: dict[str, Any] = dict(wanted)
    if "event_types" in wanted:
        values["event_types"] = EventFilter.of(wanted["event_types"])
        values["event_types"].require_known(partner_facing())
    if wanted.get("retry_schedule_s") is not None:
        values["retry_schedule_s"] = tuple(wanted["retry_schedule_s"] or ())
    if "parties" in wanted:
        values["parties"] = tuple(dict.fromkeys(wanted["parties"]))
    if "url" in wanted:
        values["url"] = await check_url(wanted["url"])
    return replace(present, **values)


def _key(secret: str | None) -> bytes:
    if secret is None:
        return secrets.token_bytes(KEY_BYTES)
    try:
        return parse_secret(secret)
    except InvalidSecret as error:
        raise InvalidSecret(str(error), pointer="/secret") from None


def _with_secret(endpoint: Endpoint, key: bytes, keyring: Keyring) -> WithSecret:
    newest = endpoint.secrets[0]
    public_key = format_public_key(keyring.pair(endpoint.id, newest)) if endpoint.settings.ed25519 else None
    return WithSecret(endpoint, format_secret(key), public_key)


def _owner(principal: Principal, organization_id: UUID | None) -> UUID:
    if organization_id is None:
        if principal.kind != "key":
            raise Invalid("people name the organization", pointer="/organization_id")
        return next(iter(principal.memberships))
    if not principal.acts_for(organization_id):
        raise OrganizationNotFound
    if not principal.manages(organization_id):
        raise NotYourOrganization("only managers of the organization may do this")
    return organization_id


async def own_endpoint(tx: Transaction, principal: Principal, endpoint_id: UUID, if_match: int | None) -> Endpoint:
    """An endpoint that the caller may change."""
    endpoint = await ENDPOINTS.get(tx, endpoint_id)
    if not principal.manages(endpoint.organization_id) or endpoint.status is EndpointStatus.DELETED:
        raise EndpointNotFound
    endpoint.expect_version(if_match)
    return endpoint
