"""The directory: who may act and where — keys, members, people, organizations, places, token keys — from identity's events.

Identity writes it inside its own transactions; every other service through its `access` consumer. Rows carry the
version of the aggregate they come from, so that late and repeated events change nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid5

from contracts.envelope import Event
from contracts.events.identity import (
    ApiKeyIssued,
    ApiKeyRevoked,
    MembershipGranted,
    MembershipRevoked,
    OrganizationClosed,
    OrganizationRegistered,
    OrganizationSuspended,
    OrganizationVerified,
    PlaceAdded,
    PlaceChanged,
    PlatformRoleGranted,
    SigningKeyPublished,
    UserRegistered,
    UserSessionEnded,
    UserSuspended,
)

from chassis.database import Row, Transaction

REFRESH_S = 0.2  # how long others are still answered from the cache while one refreshes it
CACHED_MAX = 10_000  # principals kept in memory per process

OrganizationStatus = Literal["registered", "verified", "suspended", "closed"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: a person with memberships and platform roles, or a partner's key with scopes."""

    id: UUID
    kind: Literal["person", "key"]
    memberships: dict[UUID, str]
    platform_roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    rate_per_minute: int | None = None
    cnpjs: tuple[str, ...] = ()
    session_id: UUID | None = None

    @property
    def is_admin(self) -> bool:
        """May verify, suspend, operate."""
        return "admin" in self.platform_roles

    @property
    def is_coordinator(self) -> bool:
        """May override and reassign deliveries."""
        return "coordinator" in self.platform_roles or self.is_admin

    def acts_for(self, organization_id: UUID | None) -> bool:
        """Is a member of, or a key of, this organization."""
        return organization_id in self.memberships

    def manages(self, organization_id: UUID | None) -> bool:
        """Is a manager of, or a key of, this organization."""
        return organization_id is not None and self.memberships.get(organization_id) in ("manager", "key")


@dataclass(frozen=True, slots=True)
class Place:
    """Where goods are fetched or brought; an empty `accepts` takes every category, what is on the stop-list excepted."""

    id: UUID
    organization_id: UUID
    roles: tuple[str, ...]
    ibge_city: str
    lat: float
    lon: float
    tz: str
    accepts: tuple[str, ...]
    stop_list: tuple[str, ...] = ()
    people_served: int | None = None

    def takes(self, category: str | None, gtin: str | None = None) -> bool:
        """Accepts goods of this category and product, as far as either is known."""
        if category in self.stop_list or gtin in self.stop_list:
            return False
        return not self.accepts or category is None or category in self.accepts


ACCESS_TABLES = (
    "access_organizations", "access_members", "access_users", "access_sessions_ended", "access_keys", "access_places",
    "access_signing_keys",
)  # fmt: skip

# Effects commute: the newest version counts in whichever order versions come, and what only an older one told is kept.
_ORGANIZATION = """INSERT INTO access_organizations AS o (organization_id, status, kinds, cnpj, version) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (organization_id) DO UPDATE SET version = greatest(o.version, excluded.version),
    status = CASE WHEN o.version < excluded.version THEN excluded.status ELSE o.status END,
    kinds = CASE WHEN o.version < excluded.version THEN coalesce(excluded.kinds, o.kinds) ELSE coalesce(o.kinds, excluded.kinds) END,
    cnpj = CASE WHEN o.version < excluded.version THEN coalesce(excluded.cnpj, o.cnpj) ELSE coalesce(o.cnpj, excluded.cnpj) END
WHERE o.version < excluded.version OR o.kinds IS NULL OR o.cnpj IS NULL"""
_MEMBER = """INSERT INTO access_members (organization_id, user_id, role, version) VALUES ($1, $2, $3, $4)
ON CONFLICT (organization_id, user_id) DO UPDATE SET role = excluded.role, version = excluded.version
WHERE access_members.version < excluded.version"""
_USER = "INSERT INTO access_users (user_id) VALUES ($1) ON CONFLICT DO NOTHING"
_USER_SUSPENDED = """INSERT INTO access_users (user_id, suspended) VALUES ($1, true)
ON CONFLICT (user_id) DO UPDATE SET suspended = true"""
_USER_ROLE = """INSERT INTO access_users (user_id, roles) VALUES ($1, ARRAY[$2::text])
ON CONFLICT (user_id) DO UPDATE SET
    roles = ARRAY(SELECT DISTINCT r FROM unnest(access_users.roles || excluded.roles) AS r ORDER BY r)"""
