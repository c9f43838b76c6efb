"""What can have happened. No fact names a person, an e-mail address or a secret: those live in rows that can be erased.

What organizations say of themselves and their places (names, addresses) is theirs, not personal, and is kept in facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from identity.domain.terms import (
    KeyEnvironment,
    KeySecret,
    Locale,
    MembershipRole,
    OrganizationId,
    OrganizationKind,
    PlaceDetails,
    PlatformRole,
    SessionId,
    UserId,
    VolunteerProfile,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationRegistered:
    """Somebody registered a CNPJ."""

    cnpj: str
    legal_name: str
    trade_name: str | None
    kinds: tuple[OrganizationKind, ...]
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationVerified:
    """An admin verified the organization, or lifted its suspension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationSuspended:
    """An admin suspended the organization."""

    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationClosed:
    """The organization left for good."""

    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipGranted:
    """A person may act for the organization in this role."""

    user_id: UserId
    role: MembershipRole


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipRevoked:
    """A person may no longer act for the organization."""

    user_id: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceAdded:
    """An organization added a place."""

    stored_revision: ClassVar[int] = 2

    organization_id: OrganizationId
    details: PlaceDetails
    added_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceChanged:
    """The place as it is now."""

    stored_revision: ClassVar[int] = 2

    details: PlaceDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRegistered:
    """A person signed up."""

    locale: Locale
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSuspended:
    """A person's access ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRoleGranted:
    """An admin gave the person a platform role."""

    role: PlatformRole


@dataclass(frozen=True, slots=True, kw_only=True)
class VolunteerProfileChanged:
    """A person offers to carry."""

    profile: VolunteerProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSessionEnded:
    """A sign-in ended."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyIssued:
    """A key may act for the organization."""

    organization_id: OrganizationId
    name: str
    env: KeyEnvironment
    scopes: tuple[str, ...]
    cnpjs: tuple[str, ...]
    rate_per_minute: int | None
    expires_at: datetime | None
    secret: KeySecret
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRotated:
    """The key has a new secret; the old one counts no more."""

    secret: KeySecret


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRevoked:
    """The key acts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyPublished:
    """Tokens may be signed with this key; `jwk` is its public half."""

    key_id: str
    jwk: dict[str, str]
    published_at: datetime


EVENTS: dict[str, type] = {
    event.__name__: event
    for event in (
        OrganizationRegistered,
        OrganizationVerified,
        OrganizationSuspended,
        OrganizationClosed,
        MembershipGranted,
        MembershipRevoked,
        PlaceAdded,
        PlaceChanged,
        UserRegistered,
        UserSuspended,
        PlatformRoleGranted,
        VolunteerProfileChanged,
        UserSessionEnded,
        ApiKeyIssued,
        ApiKeyRotated,
        ApiKeyRevoked,
        SigningKeyPublished,
    )
}


def _with_stop_list(data: dict[str, Any]) -> dict[str, Any]:
    """Places had no stop-list: they took whatever they accepted."""
    return {**data, "details": {**data["details"], "stop_list": []}}


UPCASTERS = {("PlaceAdded", 1): _with_stop_list, ("PlaceChanged", 1): _with_stop_list}
