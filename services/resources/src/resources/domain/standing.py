"""What is matched of a batch and not on its way yet: which of it has to end, and when to look again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resources.domain.ranking import Offer
from resources.domain.terms import LineId, MatchId, MatchStatus, RequestId

OPEN_MAX = 10  # proposals of one batch at once: who is asked should have a chance to get something
PROPOSALS_MAX = 200  # of one batch in all; after so many refusals people look for themselves
ANSWER_SHARE = 4  # nobody thinks for longer than a quarter of the time that is left
ANSWER_MIN = timedelta(minutes=5)
LOOK_EVERY = timedelta(hours=1)  # while something is free: places and organizations change without a word to a batch
OVER = frozenset({"closed", "cancelled", "expired", "recalled"})  # batches of which nothing more can be had


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What a batch still has to give; `free` below zero: more is matched than there is. No offer without a known place."""

    status: str
    verified: bool
    ends_at: datetime
    free: int
    offer: Offer | None

    @property
    def is_over(self) -> bool:
        """Nothing more can be had of it."""
        return self.status in OVER

    def can_be_proposed(self, now: datetime) -> bool:
        """Something is free, of a verified organization, and can still be fetched."""
        ready = self.status == "ready" and self.verified and self.offer is not None
        return ready and self.free > 0 and self.ends_at > now


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A match that takes of its batch: a proposal, or an accepted one that no delivery carries yet."""

    id: MatchId
    request_id: RequestId
    line_id: LineId
    status: MatchStatus
    quantity: int
    expires_at: datetime
    wanted: bool  # its organization is verified now

    @property
    def is_open(self) -> bool:
        """Nobody has answered it yet."""
        return self.status is MatchStatus.PROPOSED


def to_end(supply: Supply, standing: Sequence[Standing], *, now: datetime) -> list[tuple[Standing, str]]:
    """Matches that end now, and why. `standing` has the best first: when there is less than was matched, the last ones go."""
    ending: list[tuple[Standing, str]] = []
    lacking = -supply.free
    for each in reversed(standing):
        reason = _why(supply, each, now) or ("batch-less" if lacking > 0 else None)
        if reason is not None:
            ending.append((each, reason))
            lacking -= each.quantity
    return ending


def _why(supply: Supply, each: Standing, now: datetime) -> str | None:
    if supply.is_over:
        return f"batch-{supply.status}"
    if not supply.verified or not each.wanted:
        return "organization-not-verified"
    if each.is_open and supply.ends_at <= now:
        return "too-late"
    return "unanswered" if each.is_open and each.expires_at <= now else None


def time_to_answer(longest: timedelta, *, left: timedelta) -> timedelta:
    """How long both sides may think, when so much time is left."""
    return min(longest, max(left / ANSWER_SHARE, ANSWER_MIN), left)


def next_moment(supply: Supply, answers: Iterable[datetime | None], *, now: datetime) -> datetime | None:
    """When something ends by itself, or when it is worth another look; None when only an event can change anything."""
    moments = [each for each in answers if each is not None]
    if supply.ends_at > now:
        moments += [supply.ends_at, now + LOOK_EVERY] if supply.free > 0 else [supply.ends_at]
    return min(moments, default=None)
