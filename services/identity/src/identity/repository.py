"""Loads and saves identity's aggregates, each save keeping the directory of who may act; and the rows beside them.

Beside the aggregates are what is personal (`users_private`), what is secret (`signing_keys_private`) and sessions,
whose end is a fact of the person and whose refresh tokens are nobody else's business.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.repository import Repository

from identity import public_events
from identity.domain import (
    EVENTS,
    UPCASTERS,
    ApiKey,
    ApiKeyNotFound,
    CnpjTaken,
    EmailTaken,
    Organization,
    OrganizationNotFound,
    Place,
    PlaceNotFound,
    SigningKey,
    SigningKeyNotFound,
    User,
    UserNotFound,
    email_key,
)

# What a unique constraint means when two commands race for the same value.
CONSTRAINTS = {"organizations_cnpj_key": CnpjTaken, "users_private_email_key": EmailTaken}


def _organization(organization: Organization) -> dict[str, Any]:
    return {
        "status": organization.status,
        "cnpj": organization.cnpj,
        "legal_name": organization.legal_name,
        "trade_name": organization.trade_name,
        "kinds": list(organization.kinds),
        "registered_at": organization.registered_at,
    }


def _place(place: Place) -> dict[str, Any]:
    details = place.details
    return {
        "organization_id": place.organization_id,
        "name": details.name,
        "roles": list(details.roles),
        "address": details.address,
        "cep": details.cep,
        "ibge_city": details.ibge_city,
        "lat": details.lat,
        "lon": details.lon,
        "tz": details.tz,
        "accepts": list(details.accepts),
        "stop_list": list(details.stop_list),
        "opening_hours": details.opening_hours,
        "people_served": details.people_served,
        "added_at": place.added_at,
    }


def _user(user: User) -> dict[str, Any]:
    return {"locale": user.locale, "suspended": user.suspended, "registered_at": user.registered_at}


def _api_key(key: ApiKey) -> dict[str, Any]:
    return {
        "organization_id": key.organization_id,
        "status": key.status,
        "name": key.name,
        "env": key.env,
        "prefix": key.secret.prefix,
        "scopes": list(key.scopes),
        "cnpjs": list(key.cnpjs),
        "rate_per_minute": key.rate_per_minute,
        "expires_at": key.expires_at,
        "issued_at": key.issued_at,
    }


def _signing_key(key: SigningKey) -> dict[str, Any]:
    return {"key_id": key.key_id, "jwk": key.jwk}


ORGANIZATIONS = Repository(
    table="organizations",
    aggregate=Organization,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_organization,
    announce=public_events.of_organization,
    inline=public_events.into_directory,
    not_found=OrganizationNotFound,
)
PLACES = Repository(
    table="places",
    aggregate=Place,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_place,
    announce=public_events.of_place,
    inline=public_events.into_directory,
    not_found=PlaceNotFound,
)
USERS = Repository(
    table="users",
    aggregate=User,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_user,
    announce=public_events.of_user,
    inline=public_events.into_directory,
    not_found=UserNotFound,
)
API_KEYS = Repository(
    table="api_keys",
    aggregate=ApiKey,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_api_key,
    announce=public_events.of_api_key,
    inline=public_events.into_directory,
    not_found=ApiKeyNotFound,
)
SIGNING_KEYS = Repository(
    table="signing_keys",
    aggregate=SigningKey,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_signing_key,
    announce=public_events.of_signing_key,
    inline=public_events.into_directory,
    not_found=SigningKeyNotFound,
)


def keep_private(tx: Transaction, user_id: UUID, *, email: str, display_name: str, password_hash: str) -> None:
    """Queue who a new person is; a taken e-mail address ends the transaction as `EmailTaken`."""
    tx.write(
        "INSERT INTO users_private (user_id, email, email_key, display_name, password_hash) VALUES ($1, $2, $3, $4, $5)",
        user_id,
        email,
        email_key(email),
        display_name,
        password_hash,
    )


async def user_by_email(tx: Transaction, email: str) -> Row | None:
    """Whose address this is: user_id, password_hash, suspended."""
    return await tx.fetchrow(
        "SELECT p.user_id, p.password_hash, u.suspended FROM users_private p JOIN users u ON u.id = p.user_id"
        " WHERE p.email_key = $1",
        email_key(email),
    )


async def managed_by_others(tx: Transaction, roots: list[str], managed: list[UUID]) -> list[str]:
    """Those CNPJ roots that belong to registered organizations outside `managed`."""
    rows = await tx.fetch(
        "SELECT DISTINCT left(cnpj, 8) AS root FROM organizations WHERE left(cnpj, 8) = ANY($1::text[]) AND id <> ALL($2::uuid[])"
        " AND left(cnpj, 8) NOT IN (SELECT left(cnpj, 8) FROM organizations WHERE id = ANY($2::uuid[]))",
        roots,
        managed,
    )
    return [row["root"] for row in rows]


async def active_api_keys(tx: Transaction, organization_id: UUID) -> list[UUID]:
    """The ids of an organization's keys that are not revoked."""
    rows = await tx.fetch("SELECT id FROM api_keys WHERE organization_id = $1 AND status = 'active'", organization_id)
    return [row["id"] for row in rows]


