"""Which open needs a batch is proposed to, and in which order: five reasons, each between 0 and 1, weighed and kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resources.domain.ground import distance_m
from resources.domain.terms import (
    BatchId,
    LineId,
    OrganizationId,
    PlaceId,
    Reason,
    ReasonWord,
    RequestId,
    Urgency,
)

RADIUS_M = 20_000  # what one volunteer carries across a town
HANDLING = timedelta(minutes=30)  # from the decision until somebody is on the road
SPEED_M_PER_S = 5.5  # 20 km/h: a bicycle, or a car in traffic
SLACK_AMPLE = timedelta(hours=24)  # more than this to spare makes a match no surer
PEOPLE_HALF = 100  # a place that serves so many counts half
RECENTLY = timedelta(days=7)  # what an organization was given in this time counts against its next turn
RECENT_HALF = 3  # so many turns in that time halve the next one's weight
DECIMALS = 4

WEIGHTS: dict[ReasonWord, float] = {
    ReasonWord.NEED: 0.35,
    ReasonWord.DISTANCE: 0.2,
    ReasonWord.CAPACITY: 0.15,
    ReasonWord.TIME: 0.15,
    ReasonWord.FAIRNESS: 0.15,
}
URGENCY_VALUE: dict[Urgency, float] = {
    Urgency.LOW: 0.25,
    Urgency.NORMAL: 0.5,
    Urgency.HIGH: 0.75,
    Urgency.EMERGENCY: 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a batch has to give, where, and until when."""

    batch_id: BatchId
    organization_id: OrganizationId
    place_id: PlaceId
    lat: float
    lon: float
    category: str
    gtin: str | None
    unit: str
    product_name: str
    free: int
    use_by_at: datetime | None
    pickup_from: datetime
    pickup_to: datetime

    @property
    def ends_at(self) -> datetime:
        """From then on nothing can be fetched."""
        return self.pickup_to if self.use_by_at is None else min(self.pickup_to, self.use_by_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An open line that asks for such goods, and the place that asks; `open` is what is neither covered nor proposed."""

    request_id: RequestId
    line_id: LineId
    organization_id: OrganizationId
    place_id: PlaceId
    lat: float
    lon: float
    people_served: int | None
    urgency: Urgency
    needed: int
    open: int
    needed_by_at: datetime | None
    recent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate that can be served in time, with its score and what it is made of."""

    candidate: Candidate
    score: float
    reasons: tuple[Reason, ...]


def ranked(offer: Offer, candidates: Iterable[Candidate], *, now: datetime) -> list[Ranked]:
    """The best first; equal ones by the sooner need, then by id: the same input gives the same order."""
    judged = [each for each in (_judged(offer, candidate, now) for candidate in candidates) if each is not None]
    return sorted(judged, key=_order)


def dealt(offer: Offer, order: Sequence[Ranked], *, proposals_max: int) -> list[tuple[Ranked, int]]:
    """What is free, dealt out in order: each gets what it lacks, until nothing is left or there are enough."""
    shares: list[tuple[Ranked, int]] = []
    left = offer.free
    for each in order:
        quantity = min(left, each.candidate.open)
        if quantity < 1 or len(shares) == proposals_max:
            break
        shares.append((each, quantity))
        left -= quantity
    return shares


def _order(each: Ranked) -> tuple[float, float, int]:
    needed_by_at = each.candidate.needed_by_at
    sooner = float("inf") if needed_by_at is None else needed_by_at.timestamp()
    return -each.score, sooner, each.candidate.line_id.int


def _judged(offer: Offer, candidate: Candidate, now: datetime) -> Ranked | None:
    """None when it is too far, lacks nothing, or the goods would come too late."""
    away_m = distance_m(offer.lat, offer.lon, candidate.lat, candidate.lon)
    slack = _slack(offer, candidate, away_m, now)
    if away_m > RADIUS_M or candidate.open < 1 or slack < timedelta():
        return None
    reasons = (
        _need(candidate),
        _reason(ReasonWord.DISTANCE, 1 - away_m / RADIUS_M, distance_m=round(away_m)),
        _capacity(offer, candidate),
        _reason(ReasonWord.TIME, slack / SLACK_AMPLE, slack_s=round(slack.total_seconds())),
        _reason(ReasonWord.FAIRNESS, RECENT_HALF / (RECENT_HALF + candidate.recent), recent=candidate.recent),
    )
    score = sum(reason.weight * reason.value for reason in reasons)
    return Ranked(candidate=candidate, score=round(score, DECIMALS), reasons=reasons)


def _slack(offer: Offer, candidate: Candidate, away_m: float, now: datetime) -> timedelta:
    """What is left between the earliest arrival and the moment from which it helps nobody; negative when too late."""
    on_road = timedelta(seconds=away_m / SPEED_M_PER_S)
    picked_up = max(now + HANDLING, offer.pickup_from)
    ends = [offer.pickup_to - picked_up]
    ends += [end - picked_up - on_road for end in (offer.use_by_at, candidate.needed_by_at) if end is not None]
    if ends[0] < timedelta():
        return ends[0]
    return min(ends[1:], default=SLACK_AMPLE)


def _need(candidate: Candidate) -> Reason:
    """How urgent it is, and how much of it nobody covers."""
    share = candidate.open / candidate.needed
    value = 0.7 * URGENCY_VALUE[candidate.urgency] + 0.3 * share
    return _reason(
        ReasonWord.NEED, value, urgency=candidate.urgency.value, open=candidate.open, needed=candidate.needed
    )


def _capacity(offer: Offer, candidate: Candidate) -> Reason:
    """How much of what is free goes there in one trip, and how many people the place serves."""
    fit = min(offer.free, candidate.open) / offer.free
    people = candidate.people_served or 0
    value = 0.6 * fit + 0.4 * people / (people + PEOPLE_HALF)
    return _reason(ReasonWord.CAPACITY, value, quantity=min(offer.free, candidate.open), people_served=people)


def _reason(word: ReasonWord, value: float, **facts: int | str) -> Reason:
    kept = round(max(0.0, min(1.0, value)), DECIMALS)
    return Reason(word=word, value=kept, weight=WEIGHTS[word], facts=facts)
