"""A command as somebody gives it, and who may give it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, Self
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import ConcurrentUpdate, Forbidden

from deliveries import queries
from deliveries.domain import Delivery, DeliveryNotFound, OrganizationId, UserId
from deliveries.repository import DELIVERIES


class NotYourDelivery(Forbidden):
    """The caller sees the delivery but may not do this to it."""

    slug = "not-your-delivery"


class Limits(Protocol):
    """The settings that a policy is made of."""

    @property
    def min_handling_s(self) -> int: ...
    @property
    def claims_per_day_max(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the settings decide."""

    min_handling: timedelta
    claims_per_day_max: int

    @classmethod
    def of(cls, settings: Limits) -> Self:
        """The policy of these settings."""
        min_handling = timedelta(seconds=settings.min_handling_s)
        return cls(min_handling=min_handling, claims_per_day_max=settings.claims_per_day_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command about one delivery: who gives it, when, and the version they have in mind.

    `client_time` is when an app that had no network says it was given; None when it comes at once.
    """

    tx: Transaction
    principal: Principal
    delivery_id: UUID
    now: datetime
    if_match: int | None
    policy: Policy
    client_time: datetime | None = None

    @property
    def user_id(self) -> UserId:
        """The caller as the domain knows people."""
        return UserId(self.principal.id)


async def seen(asked: Asked) -> Delivery:
    """The delivery, when the caller may see it."""
    delivery = await DELIVERIES.get(asked.tx, asked.delivery_id)
    if not queries.is_visible(asked.principal, delivery):
        raise DeliveryNotFound
    return fresh(asked, delivery)


def fresh(asked: Asked, delivery: Delivery) -> Delivery:
    """The delivery, when it is the version that the caller has in mind."""
    delivery.expect_version(asked.if_match)
    return delivery


async def carried(asked: Asked) -> Delivery:
    """The delivery, when the caller is its volunteer."""
    delivery = await seen(asked)
    if asked.principal.id != delivery.volunteer_id:
        raise NotYourDelivery("only the volunteer who claimed it may do this")
    return delivery


async def coordinated(asked: Asked) -> Delivery:
    """The delivery, when the caller coordinates."""
    delivery = await seen(asked)
    if not asked.principal.is_coordinator:
        raise NotYourDelivery("only a coordinator may do this")
    return delivery


def require_member(principal: Principal, organization_ids: Collection[OrganizationId], what: str) -> None:
    """The caller acts for one of the organizations."""
    if not any(principal.acts_for(each) for each in organization_ids):
        raise NotYourDelivery(f"only {what} may do this")


def under_locks(asked: Asked) -> None:
    """Claims are decided under locks: the first, optimistic run of a command gives way to the locking one at once."""
    if not asked.tx.locking:
        raise ConcurrentUpdate
