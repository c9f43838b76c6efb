"""Endpoints of partners, what they want to hear, and when a delivery is tried again; told the time, never asking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

from chassis.kernel import Aggregate, Conflict, Invalid, InvalidTransition

EndpointId = NewType("EndpointId", UUID)
OrganizationId = NewType("OrganizationId", UUID)

EVENT_TYPES_MAX = 100  # a filter list is compared on every event
EVENT_TYPE_CHARS_MAX = 200
DESCRIPTION_CHARS_MAX = 500
RATE_PER_S_MAX = 1000
TIMEOUT_S_DEFAULT = 15
OVERLAP_DEFAULT = timedelta(hours=24)
OVERLAP_MAX = timedelta(days=7)
OLD_SECRETS_MAX = 10  # each adds a signature to every request

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
HINTING_STATUSES = frozenset({429, 503})
GONE = 410

_EVENT_TYPE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*", re.ASCII)


class InvalidEventType(Invalid):
    """A filter is neither a full event type nor a prefix ending in `.*`."""

    slug = "invalid-event-type"


class InvalidEndpoint(Invalid):
    """A property of an endpoint is outside its bounds."""

    slug = "invalid-endpoint"


class InvalidOverlap(Invalid):
    """An old secret stays valid for 0 to 7 days."""

    slug = "invalid-overlap"


class TooManySecrets(Conflict):
    """Ten old secrets are still valid; one has to run out before the next rotation."""

    slug = "too-many-secrets"


class EndpointStatus(StrEnum):
    """Where an endpoint stands: `active ⇄ paused`, `failing → disabled`; deleted is the end."""

    ACTIVE = "active"
    PAUSED = "paused"
    FAILING = "failing"
    DISABLED = "disabled"
    DELETED = "deleted"


# ---------------------------------------------------------------- what an endpoint listens to


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The event types an endpoint wants: full types, prefixes ending in `.*`; none at all means every type."""

    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, patterns: Sequence[str]) -> EventFilter:
        """A filter of these patterns without repetitions; raises InvalidEventType."""
        unique = tuple(dict.fromkeys(patterns))
        if len(unique) > EVENT_TYPES_MAX:
            raise InvalidEventType(f"at most {EVENT_TYPES_MAX} event types", pointer="/event_types")
        for index, pattern in enumerate(patterns):
            if not _is_pattern(pattern):
                raise InvalidEventType(
                    "an event type, or a prefix ending in .*; leave the list empty for all",
                    pointer=f"/event_types/{index}",
                )
        return cls(unique)

    def matches(self, event_type: str) -> bool:
        """Whether an event of this type is wanted; a prefix matches at a dot only."""
        return not self.patterns or any(_covers(pattern, event_type) for pattern in self.patterns)


def _is_pattern(pattern: str) -> bool:
    return len(pattern) <= EVENT_TYPE_CHARS_MAX and _EVENT_TYPE.fullmatch(pattern.removesuffix(".*")) is not None


def _covers(pattern: str, event_type: str) -> bool:
    return event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern


# ---------------------------------------------------------------- secrets


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret in sealed form, never in clear; `expires_at` is None for the newest one."""

    sealed: str
    created_at: datetime
    expires_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it still signs."""
        return self.expires_at is None or now < self.expires_at


def rotated(
    secrets: Sequence[SigningSecret], *, sealed: str, now: datetime, overlap: timedelta = OVERLAP_DEFAULT
) -> tuple[SigningSecret, ...]:
    """The secrets after a rotation, newest first: the former newest signs on for the overlap, the expired are gone."""
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise InvalidOverlap("between 0 and 7 days", pointer="/overlap_s")
    old = tuple(
        replace(secret, expires_at=now + overlap) if secret.expires_at is None else secret for secret in secrets
    )
    kept = tuple(secret for secret in old if secret.is_valid(now))
    if len(kept) > OLD_SECRETS_MAX:
        raise TooManySecrets(f"{OLD_SECRETS_MAX} old secrets are still valid")
    return (SigningSecret(sealed, now), *kept)


