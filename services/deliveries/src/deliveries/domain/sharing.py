"""What several volunteers want of one delivery: a part of it each, or a turn when it is open again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from chassis.kernel import Invalid

from deliveries.domain import facts, refusals
from deliveries.domain.course import Course
from deliveries.domain.terms import WAITING_MAX, DeliveryId, MovedLine, Part, PlannedLine, Status, UserId


@dataclass
class Shared(Course):
    """What is planned stays the same in sum, however often it is split; nobody waits twice, nor for what they carry."""

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _split(self, part: Part, *, now: datetime) -> Self | None:
        """Keep the part; the rest is an open delivery of its own, or None when the part is everything.

        Both may be split again, but together never into more parts than the whole could.
        """
        moved = tuple(self._rest(part))
        if not moved:
            return None
        if self.splits_left < 1:
            raise refusals.TooManyParts
        sibling = self._sibling(part.sibling_id, moved, splits_left=self.splits_left // 2, now=now)
        self.record(
            facts.DeliverySplit(sibling_id=part.sibling_id, moved=moved, splits_left=(self.splits_left - 1) // 2)
        )
        return sibling

    def _rest(self, part: Part) -> Iterator[MovedLine]:
        for line_id, line in self.lines.items():
            rest = line.planned - part.taken.get(line_id, 0)
            if rest:
                yield MovedLine(
                    line_id=line_id,
                    sibling_line_id=part.sibling_line_ids[line_id],
                    batch_id=line.batch_id,
                    quantity=rest,
                )

    def _sibling(
        self, sibling_id: DeliveryId, moved: tuple[MovedLine, ...], *, splits_left: int, now: datetime
    ) -> Self:
        if self.planned_by is None:
            raise Invalid("a delivery that is split was planned")
        sibling = type(self)(id=sibling_id)
        sibling.record(
            facts.DeliverySplitOff(
                parent_id=DeliveryId(self.id),
                moved=moved,
                splits_left=splits_left,
                receiving_organization_id=self.receiving_organization_id,
                receiving_place_id=self.receiving_place_id,
                pickup_place_id=self.pickup_place_id,
                lines=tuple(self._planned(each) for each in moved),
                pickup_window=self.pickup_window,
                dropoff_window=self.dropoff_window,
                request_id=self.request_id,
                planned_by=self.planned_by,
                planned_at=now,
            )
        )
        sibling.record(facts.DeliveryOpened(opened_at=now))
        return sibling

    def _planned(self, moved: MovedLine) -> PlannedLine:
        line = self.lines[moved.line_id]
        return PlannedLine(
            line_id=moved.sibling_line_id,
            batch_id=line.batch_id,
            provider_id=line.provider_id,
            pickup_place_id=self.pickup_place_id,
            product_name=line.product_name,
            category=line.category,
            storage=line.storage,
            unit=line.unit,
            quantity=moved.quantity,
            use_by_at=line.use_by_at,
        )

    # -- the waiting list ----------------------------------------------------------------------------------------------

    def join_waiting_list(self, volunteer_id: UserId, *, active: bool) -> None:
        """Wait for a claim to be released; who waits already keeps their place."""
        self.require("waiting-list")
        if volunteer_id in self.waiting:
            return
        if not active:
            raise refusals.VolunteerNotActive
        if volunteer_id == self.volunteer_id:
            raise refusals.AlreadyYours
        if len(self.waiting) >= WAITING_MAX:
            raise refusals.WaitingListFull(waiting_max=WAITING_MAX)
        self.record(facts.WaitingListJoined(volunteer_id=volunteer_id))

    def leave_waiting_list(self, volunteer_id: UserId) -> None:
        """Wait no longer; who does not wait leaves no trace."""
        if volunteer_id in self.waiting:
            self.record(facts.WaitingListLeft(volunteer_id=volunteer_id))

    def _release(self, volunteer_id: UserId, *, reason: str) -> None:
        """Open again, and the first who waits is called."""
        self.record(facts.ClaimReleased(volunteer_id=volunteer_id, reason=reason))
        if self.status is Status.OPEN and self.waiting:
            self.record(facts.WaitingVolunteerCalled(volunteer_id=self.waiting[0]))
