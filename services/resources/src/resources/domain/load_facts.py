"""What happens to catalogue loads, as their streams keep it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from resources.domain.load_terms import LoadMode, Outcome, Payload, Survey
from resources.domain.terms import OrganizationId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadReceived:
    """A partner sent a catalogue, and it is safe."""

    organization_id: OrganizationId
    cnpj: str
    mode: LoadMode
    payload: Payload
    sequence: int | None
    received_by: UserId
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadValidating:
    """A worker reads it."""

    validating_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadReady:
    """All of it was read; it is applied when its turn comes."""

    survey: Survey
    ready_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadAwaitingConfirmation:
    """It would deactivate so much that a person has to say yes, by `confirm_by`."""

    survey: Survey
    confirm_by: datetime
    awaiting_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadConfirmed:
    """A person said yes."""

    confirmed_by: UserId
    confirmed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadStarted:
    """It is being applied."""

    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadApplied:
    """Every row that could be applied is; chunks that failed can be tried again."""

    outcome: Outcome
    applied_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadRetried:
    """What failed is tried again."""

    retried_by: UserId | None
    retried_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadRejected:
    """It cannot be read; nothing of it was applied."""

    reason: str
    row: int | None
    offset: int | None
    rejected_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadFailed:
    """It could not be finished, and that is not the partner's fault."""

    reason: str
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLoadCancelled:
    """It was called off before anything of it was applied."""

    reason: str
    cancelled_by: UserId | None
    cancelled_at: datetime


LOAD_EVENTS: dict[str, type] = {
    event.__name__: event
    for event in (
        CatalogueLoadReceived,
        CatalogueLoadValidating,
        CatalogueLoadReady,
        CatalogueLoadAwaitingConfirmation,
        CatalogueLoadConfirmed,
        CatalogueLoadStarted,
        CatalogueLoadApplied,
        CatalogueLoadRetried,
        CatalogueLoadRejected,
        CatalogueLoadFailed,
        CatalogueLoadCancelled,
    )
}