# ---------------------------------------------------------------- the endpoint


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What a partner chooses about an endpoint; the URL was judged by the URL policy before."""

    url: str
    event_types: EventFilter = EventFilter()
    description: str = ""
    rate_per_s: int | None = None
    ordered: bool = False
    timeout_s: int = TIMEOUT_S_DEFAULT

    def __post_init__(self) -> None:
        """Refuse what is out of bounds with InvalidEndpoint."""
        if len(self.description) > DESCRIPTION_CHARS_MAX:
            raise InvalidEndpoint(f"at most {DESCRIPTION_CHARS_MAX} characters", pointer="/description")
        if self.rate_per_s is not None and not 1 <= self.rate_per_s <= RATE_PER_S_MAX:
            raise InvalidEndpoint(f"between 1 and {RATE_PER_S_MAX}", pointer="/rate_per_s")
        if not 1 <= self.timeout_s <= 2 * TIMEOUT_S_DEFAULT:
            raise InvalidEndpoint(f"between 1 and {2 * TIMEOUT_S_DEFAULT}", pointer="/timeout_s")


@dataclass(frozen=True, slots=True)
class EndpointCreated:
    """A partner registered an endpoint."""

    organization_id: UUID
    settings: EndpointSettings
    secrets: tuple[SigningSecret, ...]


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    """The settings are these from now on."""

    settings: EndpointSettings


@dataclass(frozen=True, slots=True)
class EndpointSecretRotated:
    """These secrets sign from now on, newest first."""

    secrets: tuple[SigningSecret, ...]


@dataclass(frozen=True, slots=True)
class EndpointPaused:
    """The partner asked to hold events back."""


@dataclass(frozen=True, slots=True)
class EndpointEnabled:
    """Held and new events go out (again)."""


@dataclass(frozen=True, slots=True)
class EndpointFailing:
    """Deliveries fail for so long that the partner ought to know."""

    since: datetime


@dataclass(frozen=True, slots=True)
class EndpointRecovered:
    """A failing endpoint accepted a delivery."""


@dataclass(frozen=True, slots=True)
class EndpointDisabled:
    """Nothing is sent any more until somebody enables it; `reason` is a slug such as `gone`."""

    reason: str


@dataclass(frozen=True, slots=True)
class EndpointDeleted:
    """The partner removed it."""


_UNKNOWN = UUID(int=0)  # until the first event is folded in
_DELIVERING = frozenset({EndpointStatus.ACTIVE, EndpointStatus.FAILING})


@dataclass
class Endpoint(Aggregate):
    """Where a partner wants to hear from us, and whether we may send there now."""

    organization_id: UUID = _UNKNOWN
    settings: EndpointSettings = EndpointSettings(url="")
    secrets: tuple[SigningSecret, ...] = ()
    status: EndpointStatus = EndpointStatus.ACTIVE
    failing_since: datetime | None = None
    disabled_reason: str | None = None

    @classmethod
    def create(
        cls,
        endpoint_id: EndpointId,
        *,
        organization_id: OrganizationId,
        settings: EndpointSettings,
        sealed_secret: str,
        now: datetime,
    ) -> Endpoint:
        """A new active endpoint with one secret."""
        endpoint = cls(id=endpoint_id)
        endpoint.record(EndpointCreated(organization_id, settings, (SigningSecret(sealed_secret, now),)))
        return endpoint

    def can_deliver(self) -> bool:
        """Whether messages go out now."""
        return self.status in _DELIVERING

    def holds_messages(self) -> bool:
        """Whether messages are kept until it is enabled again."""
        return self.status in {EndpointStatus.PAUSED, EndpointStatus.DISABLED}

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type becomes a message here, now or held."""
        return self.status is not EndpointStatus.DELETED and self.settings.event_types.matches(event_type)

    def valid_secrets(self, now: datetime) -> tuple[SigningSecret, ...]:
        """The secrets that sign a request made now, newest first."""
        return tuple(secret for secret in self.secrets if secret.is_valid(now))

    def change(self, settings: EndpointSettings) -> None:
        """Use other settings; the same settings change nothing."""
        self._require_alive()
        if settings != self.settings:
            self.record(EndpointChanged(settings))

    def rotate_secret(self, sealed: str, *, now: datetime, overlap: timedelta = OVERLAP_DEFAULT) -> None:
        """Sign with a new secret, and with the old one as well until the overlap is over."""
        self._require_alive()
        self.record(EndpointSecretRotated(rotated(self.secrets, sealed=sealed, now=now, overlap=overlap)))

    def pause(self) -> None:
        """Hold messages back until enabled."""
        if self.status not in _DELIVERING:
            raise InvalidTransition(status=self.status, allowed=self._allowed())
        self.record(EndpointPaused())

    def enable(self) -> None:
        """Deliver again, what was held included; nothing changes while it is active."""
        self._require_alive()
        if self.status is not EndpointStatus.ACTIVE:
            self.record(EndpointEnabled())

    def mark_failing(self, now: datetime) -> None:
        """Note that deliveries keep failing; a repetition keeps the first time."""
        if self.status is EndpointStatus.ACTIVE:
            self.record(EndpointFailing(now))

    def mark_recovered(self) -> None:
        """Note that a delivery succeeded; says nothing unless it was failing."""
        if self.status is EndpointStatus.FAILING:
            self.record(EndpointRecovered())

    def disable(self, reason: str) -> None:
        """Stop sending, by ourselves; a paused endpoint stays as its partner left it."""
        if self.status in _DELIVERING:
            self.record(EndpointDisabled(reason))

    def delete(self) -> None:
        """Remove it for good."""
        self._require_alive()
        self.record(EndpointDeleted())

    def _require_alive(self) -> None:
        if self.status is EndpointStatus.DELETED:
            raise InvalidTransition(status=self.status, allowed=[])

    def _allowed(self) -> list[str]:
        if self.status is EndpointStatus.DELETED:
            return []
        return ["pause", "delete"] if self.can_deliver() else ["enable", "delete"]

    def _on_EndpointCreated(self, event: EndpointCreated) -> None:  # noqa: N802 - named after the event
        self.organization_id, self.settings, self.secrets = event.organization_id, event.settings, event.secrets

    def _on_EndpointChanged(self, event: EndpointChanged) -> None:  # noqa: N802 - named after the event
        self.settings = event.settings

    def _on_EndpointSecretRotated(self, event: EndpointSecretRotated) -> None:  # noqa: N802 - named after the event
        self.secrets = event.secrets

    def _on_EndpointPaused(self, _: EndpointPaused) -> None:  # noqa: N802 - named after the event
        self.status = EndpointStatus.PAUSED

    def _on_EndpointEnabled(self, _: EndpointEnabled) -> None:  # noqa: N802 - named after the event
        self._become_healthy()

    def _on_EndpointFailing(self, event: EndpointFailing) -> None:  # noqa: N802 - named after the event
        self.status, self.failing_since = EndpointStatus.FAILING, event.since

    def _on_EndpointRecovered(self, _: EndpointRecovered) -> None:  # noqa: N802 - named after the event
        self._become_healthy()

    def _on_EndpointDisabled(self, event: EndpointDisabled) -> None:  # noqa: N802 - named after the event
        self.status, self.disabled_reason = EndpointStatus.DISABLED, event.reason

    def _on_EndpointDeleted(self, _: EndpointDeleted) -> None:  # noqa: N802 - named after the event
        self.status, self.secrets = EndpointStatus.DELETED, ()

    def _become_healthy(self) -> None:
        self.status, self.failing_since, self.disabled_reason = EndpointStatus.ACTIVE, None, None


# ---------------------------------------------------------------- attempts and retries


class Outcome(StrEnum):
    """How one attempt ended: accepted, not accepted or not answered, or not even sent."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one POST came to.

    `error` is None when an answer was read, else one of dns, connect, tls, timeout, url-not-allowed, too-large,
    protocol, closed. The head and body are what was read, bounded; `response_truncated` tells that more was coming.
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


class MessageStatus(StrEnum):
    """Where a message for one endpoint stands: `pending → delivering → delivered | retrying → exhausted`."""

    PENDING = "pending"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    RETRYING = "retrying"
    EXHAUSTED = "exhausted"


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
    if attempts_made > len(schedule):
        return Decision(MessageStatus.EXHAUSTED)
    wait = max(schedule[attempts_made - 1], _hint(attempt))
    return Decision(MessageStatus.RETRYING, next_at=now + wait * (1 + jitter))


def _hint(attempt: Attempt) -> timedelta:
    if attempt.retry_after_s is None or attempt.status not in HINTING_STATUSES:
        return timedelta(0)
    return min(timedelta(seconds=attempt.retry_after_s), RETRY_HINT_MAX)
