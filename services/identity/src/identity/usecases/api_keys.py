"""API keys: shown once, known by digest, revoked at once."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict
from uuid import UUID

from chassis.access import Principal
from chassis.auth import key_digest, make_key
from chassis.database import Transaction
from chassis.kernel import new_id

from identity.domain import (
    ACTIVE_KEYS_MAX,
    ApiKey,
    ApiKeyId,
    ApiKeyNotFound,
    CnpjOfAnother,
    KeyEnvironment,
    KeySecret,
    NotAManager,
    Organization,
    OrganizationId,
    TooManyApiKeys,
)
from identity.repository import API_KEYS, active_api_keys, managed_by_others
from identity.usecases.cnpj import normalised_or_root, root_of
from identity.usecases.organizations import managed

PREFIX_CHARS = len("vaj_live_") + 8  # what the key calls itself; the secret follows


class NewApiKey(TypedDict):
    """What a manager wants a key to be."""

    name: str
    env: KeyEnvironment
    scopes: tuple[str, ...]
    cnpjs: tuple[str, ...] | None
    rate_per_minute: int | None
    expires_at: datetime | None


async def issue(
    tx: Transaction, principal: Principal, *, organization_id: UUID, wanted: NewApiKey, now: datetime
) -> tuple[ApiKey, str]:
    """A new key of an organization that the caller manages, and the secret that is shown this once."""
    organization = await managed(tx, principal, organization_id)
    organization.require_open()
    if len(await active_api_keys(tx, organization_id)) >= ACTIVE_KEYS_MAX:
        raise TooManyApiKeys(most=ACTIVE_KEYS_MAX)
    shown = make_key(wanted["env"])
    key = ApiKey.issue(
        ApiKeyId(new_id()),
        organization_id=OrganizationId(organization_id),
        name=wanted["name"],
        env=wanted["env"],
        scopes=wanted["scopes"],
        cnpjs=await _cnpjs(tx, principal, organization, wanted["cnpjs"]),
        rate_per_minute=wanted["rate_per_minute"],
        expires_at=wanted["expires_at"],
        secret=_known_of(shown),
        now=now,
    )
    API_KEYS.save(tx, key, now=now)
    return key, shown


async def rotate(tx: Transaction, principal: Principal, api_key_id: UUID, *, now: datetime) -> tuple[ApiKey, str]:
    """Give a key a new secret, shown this once; the old one stops counting."""
    key = await _own(tx, principal, api_key_id)
    shown = make_key(key.env)
    key.rotate(_known_of(shown), now=now)
    API_KEYS.save(tx, key, now=now)
    return key, shown


async def revoke(tx: Transaction, principal: Principal, api_key_id: UUID, *, now: datetime) -> None:
    """End a key."""
    key = await _own(tx, principal, api_key_id)
    key.revoke()
    API_KEYS.save(tx, key, now=now)


async def _own(tx: Transaction, principal: Principal, api_key_id: UUID) -> ApiKey:
    key = await API_KEYS.get(tx, api_key_id)
    if not principal.acts_for(key.organization_id):
        raise ApiKeyNotFound
    if not principal.manages(key.organization_id):
        raise NotAManager("only the organization's managers do this")
    return key


async def _cnpjs(
    tx: Transaction, principal: Principal, organization: Organization, wanted: tuple[str, ...] | None
) -> tuple[str, ...]:
    """What the key may load for; never for a registered organization that its issuer does not manage."""
    if wanted is None:
        return (root_of(organization.cnpj),)
    cnpjs = tuple(dict.fromkeys(normalised_or_root(cnpj, pointer=f"/cnpjs/{n}") for n, cnpj in enumerate(wanted)))
    own = [organization_id for organization_id, role in principal.memberships.items() if role == "manager"]
    foreign = await managed_by_others(tx, [root_of(cnpj) for cnpj in cnpjs], own)
    if foreign:
        raise CnpjOfAnother("only who manages that organization may issue keys for it", roots=foreign)
    return cnpjs


def _known_of(shown: str) -> KeySecret:
    return KeySecret(prefix=shown[:PREFIX_CHARS], sha256=key_digest(shown))