def start_session(tx: Transaction, session_id: UUID, *, user_id: UUID, now: datetime, expires_at: datetime) -> None:
    """Queue a sign-in."""
    tx.write(
        "INSERT INTO sessions (id, user_id, started_at, expires_at) VALUES ($1, $2, $3, $4)",
        session_id,
        user_id,
        now,
        expires_at,
    )


def keep_refresh_token(tx: Transaction, digest: bytes, *, session_id: UUID, expires_at: datetime) -> None:
    """Queue a refresh token of a session."""
    tx.write(
        "INSERT INTO refresh_tokens (token_sha256, session_id, expires_at) VALUES ($1, $2, $3)",
        digest,
        session_id,
        expires_at,
    )


async def refresh_token(tx: Transaction, digest: bytes) -> Row | None:
    """A refresh token and its session: session_id, user_id, expires_at, replaced_at, over (ended or suspended)."""
    return await tx.fetchrow(
        "SELECT t.session_id, s.user_id, t.expires_at, t.replaced_at, (s.ended_at IS NOT NULL OR u.suspended) AS over"
        " FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id"
        " WHERE t.token_sha256 = $1",
        digest,
    )


def replace_refresh_token(
    tx: Transaction, old: bytes, new: bytes, *, session_id: UUID, now: datetime, lives: timedelta
) -> None:
    """Queue the old token's replacement; used again within the grace it keeps the time of its first use."""
    expires_at = now + lives
    tx.write("UPDATE refresh_tokens SET replaced_at = coalesce(replaced_at, $2) WHERE token_sha256 = $1", old, now)
    tx.write("UPDATE sessions SET expires_at = $2 WHERE id = $1", session_id, expires_at)
    keep_refresh_token(tx, new, session_id=session_id, expires_at=expires_at)


async def session_is_open(tx: Transaction, session_id: UUID) -> bool:
    """The session exists and has not ended."""
    lock = " FOR UPDATE" if tx.locking else ""
    row = await tx.fetchrow(f"SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NULL{lock}", session_id)
    return row is not None


def end_session(tx: Transaction, session_id: UUID, *, now: datetime) -> None:
    """Queue a session's end."""
    tx.write("UPDATE sessions SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL", session_id, now)


def end_sessions_of(tx: Transaction, user_id: UUID, *, now: datetime) -> None:
    """Queue the end of all sessions of a person."""
    tx.write("UPDATE sessions SET ended_at = $2 WHERE user_id = $1 AND ended_at IS NULL", user_id, now)


async def forget_old_sessions(tx: Transaction, *, now: datetime) -> None:
    """Remove refresh tokens and sessions that can do nothing any more."""
    tx.write("DELETE FROM refresh_tokens WHERE expires_at < $1", now)
    await tx.flush()
    tx.write("DELETE FROM sessions WHERE expires_at < $1", now)


async def newest_signing_key(tx: Transaction) -> bytes | None:
    """The sealed private half of the newest key."""
    sealed: bytes | None = await tx.fetchval(
        "SELECT sealed FROM signing_keys_private ORDER BY signing_key_id DESC LIMIT 1"
    )
    return sealed


def keep_sealed(tx: Transaction, signing_key_id: UUID, sealed: bytes) -> None:
    """Queue a key's encrypted private half."""
    tx.write("INSERT INTO signing_keys_private (signing_key_id, sealed) VALUES ($1, $2)", signing_key_id, sealed)


async def only_one_starts(tx: Transaction) -> None:
    """Hold back other processes that start right now, until this transaction ends."""
    await tx.fetchval("SELECT pg_advisory_xact_lock($1)", _STARTING)


_STARTING = 0x6964656E74697479  # "identity"
