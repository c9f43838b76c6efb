"""People: signing up, oneself, and what admins decide about others."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from chassis.access import Principal
from chassis.routing import Admin, Now, Person, Tx, api_router, idempotent_by
from chassis.wire import Body, Integer, Latitude, Longitude, Name, UtcMoment, View
from contracts.values import Locale, MembershipRole, PlatformRole, Vehicle
from fastapi import Response
from pydantic import Field

from identity import domain, queries
from identity.api.inputs import ANONYMOUS, Email, NewPassword, OfPasswords
from identity.usecases import users

router = api_router("users")


class UserIn(Body):
    """Who signs up."""

    email: Email
    password: NewPassword
    display_name: Name
    locale: Locale = "pt-BR"


class RegisteredOut(View):
    """Who has signed up."""

    id: UUID
    email: str
    display_name: str
    locale: Locale
    registered_at: UtcMoment


class RoleIn(Body):
    """A platform role to grant."""

    role: PlatformRole


class UserOut(View):
    """What admins see of an account."""

    id: UUID
    suspended: bool
    roles: list[PlatformRole]


class VolunteerProfileIn(Body):
    """What you offer to carry, and from about where: the point is kept to a hundredth of a degree."""

    vehicle: Vehicle
    capacity_g: Annotated[Integer, Field(ge=0, le=10**9)]
    lat: Latitude
    lon: Longitude
    radius_m: Annotated[Integer, Field(ge=100, le=500_000)]


class VolunteerProfileOut(View):
    """What you offer; the point is coarse."""

    vehicle: Vehicle
    capacity_g: int
    lat: float
    lon: float
    radius_m: int


class MembershipOut(View):
    """What you may do for an organization."""

    organization_id: UUID
    role: MembershipRole


class MeOut(View):
    """You, and what you may do."""

    id: UUID
    email: str
    display_name: str
    locale: Locale
    roles: list[PlatformRole]
    memberships: list[MembershipOut]
    volunteer_profile: VolunteerProfileOut | None
    registered_at: UtcMoment


@router.post("/v1/users", status_code=201, operation_id="register_user", openapi_extra=ANONYMOUS)
@idempotent_by("email")
async def register_user(body: UserIn, tx: Tx, passwords: OfPasswords, now: Now) -> RegisteredOut:
    """Sign up; then sign in at `/v1/auth/login`."""
    user = await users.register(
        tx,
        passwords,
        email=body.email,
        password=body.password,
        display_name=body.display_name,
        locale=domain.Locale(body.locale),
        now=now,
    )
    return RegisteredOut(
        id=user.id, email=body.email, display_name=body.display_name, locale=body.locale, registered_at=now
    )


@router.get("/v1/me", operation_id="get_me")
async def get_me(tx: Tx, principal: Person, response: Response) -> MeOut:
    """You, your organizations and roles, and what you offer to carry."""
    response.headers["Cache-Control"] = "no-store"
    row = await queries.me(tx, principal.id)
    return MeOut.model_validate(
        {
            **dict(row),
            "roles": sorted(principal.platform_roles),
            "memberships": _memberships(principal),
            "volunteer_profile": row["volunteer"],
        }
    )


def _memberships(principal: Principal) -> list[dict[str, object]]:
    return [{"organization_id": id_, "role": role} for id_, role in sorted(principal.memberships.items())]


@router.put("/v1/me/volunteer-profile", operation_id="put_volunteer_profile")
async def put_volunteer_profile(body: VolunteerProfileIn, tx: Tx, principal: Person, now: Now) -> VolunteerProfileOut:
    """Offer to carry, or change what you offer."""
    profile = domain.VolunteerProfile.near_home(
        vehicle=domain.Vehicle(body.vehicle),
        capacity_g=body.capacity_g,
        lat=body.lat,
        lon=body.lon,
        radius_m=body.radius_m,
    )
    user = await users.offer_to_carry(tx, principal, profile=profile, now=now)
    return VolunteerProfileOut.model_validate(user.volunteer)


@router.post("/v1/users/{user_id}/roles", operation_id="grant_platform_role")
async def grant_platform_role(user_id: UUID, body: RoleIn, tx: Tx, admin: Admin, now: Now) -> UserOut:
    """Give a person a platform role (admins)."""
    role = domain.PlatformRole(body.role)
    return UserOut.model_validate(await users.grant_role(tx, user_id, role=role, now=now))


@router.post("/v1/users/{user_id}/suspend", operation_id="suspend_user")
async def suspend_user(user_id: UUID, tx: Tx, admin: Admin, now: Now) -> UserOut:
    """End a person's access and every session (admins)."""
    return UserOut.model_validate(await users.suspend(tx, admin, user_id, now=now))
