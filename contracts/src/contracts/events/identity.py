"""Facts that identity publishes: tenants, people (by id only), places, keys."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from contracts.envelope import Event, Moment
from contracts.values import (
    STOPPED_MAX,
    Category,
    Cnpj,
    IbgeCity,
    KeyEnvironment,
    Latitude,
    Locale,
    Longitude,
    MembershipRole,
    OrganizationKind,
    PlaceRole,
    PlatformRole,
    Stopped,
    TimeZone,
    Vehicle,
)


class _OrganizationEvent(Event, abstract=True):
    producer: ClassVar[str] = "identity"
    aggregate: ClassVar[str] = "organization"
    organization_id: UUID


class OrganizationRegistered(_OrganizationEvent):
    """A CNPJ was registered; it may act once it is verified."""

    cnpj: Cnpj
    kinds: list[OrganizationKind]


class OrganizationVerified(_OrganizationEvent):
    """An admin verified the organization, or lifted its suspension."""

    cnpj: Cnpj
    kinds: list[OrganizationKind]


class OrganizationSuspended(_OrganizationEvent):
    """An admin suspended the organization: it is hidden and gets no new work."""


class OrganizationClosed(_OrganizationEvent):
    """The organization left for good."""


class MembershipGranted(_OrganizationEvent):
    """A person may act for the organization in this role (a later grant replaces the role)."""

    user_id: UUID
    role: MembershipRole


class MembershipRevoked(_OrganizationEvent):
    """A person may no longer act for the organization."""

    user_id: UUID


class _PlaceEvent(Event, abstract=True):
    producer: ClassVar[str] = "identity"
    aggregate: ClassVar[str] = "place"
    place_id: UUID
    organization_id: UUID
    roles: list[PlaceRole]
    ibge_city: IbgeCity
    lat: Latitude
    lon: Longitude
    tz: TimeZone
    accepts: list[Category]
    stop_list: list[Stopped] = Field(default_factory=list, max_length=STOPPED_MAX)
    people_served: int | None = Field(default=None, ge=0, le=1_000_000)


class PlaceAdded(_PlaceEvent):
    """An organization added a place; an empty `accepts` takes every category, whatever is on `stop_list` excepted."""


class PlaceChanged(_PlaceEvent):
    """The place as it is now."""


class _UserEvent(Event, abstract=True):
    producer: ClassVar[str] = "identity"
    aggregate: ClassVar[str] = "user"
    user_id: UUID


class UserRegistered(_UserEvent):
    """A person signed up."""

    locale: Locale


class UserSuspended(_UserEvent):
    """A person's access ended; every session is over."""


class PlatformRoleGranted(_UserEvent):
    """An admin gave the person a platform role."""

    role: PlatformRole


class VolunteerProfileChanged(_UserEvent):
    """A person offers to carry; the home point is coarse (about 1 km)."""

    vehicle: Vehicle
    capacity_g: int = Field(ge=0, le=10**9)
    lat: Latitude
    lon: Longitude
    radius_m: int = Field(ge=100, le=500_000)


class UserSessionEnded(_UserEvent):
    """A sign-in ended (logout, or a refresh token used twice): its access tokens count no more."""

    session_id: UUID


class _ApiKeyEvent(Event, abstract=True):
    producer: ClassVar[str] = "identity"
    aggregate: ClassVar[str] = "api_key"
    api_key_id: UUID
    organization_id: UUID


class ApiKeyIssued(_ApiKeyEvent):
    """A key may act for the organization; `key_sha256` is the lower-case hex digest of the whole key."""

    key_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    env: KeyEnvironment
    scopes: list[str]
    cnpjs: list[str]
    rate_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    expires_at: Moment | None = None


class ApiKeyRevoked(_ApiKeyEvent):
    """The key acts no more."""


class SigningKeyPublished(Event):
    """Tokens may now be signed with this key; `jwk` is its public half (RFC 7517)."""

    producer: ClassVar[str] = "identity"
    aggregate: ClassVar[str] = "signing_key"
    key_id: str
    jwk: dict[str, str]
