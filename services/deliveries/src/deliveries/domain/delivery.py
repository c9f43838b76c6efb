"""The delivery: every command checks its rule and records a fact; the course keeps what became of each line.

Who may give a command, and whether a custody code is right, is checked before; see `codes`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from chassis.kernel import Invalid

from deliveries.domain import facts, guards, refusals
from deliveries.domain.course import totals_of
from deliveries.domain.sharing import Shared
from deliveries.domain.terms import (
    CONFIRM_AHEAD,
    CONFIRM_UNTIL,
    BatchId,
    DeliveryId,
    Dropped,
    HoldState,
    Line,
    LineId,
    LineTotals,
    OrganizationId,
    Part,
    PlaceId,
    PlannedLine,
    RequestId,
    Spoilage,
    Status,
    UserId,
    Window,
)


@dataclass
class Delivery(Shared):
    """Goods brought from one place to another by one volunteer at a time, with custody known at every moment.

    People's commands are refused with an error; commands of messages and timers record nothing when they come late.
    """

    @classmethod
    def plan(
        cls,
        delivery_id: DeliveryId,
        *,
        receiving_organization_id: OrganizationId,
        receiving_place_id: PlaceId,
        lines: Collection[PlannedLine],
        accepts: Collection[str] | None,
        planned_by: UserId,
        now: datetime,
        pickup_window: Window | None = None,
        dropoff_window: Window | None = None,
        request_id: RequestId | None = None,
    ) -> Self:
        """A new delivery in `planned`; its event asks for one hold per line."""
        guards.check_plan(lines, pickup_window=pickup_window, dropoff_window=dropoff_window)
        guards.require_plannable(lines, accepts=accepts)
        delivery = cls(id=delivery_id)
        delivery.record(
            facts.DeliveryPlanned(
                receiving_organization_id=receiving_organization_id,
                receiving_place_id=receiving_place_id,
                pickup_place_id=next(iter(lines)).pickup_place_id,
                lines=tuple(lines),
                pickup_window=pickup_window,
                dropoff_window=dropoff_window,
                request_id=request_id,
                planned_by=planned_by,
                planned_at=now,
            )
        )
        return delivery

    # -- answers of batches --------------------------------------------------------------------------------------------

    def grant_hold(self, line_id: LineId, *, now: datetime) -> None:
        """A line's goods are set aside; the last one opens the delivery. Late or repeated: nothing."""
        if not self._awaits_hold(line_id):
            return
        self.record(facts.HoldGranted(line_id=line_id))
        if all(line.hold is HoldState.GRANTED for line in self.lines.values()):
            self.record(facts.DeliveryOpened(opened_at=now))

    def reject_hold(self, line_id: LineId, *, reason: str) -> None:
        """A line's goods are not to be had: the delivery is cancelled. Late or repeated: nothing."""
        if not self._awaits_hold(line_id):
            return
        self.record(facts.HoldRejected(line_id=line_id, reason=reason))
        self._cancel(f"hold-rejected: {reason}")

    def batch_spoiled(self, batch_id: BatchId, *, cause: Spoilage) -> None:
        """A batch expired or was recalled: what is not picked up ends, what is in hand has to go elsewhere."""
        concerned = any(line.batch_id == batch_id for line in self.lines.values())
        if self.ended or not concerned:
            return
        if self.status in (Status.IN_TRANSIT, Status.REROUTING):
            self._interrupt(batch_id, cause)
        elif cause is Spoilage.EXPIRED and self.status is not Status.PLANNED:
            self.record(facts.DeliveryExpired(lines=self.totals, volunteer_id=self.volunteer_id))
        else:
            self._cancel(f"batch-{cause}")

    # -- the claim -----------------------------------------------------------------------------------------------------

    def claim(
        self,
        volunteer_id: UserId,
        *,
        now: datetime,
        min_handling: timedelta,
        active: bool,
        vehicle_fits: bool,
        overlapping: bool,
        claims_today: int,
        daily_cap: int,
        part: Part | None = None,
    ) -> Self | None:
        """Give an open delivery, or a part of it, to a volunteer; the others find it claimed. Returns what is left, open."""
        self.require("claim")
        if part is not None:
            guards.require_part(self.lines, part.taken)
        guards.require_claimable(
            active=active,
            vehicle_fits=vehicle_fits,
            overlapping=overlapping,
            claims_today=claims_today,
            daily_cap=daily_cap,
        )
        self._require_time(part, earliest=now + min_handling)
        rest = None if part is None else self._split(part, now=now)
        self._claim(volunteer_id, now=now, confirm_by=self._confirm_by(now))
        return rest

    def reassign(self, volunteer_id: UserId, *, reason: str, now: datetime) -> None:
        """A coordinator gives the delivery to somebody; it counts as confirmed."""
        self.require("reassign")
        if volunteer_id == self.volunteer_id:
            return
        if self.volunteer_id is not None:
            self.record(facts.ClaimReleased(volunteer_id=self.volunteer_id, reason=reason))
        self._claim(volunteer_id, now=now, confirm_by=None, assigned_reason=reason)

    def confirm(self) -> None:
        """Keep a claim made long before the pickup; a confirmed one stays as it is."""
        volunteer_id = self._claimant("confirm")
        if self.confirm_by is not None:
            self.record(facts.ClaimConfirmed(volunteer_id=volunteer_id))

    def release(self, *, reason: str) -> None:
        """The volunteer gives the claim back."""
        self._release(self._claimant("release"), reason=reason)

    def release_unconfirmed(self, *, now: datetime) -> None:
        """A timer takes back a claim nobody confirmed in time; otherwise nothing."""
        if self.status is Status.CLAIMED and self.confirm_by is not None and self.confirm_by <= now:
            self.release(reason="unconfirmed")

    def no_show(self, *, reported_by: UserId, now: datetime) -> None:
        """Somebody waited in vain, once the pickup window has begun: kept for that reporter, and open again."""
        volunteer_id = self._claimant("no-show")
        if self.pickup_window is not None and now < self.pickup_window.from_at:
            raise refusals.TooEarly(from_at=self.pickup_window.from_at)
        self.record(facts.VolunteerNoShow(volunteer_id=volunteer_id, reported_by=reported_by, reported_at=now))
        self._release(volunteer_id, reason="no-show")

    def contest_no_show(self, volunteer_id: UserId, *, reason: str) -> None:
        """The volunteer says otherwise, whatever became of the delivery since."""
        open_reports = [each for each in self.no_shows if each.contested_reason is None]
        if not any(each.volunteer_id == volunteer_id for each in open_reports):
            raise refusals.NoShowNotFound
        self.record(facts.NoShowContested(volunteer_id=volunteer_id, reason=reason))

    # -- custody -------------------------------------------------------------------------------------------------------

    def pickup(
        self,
        picked: Mapping[LineId, int],
        *,
        given_by: UserId,
        now: datetime,
        entered_at: datetime | None = None,
        temperature_dc: int | None = None,
        override_reason: str | None = None,
    ) -> None:
        """The provider hands over at most what was planned of every line, and something.

        What was `entered_at` another time has to hold then and now.
        """
        volunteer_id = self._claimant("pickup")
        guards.require_other_person(given_by, volunteer_id)
        guards.require_picked(self.lines, picked)
        moved = [line for line_id, line in self.lines.items() if picked[line_id] > 0]
        guards.require_unexpired(moved, now=max(now, entered_at or now))
        guards.require_in_band([line.storage for line in moved], temperature_dc)
        self.record(
            facts.PickupConfirmed(
                volunteer_id=volunteer_id,
                lines=tuple(totals_of(replace(line, picked=picked[line.line_id])) for line in self.lines.values()),
                temperature_dc=temperature_dc,
                override_reason=override_reason,
                picked_up_at=now,
            )
        )

    def dropoff(
        self,
        dropped: Mapping[LineId, Dropped],
        *,
        now: datetime,
        entered_at: datetime | None = None,
        temperature_dc: int | None = None,
        override_reason: str | None = None,
        reason: str = "rejected",
    ) -> None:
        """The receiver takes or rejects everything in hand: all taken completes, anything rejected goes elsewhere.

        What was `entered_at` another time has to hold then and now.
        """
        self.require("dropoff")
        guards.require_dropped(self.lines, dropped)
        taken = [self.lines[line_id] for line_id, drop in dropped.items() if drop.delivered > 0]
        guards.require_unexpired(taken, now=max(now, entered_at or now))
        guards.require_in_band([line.storage for line in taken], temperature_dc)
        totals = tuple(totals_of(drop_off(line, dropped.get(line.line_id))) for line in self.lines.values())
        if any(drop.rejected for drop in dropped.values()):
            self.record(facts.DropoffRefused(lines=totals, reason=reason, refused_at=now))
        else:
            self._complete(totals, now=now, temperature_dc=temperature_dc, override_reason=override_reason)

    def refuse(self, *, reason: str, now: datetime) -> None:
        """The receiver takes nothing of what is in hand."""
        self.require("refuse")
        totals = tuple(totals_of(replace(line, rejected=line.rejected + line.in_hand)) for line in self.lines.values())
        self.record(facts.DropoffRefused(lines=totals, reason=reason, refused_at=now))

    def reroute(
        self, *, organization_id: OrganizationId, place_id: PlaceId, accepts: Collection[str] | None, now: datetime
    ) -> None:
        """Carry what is in hand to another place that takes it; nothing expired or recalled goes on."""
        self.require("reroute")
        carried = [line for line in self.lines.values() if line.in_hand]
        guards.require_unexpired(carried, now=now)
        self._require_unspoiled(carried)
        refused = sorted({line.category for line in carried if accepts is not None and line.category not in accepts})
        if refused:
            raise refusals.CategoryNotAccepted(categories=refused)
        self.record(facts.DeliveryRerouted(receiving_organization_id=organization_id, receiving_place_id=place_id))

    def return_(self, *, now: datetime, usable: bool = True, override_reason: str | None = None) -> None:
        """The provider takes back everything in hand."""
        self.require("return")
        totals = tuple(totals_of(replace(line, returned=line.returned + line.in_hand)) for line in self.lines.values())
        self.record(
            facts.DeliveryReturned(lines=totals, usable=usable, override_reason=override_reason, returned_at=now)
        )
        self._complete_if_partly_delivered(now)

    def discard(self, *, reason: str, now: datetime) -> None:
        """Throw away everything in hand."""
        self.require("discard")
        totals = tuple(
            totals_of(replace(line, discarded=line.discarded + line.in_hand)) for line in self.lines.values()
        )
        self._discard(totals, reason=reason, now=now)

    def lose(self, lost: Mapping[LineId, int], *, reason: str, now: datetime) -> None:
        """Some of what is in hand is gone; when nothing is left, the delivery ends."""
        self.require("lost")
        guards.require_losable(self.lines, lost)
        lines = [replace(line, lost=line.lost + lost.get(line.line_id, 0)) for line in self.lines.values()]
        self.record(facts.DeliveryGoodsLost(lines=tuple(totals_of(line) for line in lines), reason=reason))
        if self.in_hand == 0:
            self._discard(self.totals, reason=reason, now=now)

    # -- ends without goods --------------------------------------------------------------------------------------------

    def cancel(self, *, reason: str) -> None:
        """It will not happen; possible until the pickup."""
        self.require("cancel")
        self._cancel(reason)

    def fail(self, *, reason: str) -> None:
        """The volunteer came and there was nothing to collect."""
        volunteer_id = self._claimant("fail")
        self.record(facts.DeliveryFailed(lines=self.totals, volunteer_id=volunteer_id, reason=reason))

    def expire(self, *, now: datetime, min_handling: timedelta) -> None:
        """A timer ends an open or claimed delivery when its safe time is over; early or late, it records nothing."""
        due = self.expires_at(min_handling=min_handling)
        if due is not None and due <= now:
            self.record(facts.DeliveryExpired(lines=self.totals, volunteer_id=self.volunteer_id))

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _claimant(self, command: str) -> UserId:
        """The volunteer of a claimed delivery; in any other state the command is refused."""
        self.require(command)
        if self.volunteer_id is None:
            raise Invalid("a claimed delivery has a volunteer")
        return self.volunteer_id

    def _awaits_hold(self, line_id: LineId) -> bool:
        if self.status is not Status.PLANNED:  # the line may be another delivery's by now
            return False
        guards.require_known(self.lines, [line_id])
        return self.lines[line_id].hold is HoldState.PENDING

    def _confirm_by(self, now: datetime) -> datetime | None:
        """Until when a claim made now has to be confirmed; None when it is near enough to count as confirmed."""
        if self.pickup_window is None or self.pickup_window.from_at - now <= CONFIRM_AHEAD:
            return None
        return self.pickup_window.from_at - CONFIRM_UNTIL

    def _require_time(self, part: Part | None, *, earliest: datetime) -> None:
        """What is taken is safe until then."""
        taken = self.lines.keys() if part is None else part.taken.keys()
        use_by_at = min((at for line_id in taken if (at := self.lines[line_id].use_by_at)), default=None)
        if use_by_at is not None and use_by_at < earliest:
            raise refusals.NotEnoughTime(use_by_at=use_by_at)

    def _require_unspoiled(self, lines: Collection[Line]) -> None:
        causes = {self.spoiled.get(line.batch_id) for line in lines}
        if Spoilage.RECALLED in causes:
            raise refusals.GoodsRecalled
        if Spoilage.EXPIRED in causes:
            raise refusals.GoodsExpired

    def _claim(
        self, volunteer_id: UserId, *, now: datetime, confirm_by: datetime | None, assigned_reason: str | None = None
    ) -> None:
        self.record(
            facts.DeliveryClaimed(
                volunteer_id=volunteer_id, claimed_at=now, confirm_by=confirm_by, assigned_reason=assigned_reason
            )
        )

    def _cancel(self, reason: str) -> None:
        self.record(facts.DeliveryCancelled(lines=self.totals, volunteer_id=self.volunteer_id, reason=reason))

    def _interrupt(self, batch_id: BatchId, cause: Spoilage) -> None:
        carried = any(line.in_hand for line in self.lines.values() if line.batch_id == batch_id)
        if carried and self.spoiled.get(batch_id) not in (cause, Spoilage.RECALLED):
            self.record(facts.DeliveryInterrupted(batch_id=batch_id, cause=cause))

    def _discard(self, totals: tuple[LineTotals, ...], *, reason: str, now: datetime) -> None:
        self.record(facts.DeliveryDiscarded(lines=totals, reason=reason, discarded_at=now))
        self._complete_if_partly_delivered(now)

    def _complete_if_partly_delivered(self, now: datetime) -> None:
        """After a partial delivery the end state is `delivered`, and the lines tell the rest."""
        if self.partly_delivered:
            self._complete(self.totals, now=now)

    def _complete(
        self,
        totals: tuple[LineTotals, ...],
        *,
        now: datetime,
        temperature_dc: int | None = None,
        override_reason: str | None = None,
    ) -> None:
        if self.volunteer_id is None:
            raise Invalid("a delivery on the road has a volunteer")
        self.record(
            facts.DeliveryCompleted(
                volunteer_id=self.volunteer_id,
                receiving_place_id=self.receiving_place_id,
                request_id=self.request_id,
                lines=totals,
                temperature_dc=temperature_dc,
                override_reason=override_reason,
                completed_at=now,
            )
        )


def drop_off(line: Line, drop: Dropped | None) -> Line:
    """The line after a receiver took and rejected so much of it."""
    if drop is None:
        return line
    return replace(line, delivered=line.delivered + drop.delivered, rejected=line.rejected + drop.rejected)
