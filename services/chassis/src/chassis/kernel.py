"""What every domain stands on: kinds of error, the event-sourced aggregate, and time-ordered ids."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from uuid import UUID


class DomainError(Exception):
    """A rule said no; `slug` is the stable problem code, `details` what a caller may be told about it."""

    slug: ClassVar[str] = "domain-error"

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message or self.slug.replace("-", " "))
        self.details = details


class BadRequest(DomainError):
    """The request cannot be read at all, or asks for more than there can ever be: JSON, cursor, header, one key too many."""

    slug = "bad-request"


class NotFound(DomainError):
    """The thing does not exist, or not for this caller."""

    slug = "not-found"


class Conflict(DomainError):
    """The command is well formed but the present state forbids it."""

    slug = "conflict"


class Forbidden(DomainError):
    """The caller sees the thing but may not do this to it."""

    slug = "forbidden"


class Invalid(DomainError):
    """The input cannot be meant; `pointer` in the details says which part."""

    slug = "invalid"


class Locked(DomainError):
    """Too many tries; `retry_after_s` in the details says when to come back."""

    slug = "locked"


class Stale(DomainError):
    """The caller's `If-Match` names an older version than the present one."""

    slug = "stale"


class InvalidTransition(Conflict):
    """The command does not exist in the present state."""

    slug = "invalid-transition"

    def __init__(self, *, status: str, allowed: list[str]) -> None:
        super().__init__(f"not possible while {status}", current_status=status, allowed=allowed)


class ConcurrentUpdate(Conflict):
    """Somebody else changed the same aggregate first; the command may be tried again."""

    slug = "concurrent-update"


@dataclass
class Aggregate:
    """State that changes only by recorded events: `record` decides nothing, `apply` folds one event in.

    A subclass has one `_on_<EventName>` method per event class. `version` counts the events folded so far.
    """

    id: UUID
    version: int = 0

    def __post_init__(self) -> None:
        self.pending: list[Any] = []

    def record(self, event: Any) -> None:
        """Fold the event in and keep it for the repository to append."""
        self.apply(event)
        self.pending.append(event)

    def apply(self, event: Any) -> None:
        """Fold one event in; an unknown event class is an AttributeError."""
        getattr(self, f"_on_{type(event).__name__}")(event)
        self.version += 1

    def expect_version(self, version: int | None) -> None:
        """Raise `Stale` when the caller speaks of another version; None speaks of any."""
        if version is not None and version != self.version:
            raise Stale(version=self.version)

    @classmethod
    def fold(cls, aggregate_id: UUID, events: list[Any]) -> Self:
        """The aggregate as it was after these events."""
        aggregate = cls(id=aggregate_id)
        for event in events:
            aggregate.apply(event)
        return aggregate


# (event name, revision) → what makes stored data of that revision data of the next; it is given a dict of its own.
Upcasters = Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]


def revision_of(event: type) -> int:
    """Which shape of its data an event class has: 1, or what its `stored_revision: ClassVar[int]` says."""
    revision: int = getattr(event, "stored_revision", 1)
    return revision


def stored_type(event: type, revision: int | None = None) -> str:
    """What the store calls it, today or in an earlier revision: `BatchCreated`, from the second on `BatchCreated.r2`."""
    number = revision or revision_of(event)
    return event.__name__ if number == 1 else f"{event.__name__}.r{number}"


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): ids made later sort later, to the millisecond."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return UUID(int=value)
