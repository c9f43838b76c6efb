"""Callers for tests: organizations, places, people with tokens and partners with keys, written into a directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from contracts.envelope import Event
from contracts.events import identity as events
from joserfc import jwt
from joserfc.jwk import ECKey

from chassis.access import project_access
from chassis.auth import ALGORITHMS, AUDIENCE, key_digest, make_key
from chassis.database import Database
from chassis.kernel import new_id

ISSUER = "https://vouajudar.org"
SCOPES = (
    "batches:read", "batches:write", "deliveries:read", "deliveries:write", "requests:read", "requests:write",
    "catalogue:read", "catalogue:write", "webhooks:manage", "analytics:read",
)  # fmt: skip


@dataclass(frozen=True)
class Caller:
    """Somebody with credentials: `headers` go with each request."""

    id: UUID
    headers: dict[str, str]
    session_id: UUID | None = None


class Callers:
    """Makes callers known to services, as identity's events would; `databases` are theirs."""

    def __init__(self, *databases: Database) -> None:
        self._databases = databases
        self._signing_key = ECKey.generate_key("P-256", parameters={"kid": f"test-{uuid4().hex[:8]}"})
        self._version = 0
        self.known: list[tuple[Event, int]] = []

    async def know(self, *facts: Event) -> None:
        """Project identity's facts, in order."""
        for fact in facts:
            self._version += 1
            self.known.append((fact, self._version))
            for database in self._databases:
                async with database.command() as tx:
                    project_access(tx, fact, self._version)

    async def organization(self, *, kinds: Sequence[str] = ("provider", "receiver"), verified: bool = True) -> UUID:
        """An organization, verified unless told otherwise."""
        organization_id = new_id()
        kind = events.OrganizationVerified if verified else events.OrganizationRegistered
        await self.know(kind(organization_id=organization_id, cnpj="11222333000181", kinds=list(kinds)))
        return organization_id

    async def place(
        self, organization_id: UUID, *, roles: Sequence[str] = ("pickup", "receiving"), lat: float = -30.03,
        lon: float = -51.23, accepts: Sequence[str] = (), ibge_city: str = "4314902", stop_list: Sequence[str] = (),
        people_served: int | None = None,
    ) -> UUID:  # fmt: skip
        """A place of an organization, in Porto Alegre unless told otherwise."""
        place_id = new_id()
        await self.know(
            events.PlaceAdded(
                place_id=place_id, organization_id=organization_id, roles=list(roles), ibge_city=ibge_city, lat=lat,
                lon=lon, tz="America/Sao_Paulo", accepts=list(accepts), stop_list=list(stop_list), people_served=people_served,
            )
        )  # fmt: skip
        return place_id

    async def person(
        self,
        *,
        member_of: UUID | None = None,
        role: str = "manager",
        platform_role: str | None = None,
        lasts_s: int = 600,
    ) -> Caller:
        """A person with a token."""
        user_id, session_id = new_id(), new_id()
        await self.know(
            events.SigningKeyPublished(key_id=self._key_id, jwk=self._public_jwk()),
            events.UserRegistered(user_id=user_id, locale="pt-BR"),
        )
        if member_of is not None:
            await self.know(events.MembershipGranted(organization_id=member_of, user_id=user_id, role=role))
        if platform_role is not None:
            await self.know(events.PlatformRoleGranted(user_id=user_id, role=platform_role))
        token = self.token(user_id, session_id, lasts_s=lasts_s)
        return Caller(user_id, {"Authorization": f"Bearer {token}"}, session_id)

    async def partner(
        self, organization_id: UUID, *, scopes: Sequence[str] = SCOPES, rate_per_minute: int | None = None,
        cnpjs: Sequence[str] = (), expires_in: timedelta | None = None, env: Literal["live", "test"] = "live",
    ) -> Caller:  # fmt: skip
        """A partner with an API key."""
        key, api_key_id = make_key(env), new_id()
        await self.know(
            events.ApiKeyIssued(
                api_key_id=api_key_id, organization_id=organization_id, key_sha256=key_digest(key), env=env,
                scopes=list(scopes), cnpjs=list(cnpjs), rate_per_minute=rate_per_minute,
                expires_at=None if expires_in is None else datetime.now(UTC) + expires_in,
            )
        )  # fmt: skip
        return Caller(api_key_id, {"X-API-Key": key})

    def token(self, user_id: UUID, session_id: UUID, *, lasts_s: int = 600) -> str:
        """An access token as identity signs it."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "iat": now,
            "exp": now + lasts_s,
        }
        header = {"alg": ALGORITHMS[0], "typ": "at+jwt", "kid": self._key_id}
        return jwt.encode(header, claims, self._signing_key, algorithms=ALGORITHMS)

    @property
    def _key_id(self) -> str:
        return str(self._signing_key.kid)

    def _public_jwk(self) -> dict[str, str]:
        return {
            name: str(value)
            for name, value in self._signing_key.as_dict(private=False).items()
            if isinstance(value, str)
        }
