"""Places of organizations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import new_id

from identity.domain import NotAManager, OrganizationId, Place, PlaceDetails, PlaceId, PlaceNotFound
from identity.repository import ORGANIZATIONS, PLACES
from identity.usecases.organizations import managed


async def add(
    tx: Transaction, principal: Principal, *, organization_id: UUID, details: PlaceDetails, now: datetime
) -> Place:
    """Add a place to an organization that the caller manages."""
    organization = await managed(tx, principal, organization_id)
    organization.require_open()
    place = Place.add(PlaceId(new_id()), organization_id=OrganizationId(organization_id), details=details, now=now)
    PLACES.save(tx, place, now=now)
    return place


async def change(
    tx: Transaction,
    principal: Principal,
    place_id: UUID,
    *,
    changes: dict[str, Any],
    now: datetime,
    if_match: int | None,
) -> Place:
    """Change some details of a place; its organization's managers may."""
    place = await PLACES.get(tx, place_id)
    organization = await ORGANIZATIONS.get(tx, place.organization_id)
    if not (organization.is_public or principal.acts_for(organization.id) or principal.is_coordinator):
        raise PlaceNotFound
    if not principal.manages(organization.id):
        raise NotAManager("only the organization's managers do this")
    place.expect_version(if_match)
    organization.require_open()
    place.change(changes)
    PLACES.save(tx, place, now=now)
    return place
