"""Custody changes hands: by the code that the taker shows, or by a coordinator's word."""

from __future__ import annotations

from collections.abc import Mapping

from deliveries.domain import Delivery, Dropped, Handshake, LineId, require_other_person
from deliveries.usecases.asking import Asked, carried, coordinated, require_member, seen
from deliveries.usecases.custody import Custody
from deliveries.usecases.saving import save


async def pickup(
    asked: Asked, custody: Custody, *, code: str, picked: Mapping[LineId, int], temperature_dc: int | None
) -> Delivery:
    """The provider's person enters the volunteer's code."""
    delivery = await seen(asked)
    require_member(asked.principal, delivery.provider_ids, "the provider's members")
    delivery.require("pickup")
    require_other_person(asked.user_id, delivery.volunteer_id)
    entered_at = await custody.check(asked, delivery, code, stage=Handshake.PICKUP)
    delivery.pickup(picked, given_by=asked.user_id, now=asked.now, entered_at=entered_at, temperature_dc=temperature_dc)
    return _saved(asked, delivery)


async def dropoff(
    asked: Asked,
    custody: Custody,
    *,
    code: str,
    dropped: Mapping[LineId, Dropped],
    temperature_dc: int | None,
    reason: str,
) -> Delivery:
    """The volunteer enters the receiver's code; `reason` says why anything was rejected."""
    delivery = await carried(asked)
    delivery.require("dropoff")
    entered_at = await custody.check(asked, delivery, code, stage=Handshake.DROPOFF)
    delivery.dropoff(dropped, now=asked.now, entered_at=entered_at, temperature_dc=temperature_dc, reason=reason)
    return _saved(asked, delivery)


async def return_(asked: Asked, custody: Custody, *, code: str, usable: bool) -> Delivery:
    """The volunteer enters the provider's code."""
    delivery = await carried(asked)
    delivery.require("return")
    await custody.check(asked, delivery, code, stage=Handshake.RETURN)
    delivery.return_(now=asked.now, usable=usable)
    return _saved(asked, delivery)


async def override_pickup(
    asked: Asked, *, picked: Mapping[LineId, int], temperature_dc: int | None, reason: str
) -> Delivery:
    """A coordinator vouches for a pickup without a code."""
    delivery = await coordinated(asked)
    delivery.pickup(
        picked, given_by=asked.user_id, now=asked.now, temperature_dc=temperature_dc, override_reason=reason
    )
    return _saved(asked, delivery)


async def override_dropoff(
    asked: Asked, *, dropped: Mapping[LineId, Dropped], temperature_dc: int | None, reason: str
) -> Delivery:
    """A coordinator vouches for a drop-off without a code."""
    delivery = await coordinated(asked)
    delivery.require("dropoff")
    require_other_person(asked.user_id, delivery.volunteer_id)
    delivery.dropoff(dropped, now=asked.now, temperature_dc=temperature_dc, override_reason=reason, reason=reason)
    return _saved(asked, delivery)


async def override_return(asked: Asked, *, usable: bool, reason: str) -> Delivery:
    """A coordinator vouches for a return without a code."""
    delivery = await coordinated(asked)
    delivery.require("return")
    require_other_person(asked.user_id, delivery.volunteer_id)
    delivery.return_(now=asked.now, usable=usable, override_reason=reason)
    return _saved(asked, delivery)


def _saved(asked: Asked, delivery: Delivery) -> Delivery:
    return save(asked.tx, delivery, min_handling=asked.policy.min_handling, now=asked.now)
