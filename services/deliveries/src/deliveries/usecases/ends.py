"""Ends without goods."""

from __future__ import annotations

from deliveries.domain import Delivery
from deliveries.usecases.asking import Asked, carried, require_member, seen
from deliveries.usecases.saving import save


async def cancel(asked: Asked, *, reason: str) -> Delivery:
    """Who planned it, the provider or a coordinator calls it off before the pickup."""
    delivery = await seen(asked)
    if asked.principal.id != delivery.planned_by and not asked.principal.is_coordinator:
        require_member(asked.principal, delivery.provider_ids, "who planned it, the provider and coordinators")
    delivery.cancel(reason=reason)
    return save(asked.tx, delivery, min_handling=asked.policy.min_handling, now=asked.now)


async def fail(asked: Asked, *, reason: str) -> Delivery:
    """The volunteer came and there was nothing to collect."""
    delivery = await carried(asked)
    delivery.fail(reason=reason)
    return save(asked.tx, delivery, min_handling=asked.policy.min_handling, now=asked.now)
