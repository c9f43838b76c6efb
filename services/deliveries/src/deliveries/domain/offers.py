"""An open delivery is offered to volunteers in rings around the pickup, a bounded number in each; pure, told the time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from deliveries.domain.terms import UserId

PAUSE_MIN = timedelta(minutes=1)  # however little time is left, a volunteer can read and answer


class OfferStatus(StrEnum):
    """What became of an offer."""

    OFFERED = "offered"
    TAKEN = "taken"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A free volunteer whose vehicle fits, and what speaks for asking them."""

    volunteer_id: UserId
    distance_m: int
    vehicle: str
    capacity_g: int
    claims_today: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far and how fast offers go: the radius of each ring, how many people in one, and the pause after it."""

    radii_m: tuple[int, ...]
    per_ring_max: int
    pause: timedelta


def choose(candidates: Collection[Candidate], *, count: int) -> list[Candidate]:
    """Whom to ask within a ring: those who carried least today, of these the nearest."""
    return sorted(candidates, key=lambda one: (one.claims_today, one.distance_m, one.volunteer_id))[:count]


def pause_after(reach: Reach, *, rings_left: int, until: datetime | None, now: datetime) -> timedelta:
    """How long to wait for a claim: the usual pause, less when the goods' time is too short for all rings."""
    if until is None:
        return reach.pause
    return max(PAUSE_MIN, min(reach.pause, (until - now) / (rings_left + 1)))