_SESSION_ENDED = "INSERT INTO access_sessions_ended (session_id) VALUES ($1) ON CONFLICT DO NOTHING"
_KEY_ISSUED = """INSERT INTO access_keys
    (api_key_id, key_sha256, organization_id, env, scopes, cnpjs, rate_per_minute, expires_at, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (api_key_id) DO UPDATE SET key_sha256 = excluded.key_sha256, organization_id = excluded.organization_id,
    env = excluded.env, scopes = excluded.scopes, cnpjs = excluded.cnpjs,
    rate_per_minute = excluded.rate_per_minute, expires_at = excluded.expires_at, version = excluded.version
WHERE access_keys.version < excluded.version"""
_KEY_REVOKED = """INSERT INTO access_keys (api_key_id, organization_id, revoked) VALUES ($1, $2, true)
ON CONFLICT (api_key_id) DO UPDATE SET revoked = true"""
_PLACE = """INSERT INTO access_places
    (place_id, organization_id, roles, ibge_city, lat, lon, tz, accepts, stop_list, people_served, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (place_id) DO UPDATE SET roles = excluded.roles, ibge_city = excluded.ibge_city, lat = excluded.lat,
    lon = excluded.lon, tz = excluded.tz, accepts = excluded.accepts, stop_list = excluded.stop_list,
    people_served = excluded.people_served, version = excluded.version
WHERE access_places.version < excluded.version"""
_SIGNING_KEY = "INSERT INTO access_signing_keys (key_id, jwk) VALUES ($1, $2) ON CONFLICT DO NOTHING"

ACCESS_EVENTS: tuple[type[Event], ...] = (
    OrganizationRegistered, OrganizationVerified, OrganizationSuspended, OrganizationClosed, MembershipGranted,
    MembershipRevoked, UserRegistered, UserSuspended, PlatformRoleGranted, UserSessionEnded, ApiKeyIssued, ApiKeyRevoked,
    SigningKeyPublished, PlaceAdded, PlaceChanged,
)  # fmt: skip


def project_access(tx: Transaction, event: Event, version: int) -> None:
    """Queue what one identity event means for access; other events mean nothing."""
    match event:
        case OrganizationRegistered() | OrganizationVerified():
            status = "registered" if isinstance(event, OrganizationRegistered) else "verified"
            tx.write(_ORGANIZATION, event.organization_id, status, list(event.kinds), event.cnpj, version)
        case OrganizationSuspended():
            tx.write(_ORGANIZATION, event.organization_id, "suspended", None, None, version)
        case OrganizationClosed():
            tx.write(_ORGANIZATION, event.organization_id, "closed", None, None, version)
        case MembershipGranted():
            tx.write(_MEMBER, event.organization_id, event.user_id, event.role, version)
        case MembershipRevoked():
            tx.write(_MEMBER, event.organization_id, event.user_id, None, version)
        case UserRegistered():
            tx.write(_USER, event.user_id)
        case UserSuspended():
            tx.write(_USER_SUSPENDED, event.user_id)
        case PlatformRoleGranted():
            tx.write(_USER_ROLE, event.user_id, event.role)
        case UserSessionEnded():
            tx.write(_SESSION_ENDED, event.session_id)
        case ApiKeyIssued():
            tx.write(
                _KEY_ISSUED, event.api_key_id, event.key_sha256, event.organization_id, event.env, event.scopes,
                event.cnpjs, event.rate_per_minute, event.expires_at, version,
            )  # fmt: skip
        case ApiKeyRevoked():
            tx.write(_KEY_REVOKED, event.api_key_id, event.organization_id)
        case PlaceAdded() | PlaceChanged():
            tx.write(
                _PLACE, event.place_id, event.organization_id, event.roles, event.ibge_city, event.lat, event.lon,
                event.tz, event.accepts, event.stop_list, event.people_served, version,
            )  # fmt: skip
        case SigningKeyPublished():
            tx.write(_SIGNING_KEY, event.key_id, event.jwk)
        case _:
            return


_BY_KEY = """SELECT api_key_id, organization_id, env, scopes, cnpjs, rate_per_minute, expires_at FROM access_keys
WHERE key_sha256 = $1 AND NOT revoked"""
_BY_USER = """SELECT u.roles,
    (SELECT jsonb_object_agg(m.organization_id, m.role) FROM access_members m
     WHERE m.user_id = u.user_id AND m.role IS NOT NULL) AS memberships
FROM access_users u WHERE u.user_id = $1 AND NOT u.suspended
AND NOT EXISTS (SELECT 1 FROM access_sessions_ended s WHERE s.session_id = $2)"""

_BY_PLACE = """SELECT place_id, organization_id, roles, ibge_city, lat, lon, tz, accepts, stop_list, people_served
FROM access_places WHERE place_id = $1"""

Reading = Callable[[], Transaction]


