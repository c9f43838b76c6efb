"""The API key: what a partner's system may do for an organization."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate, Invalid

from identity.domain import facts, refusals
from identity.domain.terms import NO_ORGANIZATION, ApiKeyId, ApiKeyStatus, KeyEnvironment, KeySecret, OrganizationId

_NO_SECRET = KeySecret(prefix="", sha256="")
ACTIVE_KEYS_MAX = 100  # per organization; closing it revokes them all in one transaction


@dataclass
class ApiKey(Aggregate):
    """`active → revoked`; expired once its time is up. Only a digest of the key itself is known."""

    organization_id: OrganizationId = NO_ORGANIZATION
    name: str = ""
    env: KeyEnvironment = KeyEnvironment.TEST
    scopes: tuple[str, ...] = ()
    cnpjs: tuple[str, ...] = ()
    rate_per_minute: int | None = None
    expires_at: datetime | None = None
    secret: KeySecret = _NO_SECRET
    status: ApiKeyStatus = ApiKeyStatus.ACTIVE
    issued_at: datetime | None = None

    @classmethod
    def issue(
        cls,
        api_key_id: ApiKeyId,
        *,
        organization_id: OrganizationId,
        name: str,
        env: KeyEnvironment,
        scopes: tuple[str, ...],
        cnpjs: tuple[str, ...],
        rate_per_minute: int | None,
        expires_at: datetime | None,
        secret: KeySecret,
        now: datetime,
    ) -> Self:
        """A key that counts at once, until it expires or is revoked."""
        if expires_at is not None and expires_at <= now:
            raise Invalid("a key expires in the future or never", pointer="/expires_at")
        key = cls(id=api_key_id)
        key.record(
            facts.ApiKeyIssued(
                organization_id=organization_id,
                name=name,
                env=env,
                scopes=scopes,
                cnpjs=cnpjs,
                rate_per_minute=rate_per_minute,
                expires_at=expires_at,
                secret=secret,
                issued_at=now,
            )
        )
        return key

    def is_active(self, *, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.status is ApiKeyStatus.ACTIVE and (self.expires_at is None or now < self.expires_at)

    def rotate(self, secret: KeySecret, *, now: datetime) -> None:
        """Replace the secret; the old one stops counting."""
        if not self.is_active(now=now):
            raise refusals.ApiKeyNotActive
        self.record(facts.ApiKeyRotated(secret=secret))

    def revoke(self) -> None:
        """End the key; twice records nothing."""
        if self.status is ApiKeyStatus.ACTIVE:
            self.record(facts.ApiKeyRevoked())

    def _on_ApiKeyIssued(self, event: facts.ApiKeyIssued) -> None:  # noqa: N802
        self.organization_id = event.organization_id
        self.name, self.env = event.name, event.env
        self.scopes, self.cnpjs = event.scopes, event.cnpjs
        self.rate_per_minute, self.expires_at = event.rate_per_minute, event.expires_at
        self.secret, self.issued_at = event.secret, event.issued_at

    def _on_ApiKeyRotated(self, event: facts.ApiKeyRotated) -> None:  # noqa: N802
        self.secret = event.secret

    def _on_ApiKeyRevoked(self, _: facts.ApiKeyRevoked) -> None:  # noqa: N802
        self.status = ApiKeyStatus.REVOKED
