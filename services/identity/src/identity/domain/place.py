"""The place: where an organization's goods are fetched or brought."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from chassis.kernel import Aggregate

from identity.domain import facts
from identity.domain.terms import NO_ORGANIZATION, OrganizationId, PlaceDetails, PlaceId

_NOWHERE = PlaceDetails(name="", roles=(), address="", ibge_city="", lat=0, lon=0, tz="UTC", accepts=())


@dataclass
class Place(Aggregate):
    """A pickup or receiving place of one organization."""

    organization_id: OrganizationId = NO_ORGANIZATION
    details: PlaceDetails = _NOWHERE
    added_at: datetime | None = None

    @classmethod
    def add(cls, place_id: PlaceId, *, organization_id: OrganizationId, details: PlaceDetails, now: datetime) -> Self:
        """A new place."""
        place = cls(id=place_id)
        place.record(facts.PlaceAdded(organization_id=organization_id, details=details, added_at=now))
        return place

    def change(self, changes: dict[str, Any]) -> None:
        """Say something else of some details; what stays as it is records nothing."""
        details = replace(self.details, **changes)
        if details != self.details:
            self.record(facts.PlaceChanged(details=details))

    def _on_PlaceAdded(self, event: facts.PlaceAdded) -> None:  # noqa: N802
        self.organization_id = event.organization_id
        self.details = event.details
        self.added_at = event.added_at

    def _on_PlaceChanged(self, event: facts.PlaceChanged) -> None:  # noqa: N802
        self.details = event.details
