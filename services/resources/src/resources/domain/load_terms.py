"""The words of catalogue loads: states, modes, counts, and the one threshold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType
from uuid import UUID

LoadId = NewType("LoadId", UUID)

CONFIRM_PERCENT = 20  # a FULL that would deactivate a greater share of the active products waits for a person


class LoadMode(StrEnum):
    """FULL is the whole catalogue: what it lacks becomes inactive. DELTA is changes: it never deactivates."""

    FULL = "FULL"
    DELTA = "DELTA"


class LoadStatus(StrEnum):
    """Where a load is in its life."""

    RECEIVED = "received"
    VALIDATING = "validating"
    READY = "ready"
    AWAITING_CONFIRMATION = "awaiting_confirmation"
    APPLYING = "applying"
    APPLIED = "applied"
    APPLIED_WITH_ERRORS = "applied_with_errors"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


LOAD_ALLOWED: dict[LoadStatus, list[str]] = {
    LoadStatus.RECEIVED: ["cancel"],
    LoadStatus.VALIDATING: ["cancel"],
    LoadStatus.READY: ["cancel"],
    LoadStatus.AWAITING_CONFIRMATION: ["confirm", "cancel"],
    LoadStatus.APPLYING: [],
    LoadStatus.APPLIED: [],
    LoadStatus.APPLIED_WITH_ERRORS: ["retry"],
    LoadStatus.REJECTED: [],
    LoadStatus.FAILED: [],
    LoadStatus.CANCELLED: [],
}
LOAD_OVER = frozenset({
    LoadStatus.APPLIED, LoadStatus.APPLIED_WITH_ERRORS, LoadStatus.REJECTED, LoadStatus.FAILED, LoadStatus.CANCELLED,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What was sent: how it is read, and what tells it apart from another."""

    object_key: str
    media_type: str
    content_encoding: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the payload holds, and what applying it would mean: counted before anything is applied.

    `rows = accepted + duplicates + rejected`; `active` are the company's active products, `missing` those of them that
    the payload lacks.
    """

    rows: int
    accepted: int
    duplicates: int
    rejected: int
    chunks: int
    active: int = 0
    missing: int = 0

    @property
    def needs_confirmation(self) -> bool:
        """A FULL of this would take away more than anybody takes away by routine; or it is empty, which nobody means."""
        return self.accepted == 0 or self.missing * 100 > self.active * CONFIRM_PERCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What applying did: each accepted row was inserted, updated or unchanged, unless its chunk failed."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deactivated: int = 0
    failed_chunks: int = 0
