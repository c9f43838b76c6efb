"""What is said to people because a delivery waits for one of them: a stream of facts beside the delivery's own.

The delivery's version stays as it is: being reminded of something changes nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from chassis.kernel import Aggregate

from deliveries.domain.delivery import Delivery
from deliveries.domain.terms import NIL, OrganizationId, PlaceId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Goods:
    """What a delivery brings: what is in hand, or what is planned while nothing is."""

    category: str
    product_name: str
    unit: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The delivery as it was when something was said of it."""

    delivery_id: UUID
    provider_ids: tuple[OrganizationId, ...]
    receiving_organization_id: OrganizationId
    pickup_place_id: PlaceId
    receiving_place_id: PlaceId
    volunteer_id: UserId | None
    goods: tuple[Goods, ...]

    @classmethod
    def of(cls, delivery: Delivery) -> About:
        """What people need to know of a delivery."""
        lines = list(delivery.lines.values())
        amounts = [(line, line.in_hand) for line in lines if line.in_hand] or [(line, line.planned) for line in lines]
        return cls(
            delivery_id=delivery.id,
            provider_ids=tuple(delivery.provider_ids),
            receiving_organization_id=delivery.receiving_organization_id,
            pickup_place_id=delivery.pickup_place_id,
            receiving_place_id=delivery.receiving_place_id,
            volunteer_id=delivery.volunteer_id,
            goods=tuple(
                Goods(category=line.category, product_name=line.product_name, unit=line.unit, quantity=quantity)
                for line, quantity in amounts
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOffered:
    """Volunteers of a ring are asked whether they take it on."""

    about: About
    ring: int
    radius_m: int
    volunteer_ids: tuple[UserId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryUnclaimed:
    """Nobody of all who were asked took it on."""

    about: About
    offered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PickupReminded:
    """The volunteer is reminded of the pickup; with `confirm_by`, asked to confirm the claim until then."""

    about: About
    pickup_from: datetime
    confirm_by: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PickupDelayed:
    """The goods are still where they were; the claim ends by itself at `release_at`."""

    about: About
    due_at: datetime
    release_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoffDelayed:
    """The goods have not arrived; said for the so-and-so-many-th time."""

    about: About
    due_at: datetime
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RerouteAsked:
    """The volunteer is asked where refused goods go; these places would take them."""

    about: About
    decide_by: datetime
    place_ids: tuple[PlaceId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerouteDelayed:
    """The volunteer has not decided; said for the so-and-so-many-th time."""

    about: About
    decide_by: datetime
    times: int


Said = (
    DeliveryOffered
    | DeliveryUnclaimed
    | PickupReminded
    | PickupDelayed
    | DropoffDelayed
    | RerouteAsked
    | RerouteDelayed
)
FOLLOW_UP_EVENTS: dict[str, type] = {
    event.__name__: event
    for event in (
        DeliveryOffered,
        DeliveryUnclaimed,
        PickupReminded,
        PickupDelayed,
        DropoffDelayed,
        RerouteAsked,
        RerouteDelayed,
    )
}


@dataclass
class FollowUp(Aggregate):
    """Everything said about one delivery, in order; its version counts."""

    delivery_id: UUID = NIL

    def say(self, fact: Said) -> None:
        """One more thing is said."""
        self.record(fact)

    def _said(self, fact: Said) -> None:
        self.delivery_id = fact.about.delivery_id

    _on_DeliveryOffered = _on_DeliveryUnclaimed = _on_PickupReminded = _on_PickupDelayed = _said  # noqa: N815
    _on_DropoffDelayed = _on_RerouteAsked = _on_RerouteDelayed = _said  # noqa: N815


def follow_up_id(delivery_id: UUID) -> UUID:
    """A delivery has one follow-up, and everybody who needs it knows its id."""
    return uuid5(delivery_id, "follow-up")
