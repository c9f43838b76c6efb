"""Goods on the road that did not arrive as planned."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from chassis.access import Directory

from deliveries.domain import Delivery, LineId, OrganizationId, PlaceId
from deliveries.repository import known_batches
from deliveries.usecases.asking import Asked, carried, require_member, seen
from deliveries.usecases.plans import receiving_place, require_receiving, require_taken
from deliveries.usecases.saving import save


async def refuse(asked: Asked, *, reason: str) -> Delivery:
    """The receiver's person, or the volunteer at the door, says that nothing is taken."""
    delivery = await seen(asked)
    if asked.principal.id != delivery.volunteer_id:
        require_member(
            asked.principal, [delivery.receiving_organization_id], "the receiver's members and the volunteer"
        )
    delivery.refuse(reason=reason, now=asked.now)
    return _saved(asked, delivery)


async def reroute(asked: Asked, *, place_id: UUID) -> Delivery:
    """The volunteer carries what is in hand to another place."""
    delivery = await carried(asked)
    delivery.require("reroute")
    directory = Directory(lambda: asked.tx, ttl_s=0)  # the command's own connection: a rerun holds one already
    place = await receiving_place(directory, asked.principal, place_id)
    await require_receiving(directory, place)
    carried_on = [line.batch_id for line in delivery.lines.values() if line.in_hand]
    require_taken(place, (await known_batches(asked.tx, carried_on)).values())
    delivery.reroute(
        organization_id=OrganizationId(place.organization_id),
        place_id=PlaceId(place.id),
        accepts=place.accepts or None,
        now=asked.now,
    )
    return _saved(asked, delivery)


async def discard(asked: Asked, *, reason: str) -> Delivery:
    """The volunteer throws away what is in hand."""
    delivery = await carried(asked)
    delivery.discard(reason=reason, now=asked.now)
    return _saved(asked, delivery)


async def lose(asked: Asked, *, lost: Mapping[LineId, int], reason: str) -> Delivery:
    """The volunteer lost some of what is in hand."""
    delivery = await carried(asked)
    delivery.lose(lost, reason=reason, now=asked.now)
    return _saved(asked, delivery)


def _saved(asked: Asked, delivery: Delivery) -> Delivery:
    return save(asked.tx, delivery, min_handling=asked.policy.min_handling, now=asked.now)
