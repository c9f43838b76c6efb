"""The match: a part of a batch proposed to an open need, with the reasons; people accept or decline it, time ends it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate, Invalid, InvalidTransition

from resources.domain import facts, refusals
from resources.domain.ranking import Offer, Ranked
from resources.domain.terms import (
    MATCH_ALLOWED,
    NO_BATCH,
    NO_LINE,
    NO_ORGANIZATION,
    NO_PLACE,
    NO_REQUEST,
    BatchId,
    LineId,
    MatchId,
    MatchStatus,
    OrganizationId,
    PlaceId,
    Reason,
    RequestId,
    ReservationId,
    UserId,
)


@dataclass
class Match(Aggregate):
    """A proposal keeps its quantity of the batch and of the need until it ends; an accepted one is a reservation.

    People's commands are refused with an error; those of timers and messages record nothing when they come late.
    """

    batch_id: BatchId = NO_BATCH
    request_id: RequestId = NO_REQUEST
    line_id: LineId = NO_LINE
    provider_id: OrganizationId = NO_ORGANIZATION
    organization_id: OrganizationId = NO_ORGANIZATION
    pickup_place_id: PlaceId = NO_PLACE
    place_id: PlaceId = NO_PLACE
    category: str = ""
    gtin: str | None = None
    unit: str = ""
    product_name: str = ""
    quantity: int = 0
    score: float = 0
    reasons: tuple[Reason, ...] = ()
    status: MatchStatus = MatchStatus.PROPOSED
    proposed_at: datetime | None = None
    expires_at: datetime | None = None
    reservation_id: ReservationId | None = None
    reason: str | None = None

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now."""
        return MATCH_ALLOWED[self.status]

    @property
    def is_open(self) -> bool:
        """Nobody has answered it yet, and nothing ended it."""
        return self.status is MatchStatus.PROPOSED

    @classmethod
    def propose(
        cls, match_id: MatchId, *, offer: Offer, chosen: Ranked, quantity: int, expires_at: datetime, now: datetime
    ) -> Self:
        """A part of what is free, for a need that lacks at least as much, to be answered by `expires_at`."""
        candidate = chosen.candidate
        if not 1 <= quantity <= min(offer.free, candidate.open):
            raise Invalid("a match is of something that is free and lacked")
        match = cls(id=match_id)
        match.record(
            facts.MatchProposed(
                batch_id=offer.batch_id,
                request_id=candidate.request_id,
                line_id=candidate.line_id,
                provider_id=offer.organization_id,
                organization_id=candidate.organization_id,
                pickup_place_id=offer.place_id,
                place_id=candidate.place_id,
                category=offer.category,
                gtin=offer.gtin,
                unit=offer.unit,
                product_name=offer.product_name,
                quantity=quantity,
                score=chosen.score,
                reasons=chosen.reasons,
                proposed_at=now,
                expires_at=expires_at,
            )
        )
        return match

    def accept(self, reservation_id: ReservationId, *, accepted_by: UserId, now: datetime) -> None:
        """One of both sides wants it: it becomes the reservation named."""
        self._require("accept")
        if self.past_answer(now):
            raise refusals.AnswerTooLate(expires_at=self.expires_at)
        self.record(facts.MatchAccepted(reservation_id=reservation_id, accepted_by=accepted_by, accepted_at=now))

    def decline(self, *, reason: str, declined_by: UserId, now: datetime) -> None:
        """One of both sides does not want it; the batch is not proposed to this need again."""
        self._require("decline")
        self.record(facts.MatchDeclined(reason=reason, declined_by=declined_by, declined_at=now))

    def expire(self, *, now: datetime) -> None:
        """Nobody answered in time; early or late, it records nothing."""
        if self.is_open and self.past_answer(now):
            self.record(facts.MatchExpired(expired_at=now))

    def withdraw(self, *, reason: str, now: datetime) -> None:
        """The goods or the need are gone, whether it was answered or not; what ended otherwise stays as it is."""
        if self.status in (MatchStatus.PROPOSED, MatchStatus.ACCEPTED):
            self.record(facts.MatchWithdrawn(reason=reason, withdrawn_at=now))

    def past_answer(self, now: datetime) -> bool:
        """The time for an answer is over."""
        return self.expires_at is not None and self.expires_at <= now

    def _require(self, command: str) -> None:
        if command not in self.allowed:
            raise InvalidTransition(status=self.status, allowed=self.allowed)

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_MatchProposed(self, event: facts.MatchProposed) -> None:  # noqa: N802
        self.batch_id, self.request_id, self.line_id = event.batch_id, event.request_id, event.line_id
        self.provider_id, self.organization_id = event.provider_id, event.organization_id
        self.pickup_place_id, self.place_id = event.pickup_place_id, event.place_id
        self.category, self.gtin, self.unit = event.category, event.gtin, event.unit
        self.product_name, self.quantity = event.product_name, event.quantity
        self.score, self.reasons = event.score, event.reasons
        self.proposed_at, self.expires_at = event.proposed_at, event.expires_at

    def _on_MatchAccepted(self, event: facts.MatchAccepted) -> None:  # noqa: N802
        self.status, self.reservation_id = MatchStatus.ACCEPTED, event.reservation_id

    def _on_MatchDeclined(self, event: facts.MatchDeclined) -> None:  # noqa: N802
        self.status, self.reason = MatchStatus.DECLINED, event.reason

    def _on_MatchExpired(self, _event: facts.MatchExpired) -> None:  # noqa: N802
        self.status = MatchStatus.EXPIRED

    def _on_MatchWithdrawn(self, event: facts.MatchWithdrawn) -> None:  # noqa: N802
        self.status, self.reason = MatchStatus.WITHDRAWN, event.reason
