"""The words of identity: ids, states, roles, and the values aggregates are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType
from uuid import UUID

OrganizationId = NewType("OrganizationId", UUID)
PlaceId = NewType("PlaceId", UUID)
UserId = NewType("UserId", UUID)
SessionId = NewType("SessionId", UUID)
ApiKeyId = NewType("ApiKeyId", UUID)
SigningKeyId = NewType("SigningKeyId", UUID)

NO_ORGANIZATION = OrganizationId(UUID(int=0))  # what an aggregate without events belongs to
HOME_DECIMALS = 2  # a hundredth of a degree is about 1 km: a neighbourhood, not a door


class OrganizationStatus(StrEnum):
    """How an organization stands; only a verified one is public."""

    REGISTERED = "registered"
    VERIFIED = "verified"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class OrganizationKind(StrEnum):
    """What an organization does; it may do several things."""

    PROVIDER = "provider"
    RECEIVER = "receiver"
    KITCHEN = "kitchen"
    DONOR = "donor"
    PARTNER = "partner"


class MembershipRole(StrEnum):
    """What a member may do: staff act, managers decide."""

    MANAGER = "manager"
    STAFF = "staff"


class PlatformRole(StrEnum):
    """What a person may do for the whole platform."""

    ADMIN = "admin"
    COORDINATOR = "coordinator"


class PlaceRole(StrEnum):
    """What happens at a place."""

    PICKUP = "pickup"
    RECEIVING = "receiving"


class Locale(StrEnum):
    """The languages people are written to in."""

    PT_BR = "pt-BR"
    EN = "en"


class Vehicle(StrEnum):
    """How a volunteer carries."""

    FOOT = "foot"
    BIKE = "bike"
    MOTORBIKE = "motorbike"
    CAR = "car"
    VAN = "van"
    TRUCK = "truck"


class KeyEnvironment(StrEnum):
    """Whether a key acts for the organization or for its sandbox."""

    LIVE = "live"
    TEST = "test"


class ApiKeyStatus(StrEnum):
    """Whether a key may act; that its time is up follows from `expires_at` and needs no event."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceDetails:
    """What an organization says of a place; an empty `accepts` takes every category, what is on the stop-list excepted."""

    name: str
    roles: tuple[PlaceRole, ...]
    address: str
    ibge_city: str
    lat: float
    lon: float
    tz: str
    accepts: tuple[str, ...]
    cep: str | None = None
    opening_hours: str | None = None
    people_served: int | None = None
    stop_list: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolunteerProfile:
    """What a person offers to carry, and about where from."""

    vehicle: Vehicle
    capacity_g: int
    lat: float
    lon: float
    radius_m: int

    @classmethod
    def near_home(cls, *, vehicle: Vehicle, capacity_g: int, lat: float, lon: float, radius_m: int) -> VolunteerProfile:
        """The profile with its point made coarse: the exact one is kept nowhere."""
        home = round(lat, HOME_DECIMALS), round(lon, HOME_DECIMALS)
        return cls(vehicle=vehicle, capacity_g=capacity_g, lat=home[0], lon=home[1], radius_m=radius_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySecret:
    """What is kept of a key: enough to recognise it, not to use it."""

    prefix: str
    sha256: str