class Directory:
    """Principals by key or session, cached for `ttl_s`: revocation is seen at most the event's lag plus `ttl_s` later."""

    def __init__(self, reading: Reading, *, ttl_s: float) -> None:
        self._reading = reading
        self._ttl_s = ttl_s
        self._cache: OrderedDict[object, tuple[float, Any]] = OrderedDict()

    def within(self, tx: Transaction) -> Directory:
        """The same directory and cache, read through `tx`: a command that holds locks must not wait for a connection."""
        same = Directory(lambda: tx, ttl_s=self._ttl_s)
        same._cache = self._cache
        return same

    async def by_key(self, key_sha256: str) -> Principal | None:
        """The principal of an active, unexpired key."""
        found: tuple[Principal, datetime | None] | None = await self._cached(key_sha256, self._load_key)
        if found is None or (found[1] is not None and found[1] <= datetime.now(UTC)):
            return None
        return found[0]

    async def by_session(self, user_id: UUID, session_id: UUID) -> Principal | None:
        """The principal of a person whose session still counts."""

        async def load(_: Any) -> Principal | None:
            row = await self._reading().fetchrow(_BY_USER, user_id, session_id)
            if row is None:
                return None
            memberships = {UUID(organization): role for organization, role in (row["memberships"] or {}).items()}
            return Principal(user_id, "person", memberships, frozenset(row["roles"]), session_id=session_id)

        principal: Principal | None = await self._cached((user_id, session_id), load)
        return principal

    async def organization_status(self, organization_id: UUID) -> OrganizationStatus | None:
        """How an organization stands, or None when it is not known (yet)."""

        async def load(_: Any) -> OrganizationStatus | None:
            status: OrganizationStatus | None = await self._reading().fetchval(
                "SELECT status FROM access_organizations WHERE organization_id = $1", organization_id
            )
            return status

        status: OrganizationStatus | None = await self._cached(("organization", organization_id), load)
        return status

    async def place(self, place_id: UUID) -> Place | None:
        """A place, or None when it is not known (yet)."""

        async def load(_: Any) -> Place | None:
            row = await self._reading().fetchrow(_BY_PLACE, place_id)
            return None if row is None else _place(row)

        place: Place | None = await self._cached(("place", place_id), load)
        return place

    async def signing_key(self, key_id: str) -> dict[str, str] | None:
        """The public JWK of a token key."""

        async def load(_: Any) -> dict[str, str] | None:
            jwk: dict[str, str] | None = await self._reading().fetchval(
                "SELECT jwk FROM access_signing_keys WHERE key_id = $1", key_id
            )
            return jwk

        jwk: dict[str, str] | None = await self._cached(("jwk", key_id), load)
        return jwk

    async def _load_key(self, key_sha256: Any) -> tuple[Principal, datetime | None] | None:
        row = await self._reading().fetchrow(_BY_KEY, key_sha256)
        return None if row is None else (_key_principal(row), row["expires_at"])

    async def _cached(self, key: Any, load: Callable[[Any], Awaitable[Any]]) -> Any:
        entry = self._cache.get(key)
        if entry is not None:
            if entry[0] > time.monotonic():
                return entry[1]
            self._cache[key] = (time.monotonic() + REFRESH_S, entry[1])  # one asks again; the others need not
        value = await load(key)
        if value is not None and self._ttl_s:
            self._cache[key] = (time.monotonic() + self._ttl_s, value)
            self._cache.move_to_end(key)
            if len(self._cache) > CACHED_MAX:
                self._cache.popitem(last=False)
        elif value is None:
            self._cache.pop(key, None)
        return value


def _place(row: Row) -> Place:
    return Place(
        row["place_id"], row["organization_id"], tuple(row["roles"]), row["ibge_city"], row["lat"], row["lon"], row["tz"],
        tuple(row["accepts"]), tuple(row["stop_list"]), row["people_served"],
    )  # fmt: skip


def _key_principal(row: Row) -> Principal:
    organization_id, cnpjs = row["organization_id"], tuple(row["cnpjs"])
    if row["env"] == "test":  # companies are not the sandbox's: it neither changes nor sees their catalogues
        organization_id, cnpjs = sandbox_of(organization_id), ()
    return Principal(
        id=row["api_key_id"],
        kind="key",
        memberships={organization_id: "key"},
        scopes=frozenset(row["scopes"]),
        rate_per_minute=row["rate_per_minute"],
        cnpjs=cnpjs,
    )


def sandbox_of(organization_id: UUID) -> UUID:
    """The tenant that an organization's test keys act for; it owns nothing of the live one."""
    return uuid5(organization_id, "sandbox")
