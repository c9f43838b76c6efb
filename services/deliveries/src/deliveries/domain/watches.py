"""When a delivery that waits for somebody is looked at again, and what is due then; pure, told the time.

A watch is a row of moments made when a stage is entered. A timer may come late: then only the last moment that is due
counts, for a reminder after the fact helps nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter

from deliveries.domain.delivery import Delivery
from deliveries.domain.terms import CLAIM_SPAN_MIN, OrganizationId, PlaceId

TOLD_TIMES_MAX = 3  # of one delay; after that people have been told often enough

GIVE_UP, ASK_TO_CONFIRM, REMIND, DELAYED, RELEASE = "give-up", "ask-to-confirm", "remind", "delayed", "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something to do at a time; `times` counts moments of one name."""

    name: str
    at: datetime
    times: int = 1

    @property
    def step(self) -> str:
        """Its name in the record of steps."""
        return self.name if self.times == 1 else f"{self.name}-{self.times}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceNear:
    """A place that would take refused goods, and how far it is."""

    place_id: PlaceId
    organization_id: OrganizationId
    distance_m: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long everybody is waited for."""

    holds: timedelta
    ask_to_confirm: timedelta
    remind: timedelta
    pickup_grace: timedelta
    transit: timedelta
    dropoff_again: timedelta
    reroute: timedelta


def for_holds(delivery: Delivery, patience: Patience, *, now: datetime) -> list[Moment]:
    """A plan whose holds are not answered is given up."""
    return [Moment(name=GIVE_UP, at=(delivery.planned_at or now) + patience.holds)]


def for_pickup(delivery: Delivery, patience: Patience, *, now: datetime) -> list[Moment]:
    """Ask an early claim to be confirmed, remind of the pickup, tell of a delay, and take the claim back after some grace."""
    claimed_at = delivery.claimed_at or now
    due_at = pickup_due_at(delivery, claimed_at)
    moments = [
        Moment(name=DELAYED, at=due_at),
        Moment(name=RELEASE, at=due_at + patience.pickup_grace),
    ]
    if delivery.pickup_window is not None:
        moments.append(Moment(name=REMIND, at=delivery.pickup_window.from_at - patience.remind))
    if delivery.confirm_by is not None:
        moments.append(Moment(name=ASK_TO_CONFIRM, at=delivery.confirm_by - patience.ask_to_confirm))
    return sorted((moment for moment in moments if moment.at > claimed_at), key=attrgetter("at"))


def pickup_due_at(delivery: Delivery, claimed_at: datetime) -> datetime:
    """By when a claim is kept: the pickup window's end, and never sooner than a claim takes at least."""
    earliest = claimed_at + CLAIM_SPAN_MIN
    return earliest if delivery.pickup_window is None else max(delivery.pickup_window.to_at, earliest)


def for_dropoff(delivery: Delivery, patience: Patience, *, now: datetime, rerouted: bool) -> list[Moment]:
    """Tell of goods that are on the road for too long, a few times; the window was the first receiver's."""
    window = None if rerouted else delivery.dropoff_window
    due_at = now + patience.transit if window is None else max(window.to_at, now)
    return _again_and_again(due_at, patience.dropoff_again)


def for_reroute(patience: Patience, *, now: datetime) -> list[Moment]:
    """Tell of a decision that is not made, a few times."""
    return _again_and_again(now + patience.reroute, patience.reroute)


def due(moments: Sequence[Moment], taken: Collection[str], *, now: datetime) -> list[Moment]:
    """What is due and not on record, earliest first; only the last of them is to be done, the others are past.

    A claim is never taken back before its volunteer was told of the delay.
    """
    coming = [moment for moment in moments if moment.at <= now and moment.step not in taken]
    return [moment for moment in coming if moment.name != RELEASE or DELAYED in taken]


def with_grace(moments: Sequence[Moment], grace: timedelta, *, now: datetime) -> list[Moment]:
    """The same, the release not before the grace is over that begins when the delay is told."""
    return [replace(moment, at=max(moment.at, now + grace)) if moment.name == RELEASE else moment for moment in moments]


def next_at(moments: Sequence[Moment], *, now: datetime) -> datetime | None:
    """When to look again; None when nothing more comes."""
    return min((moment.at for moment in moments if moment.at > now), default=None)


def _again_and_again(first: datetime, pause: timedelta) -> list[Moment]:
    return [Moment(name=DELAYED, at=first + n * pause, times=n + 1) for n in range(TOLD_TIMES_MAX)]
