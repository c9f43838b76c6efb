"""Who carries it: claims have one winner, and no volunteer has two at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from chassis.kernel import new_id

from deliveries import queries
from deliveries.domain import (
    ClaimOverlaps,
    Delivery,
    DeliveryId,
    DeliveryNotFound,
    LineId,
    Part,
    UserId,
    VolunteerNotActive,
    require_other_person,
)
from deliveries.repository import DELIVERIES, claims_of, locked_volunteer
from deliveries.usecases.asking import (
    Asked,
    NotYourDelivery,
    carried,
    coordinated,
    fresh,
    require_member,
    seen,
    under_locks,
)
from deliveries.usecases.custody import Custody
from deliveries.usecases.saving import save

DAY = timedelta(hours=24)


async def claim(asked: Asked, custody: Custody, *, taken: Mapping[LineId, int] | None = None) -> Delivery:
    """Take an open delivery on, or so much of its lines; whoever comes second finds it claimed, or the rest of it open."""
    under_locks(asked)
    volunteer = await locked_volunteer(asked.tx, asked.principal.id)
    delivery = await _once_open(asked)
    overlapping, claims_today = await claims_of(
        asked.tx,
        asked.principal.id,
        besides=delivery.id,
        span=delivery.span_of_claim(asked.now),
        since=asked.now - DAY,
    )
    rest = delivery.claim(
        asked.user_id,
        now=asked.now,
        min_handling=asked.policy.min_handling,
        active=volunteer is not None and volunteer.active,
        vehicle_fits=volunteer is not None and volunteer.carries(_weight_g(delivery, taken)),
        overlapping=overlapping,
        claims_today=claims_today,
        daily_cap=asked.policy.claims_per_day_max,
        part=None if taken is None else _part(delivery, taken),
    )
    if rest is not None:
        custody.begin(asked.tx, DeliveryId(rest.id))
        _saved(asked, rest)
    return _saved(asked, delivery)


def _weight_g(delivery: Delivery, taken: Mapping[LineId, int] | None) -> int:
    return delivery.weight_g if taken is None else delivery.weight_g_of(taken)


def _part(delivery: Delivery, taken: Mapping[LineId, int]) -> Part:
    sibling_line_ids = {line_id: LineId(new_id()) for line_id in delivery.lines}
    return Part(taken=taken, sibling_id=DeliveryId(new_id()), sibling_line_ids=sibling_line_ids)


async def join_waiting_list(asked: Asked) -> Delivery:
    """Be told when the claim is released; also for who does not see it now, but could when it was open."""
    volunteer = await locked_volunteer(asked.tx, asked.principal.id)
    delivery = await _once_open(asked)
    delivery.join_waiting_list(asked.user_id, active=volunteer is not None and volunteer.active)
    return _saved(asked, delivery)


async def leave_waiting_list(asked: Asked) -> Delivery:
    """Wait no longer; who does not wait may ask so too."""
    delivery = await _once_open(asked)
    delivery.leave_waiting_list(asked.user_id)
    return _saved(asked, delivery)


async def reassign(asked: Asked, *, volunteer_id: UUID, reason: str) -> Delivery:
    """A coordinator gives it to an active volunteer who is free at that time, whatever the vehicle and the day's cap."""
    under_locks(asked)
    volunteer = await locked_volunteer(asked.tx, volunteer_id)
    delivery = await coordinated(asked)
    delivery.require("reassign")
    if volunteer is None or not volunteer.active:
        raise VolunteerNotActive
    span = delivery.span_of_claim(asked.now)
    overlapping, _ = await claims_of(asked.tx, volunteer_id, besides=delivery.id, span=span, since=asked.now)
    if overlapping:
        raise ClaimOverlaps
    delivery.reassign(UserId(volunteer_id), reason=reason, now=asked.now)
    return _saved(asked, delivery)


async def confirm(asked: Asked) -> Delivery:
    """The volunteer keeps a claim made long before."""
    delivery = await carried(asked)
    delivery.confirm()
    return _saved(asked, delivery)


async def release(asked: Asked, *, reason: str) -> Delivery:
    """The volunteer gives the claim back."""
    delivery = await carried(asked)
    delivery.release(reason=reason)
    return _saved(asked, delivery)


async def no_show(asked: Asked) -> Delivery:
    """Somebody of the organizations, or a coordinator, waited in vain."""
    delivery = await seen(asked)
    if not asked.principal.is_coordinator:
        require_member(asked.principal, delivery.party_ids, "the provider's and the receiver's members")
    delivery.require("no-show")
    require_other_person(asked.user_id, delivery.volunteer_id)
    delivery.no_show(reported_by=asked.user_id, now=asked.now)
    return _saved(asked, delivery)


async def contest_no_show(asked: Asked, *, reason: str) -> Delivery:
    """The volunteer who was reported says otherwise, also when somebody else carries it by now."""
    delivery = await DELIVERIES.get(asked.tx, asked.delivery_id)
    reported = any(each.volunteer_id == asked.principal.id for each in delivery.no_shows)
    if not reported and not queries.is_visible(asked.principal, delivery):
        raise DeliveryNotFound
    if not reported:
        raise NotYourDelivery("only a volunteer who was reported may do this")
    fresh(asked, delivery).contest_no_show(asked.user_id, reason=reason)
    return _saved(asked, delivery)


async def _once_open(asked: Asked) -> Delivery:
    """What was open once was seen by everybody: who comes late is told that it is claimed, not that it never was."""
    delivery = await DELIVERIES.get(asked.tx, asked.delivery_id)
    if delivery.opened_at is None and not queries.is_visible(asked.principal, delivery):
        raise DeliveryNotFound
    return fresh(asked, delivery)


def _saved(asked: Asked, delivery: Delivery) -> Delivery:
    return save(asked.tx, delivery, min_handling=asked.policy.min_handling, now=asked.now)
