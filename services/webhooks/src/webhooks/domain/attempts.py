"""Messages, the attempts to deliver them, and when a delivery is tried again; told the time and the jitter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

RETRY_SCHEDULE: tuple[timedelta, ...] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER_MAX = 0.2
RETRY_HINT_MAX = timedelta(hours=24)  # a receiver may slow us down, not put us off for good
PAYLOAD_BYTES_MAX = 256 * 1024
TOO_LARGE = "payload-too-large"
HINTING_STATUSES = frozenset({429, 503})
GONE = 410


class Outcome(StrEnum):
    """How one attempt ended: accepted, not accepted or not answered, or not even sent."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one POST came to.

    `error` is None when an answer was read, else one of dns, connect, tls, timeout, url-not-allowed, too-large,
    protocol, closed; payload-too-large when it was not even tried.
    The head and body are what was read, bounded; `response_truncated` tells that more was coming.
    `retry_after_s` is set for 429 and 503 with a readable hint.
    """

    outcome: Outcome
    duration_ms: int
    status: int | None = None
    error: str | None = None
    detail: str = ""
    response_head: tuple[tuple[str, str], ...] = ()
    response_body: bytes = b""
    response_truncated: bool = False
    retry_after_s: int | None = None

    @property
    def tells_of_the_receiver(self) -> bool:
        """Whether it says anything about the endpoint: an event that is too large says nothing."""
        return self.error != TOO_LARGE


def too_large(body_bytes: int) -> Attempt:
    """What comes of an event that is larger than receivers have to take: nothing is sent, and the log says why."""
    detail = f"the event has {body_bytes} bytes, of which at most {PAYLOAD_BYTES_MAX} are sent"
    return Attempt(Outcome.REFUSED, 0, error=TOO_LARGE, detail=detail)


class MessageStatus(StrEnum):
    """Where a message for one endpoint stands: `pending → delivering → delivered | retrying → exhausted`.

    `held` until its paused or disabled endpoint is enabled; `cancelled` when the endpoint was deleted first.
    """

    PENDING = "pending"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    RETRYING = "retrying"
    EXHAUSTED = "exhausted"
    HELD = "held"
    CANCELLED = "cancelled"

    @property
    def can_be_retried(self) -> bool:
        """Whether a partner may ask for one more attempt now: not while one is due or under way anyway."""
        return self in {MessageStatus.RETRYING, MessageStatus.EXHAUSTED, MessageStatus.DELIVERED}


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an attempt; `next_at` is set while retrying, `disable_endpoint` when the receiver is gone."""

    status: MessageStatus
    next_at: datetime | None = None
    disable_endpoint: bool = False


def is_success(status: int) -> bool:
    """Whether a response accepts the message: 2xx and nothing else, redirects included."""
    return 200 <= status <= 299


def next_attempt(
    attempts_made: int,
    attempt: Attempt,
    now: datetime,
    jitter: float,
    *,
    schedule: Sequence[timedelta] = RETRY_SCHEDULE,
) -> Decision:
    """What follows after the `attempts_made`-th attempt, this one included.

    `jitter` (0 to 0.2) lengthens the wait by that fraction and never shortens it. A hint of the receiver counts when
    it is longer than the step, up to 24 h. An empty schedule means one attempt only.
    """
    if attempts_made < 1 or not 0 <= jitter <= JITTER_MAX:
        raise ValueError("one attempt at least, jitter between 0 and 0.2")
    if attempt.outcome is Outcome.DELIVERED:
        return Decision(MessageStatus.DELIVERED)
    if attempt.status == GONE:
        return Decision(MessageStatus.EXHAUSTED, disable_endpoint=True)
    if attempt.error == TOO_LARGE:
        return Decision(MessageStatus.EXHAUSTED)
    if attempts_made > len(schedule):
        return Decision(MessageStatus.EXHAUSTED)
    wait = max(schedule[attempts_made - 1], _hint(attempt))
    return Decision(MessageStatus.RETRYING, next_at=now + wait * (1 + jitter))


def _hint(attempt: Attempt) -> timedelta:
    if attempt.retry_after_s is None or attempt.status not in HINTING_STATUSES:
        return timedelta(0)
    return min(timedelta(seconds=attempt.retry_after_s), RETRY_HINT_MAX)
