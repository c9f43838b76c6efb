"""What identity's own events tell the other services: ids, roles and states, never who a person is."""

from __future__ import annotations

from typing import Any

from chassis.access import project_access
from chassis.database import Transaction
from chassis.outbox import Announcement
from contracts.events import identity as public

from identity.domain import ApiKey, Organization, Place, SigningKey, User


def of_organization(organization: Organization, event: Any) -> Announcement:
    """An organization's fact, owned by it."""
    fields: dict[str, Any] = {
        "organization_id": organization.id,
        "cnpj": organization.cnpj,
        "kinds": [kind.value for kind in organization.kinds],
    }
    for name in ("user_id", "role"):
        if hasattr(event, name):
            fields[name] = getattr(event, name)
    kind = getattr(public, type(event).__name__)
    return Announcement(kind.model_validate(fields), organization_id=organization.id)


def of_place(place: Place, event: Any) -> Announcement:
    """The place as it is now, owned by its organization; its name and address stay here."""
    details = place.details
    kind = getattr(public, type(event).__name__)
    fact = kind(
        place_id=place.id,
        organization_id=place.organization_id,
        roles=[role.value for role in details.roles],
        ibge_city=details.ibge_city,
        lat=details.lat,
        lon=details.lon,
        tz=details.tz,
        accepts=list(details.accepts),
        stop_list=list(details.stop_list),
        people_served=details.people_served,
    )
    return Announcement(fact, organization_id=place.organization_id)


def of_user(user: User, event: Any) -> Announcement:
    """A person's fact, by id only."""
    kind = getattr(public, type(event).__name__)
    offered = {name: getattr(user.volunteer, name) for name in _OFFERED} if user.volunteer else {}
    told = {name: getattr(event, name) for name in ("role", "session_id") if hasattr(event, name)}
    return Announcement(kind.model_validate({"user_id": user.id, "locale": user.locale.value, **offered, **told}))


_OFFERED = ("vehicle", "capacity_g", "lat", "lon", "radius_m")


def of_api_key(key: ApiKey, event: Any) -> Announcement:
    """A key's fact, owned by its organization; a new secret is a key issued again under its id."""
    if type(event).__name__ == "ApiKeyRevoked":
        revoked = public.ApiKeyRevoked(api_key_id=key.id, organization_id=key.organization_id)
        return Announcement(revoked, organization_id=key.organization_id)
    issued = public.ApiKeyIssued(
        api_key_id=key.id,
        organization_id=key.organization_id,
        key_sha256=key.secret.sha256,
        env=key.env.value,
        scopes=list(key.scopes),
        cnpjs=list(key.cnpjs),
        rate_per_minute=key.rate_per_minute,
        expires_at=key.expires_at,
    )
    return Announcement(issued, organization_id=key.organization_id)


def of_signing_key(key: SigningKey, event: Any) -> Announcement:
    """The public half; its members in one order, so that told again it is the same bytes."""
    return Announcement(public.SigningKeyPublished(key_id=key.key_id, jwk=dict(sorted(key.jwk.items()))))


def into_directory(tx: Transaction, announcement: Announcement, version: int) -> None:
    """Identity's own directory is right in the transaction of the fact; the other services follow by event."""
    project_access(tx, announcement.event, version)
