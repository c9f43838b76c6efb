"""What endpoints are made of: what they listen to, the secrets that sign, and what a partner chooses."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

from webhooks.domain.refusals import InvalidEndpoint, InvalidEventType, InvalidOverlap, TooManySecrets

EndpointId = NewType("EndpointId", UUID)
OrganizationId = NewType("OrganizationId", UUID)

EVENT_TYPES_MAX = 100  # a filter list is compared on every event
EVENT_TYPE_CHARS_MAX = 200
PARTIES_MAX = 100  # compared on every event too
DESCRIPTION_CHARS_MAX = 500
RATE_PER_S_MAX = 1000
TIMEOUT_S_DEFAULT = 15
TIMEOUT_S_MAX = 30
RETRIES_MAX = 20
RETRY_S_MAX = 86_400  # so that a gap longer than this and a fifth means that nothing was tried
OVERLAP_DEFAULT = timedelta(hours=24)
OVERLAP_MAX = timedelta(days=7)
OLD_SECRETS_MAX = 10  # each adds a signature to every request

_EVENT_TYPE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*", re.ASCII)


class EndpointStatus(StrEnum):
    """Where an endpoint stands: `active ⇄ paused`, `failing → disabled`; deleted is the end."""

    ACTIVE = "active"
    PAUSED = "paused"
    FAILING = "failing"
    DISABLED = "disabled"
    DELETED = "deleted"


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
        return not self.patterns or self.names(event_type)

    def names(self, event_type: str) -> bool:
        """Whether this type is asked for; who wants every type has not named it."""
        return any(_covers(pattern, event_type) for pattern in self.patterns)

    @staticmethod
    def covering(event_type: str) -> list[str]:
        """Every pattern that fits an event type."""
        parts = event_type.split(".")
        return [event_type, *(".".join([*parts[:count], "*"]) for count in range(1, len(parts)))]

    def require_known(self, published: Collection[str]) -> None:
        """Refuse a pattern that fits no published type: most likely a slip, and it would never hear anything."""
        for index, pattern in enumerate(self.patterns):
            if not any(_covers(pattern, event_type) for event_type in published):
                raise InvalidEventType("no such event type is published", pointer=f"/event_types/{index}")


def _is_pattern(pattern: str) -> bool:
    return len(pattern) <= EVENT_TYPE_CHARS_MAX and _EVENT_TYPE.fullmatch(pattern.removesuffix(".*")) is not None


def _covers(pattern: str, event_type: str) -> bool:
    return event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern


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


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What a partner chooses about an endpoint; the URL was judged by the URL policy before."""

    url: str
    event_types: EventFilter = EventFilter()
    description: str = ""
    rate_per_s: int | None = None
    ordered: bool = False
    timeout_s: int = TIMEOUT_S_DEFAULT
    retry_schedule_s: tuple[int, ...] | None = None  # instead of the service's own; empty means one attempt
    parties: tuple[UUID, ...] = ()  # none at all means events with whomever
    ed25519: bool = False  # sign with the public key scheme as well

    def __post_init__(self) -> None:
        """Refuse what is out of bounds with InvalidEndpoint."""
        if len(self.description) > DESCRIPTION_CHARS_MAX:
            raise InvalidEndpoint(f"at most {DESCRIPTION_CHARS_MAX} characters", pointer="/description")
        if self.rate_per_s is not None and not 1 <= self.rate_per_s <= RATE_PER_S_MAX:
            raise InvalidEndpoint(f"between 1 and {RATE_PER_S_MAX}", pointer="/rate_per_s")
        if not 1 <= self.timeout_s <= TIMEOUT_S_MAX:
            raise InvalidEndpoint(f"between 1 and {TIMEOUT_S_MAX}", pointer="/timeout_s")
        steps = self.retry_schedule_s or ()
        if len(steps) > RETRIES_MAX or not all(1 <= step <= RETRY_S_MAX for step in steps):
            raise InvalidEndpoint(
                f"at most {RETRIES_MAX} waits of 1 to {RETRY_S_MAX} seconds", pointer="/retry_schedule_s"
            )
        if len(self.parties) > PARTIES_MAX:
            raise InvalidEndpoint(f"at most {PARTIES_MAX} parties", pointer="/parties")

    def wants(self, event_type: str, concerned: Collection[UUID]) -> bool:
        """Whether an event of this type, which concerns these organizations, is wanted."""
        return self.event_types.matches(event_type) and (
            not self.parties or not set(concerned).isdisjoint(self.parties)
        )
