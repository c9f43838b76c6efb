"""Who sees a delivery's doors, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis.access import Principal
from deliveries.domain import (
    Delivery,
    DeliveryId,
    Dropped,
    LineId,
    OrganizationId,
    PlaceId,
    PlannedLine,
    Status,
    Storage,
    UserId,
)
from deliveries.queries import is_party, is_visible, sight_of

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PROVIDER, SHELTER = OrganizationId(UUID(int=30)), OrganizationId(UUID(int=31))
ANA, BIA = UserId(UUID(int=50)), UserId(UUID(int=51))
LINE, POINT = LineId(UUID(int=10)), (-30.034567, -51.234567)


def a_delivered() -> Delivery:
    """Ana brought five portions to the shelter; Bia planned it."""
    line = PlannedLine(
        line_id=LINE, batch_id=UUID(int=20), provider_id=PROVIDER, pickup_place_id=PlaceId(UUID(int=40)),
        product_name="Sopa", category="prepared", storage=Storage.AMBIENT, unit="portion", quantity=5,
    )  # type: ignore[arg-type]  # fmt: skip
    delivery = Delivery.plan(
        DeliveryId(UUID(int=1)), receiving_organization_id=SHELTER, receiving_place_id=PlaceId(UUID(int=41)),
        lines=[line], accepts=None, planned_by=BIA, now=NOW,
    )  # fmt: skip
    delivery.grant_hold(LINE, now=NOW)
    delivery.reassign(ANA, reason="test", now=NOW)
    delivery.pickup({LINE: 5}, given_by=BIA, now=NOW)
    delivery.dropoff({LINE: Dropped(delivered=5)}, now=NOW)
    return delivery


def person(user_id: UUID, *, member_of: UUID | None = None, role: str | None = None) -> Principal:
    """Somebody signed in."""
    memberships = {} if member_of is None else {member_of: "staff"}
    return Principal(user_id, "person", memberships, frozenset([role] if role else []))


@pytest.mark.parametrize(("hours", "exact"), [(0, True), (23, True), (24, False)])
def test_the_volunteer_knows_the_doors_a_day_longer(hours: int, exact: bool) -> None:
    """Until 24 hours after the end, then the neighbourhood."""
    sight = sight_of(person(ANA), a_delivered(), pickup=POINT, dropoff=None, now=NOW + timedelta(hours=hours))

    assert (sight.exact, sight.pickup) == (exact, POINT if exact else (-30.03, -51.23))


def test_the_organizations_planner_and_coordinators_stay_parties() -> None:
    """They see it, doors included, whatever its age; others do not see it at all."""
    delivery, later = a_delivered(), NOW + timedelta(days=99)
    parties = [
        person(BIA),
        person(UUID(int=60), member_of=PROVIDER),
        person(UUID(int=61), member_of=SHELTER),
        person(UUID(int=62), role="coordinator"),
        person(ANA, member_of=SHELTER),
    ]
    stranger = person(UUID(int=63), member_of=UUID(int=99))

    assert delivery.status is Status.DELIVERED
    assert all(sight_of(each, delivery, pickup=POINT, dropoff=None, now=later).exact for each in parties)
    assert not is_party(stranger, delivery)
    assert not is_visible(stranger, delivery)
