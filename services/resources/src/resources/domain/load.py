"""The catalogue load: a partner's products, read as a whole before anything of them is applied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate, Invalid, InvalidTransition

from resources.domain import load_facts as facts
from resources.domain.load_terms import (
    LOAD_ALLOWED,
    LOAD_OVER,
    LoadId,
    LoadMode,
    LoadStatus,
    Outcome,
    Payload,
    Survey,
)
from resources.domain.terms import NO_ORGANIZATION, OrganizationId, UserId


@dataclass
class CatalogueLoad(Aggregate):
    """`received → validating → ready | awaiting_confirmation → applying → applied | applied_with_errors`.

    People's commands are refused with an error in the wrong state; those of workers record nothing when they come late,
    for two workers may have had the same load.
    """

    organization_id: OrganizationId = NO_ORGANIZATION
    cnpj: str = ""
    mode: LoadMode = LoadMode.DELTA
    payload: Payload | None = None
    sequence: int | None = None
    status: LoadStatus = LoadStatus.RECEIVED
    survey: Survey | None = None
    outcome: Outcome | None = None
    received_at: datetime | None = None
    confirm_by: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    row: int | None = None
    offset: int | None = None

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now."""
        return LOAD_ALLOWED[self.status]

    @property
    def is_over(self) -> bool:
        """Nothing more happens to it by itself."""
        return self.status in LOAD_OVER

    @classmethod
    def receive(
        cls, load_id: LoadId, *, organization_id: OrganizationId, cnpj: str, mode: LoadMode, payload: Payload,
        sequence: int | None, received_by: UserId, now: datetime,
    ) -> Self:  # fmt: skip
        """A payload that is safe in the object store."""
        load = cls(id=load_id)
        load.record(
            facts.CatalogueLoadReceived(
                organization_id=organization_id,
                cnpj=cnpj,
                mode=mode,
                payload=payload,
                sequence=sequence,
                received_by=received_by,
                received_at=now,
            )
        )
        return load

    # -- what workers find ---------------------------------------------------------------------------------------------

    def begin(self, *, now: datetime) -> None:
        """A worker reads it; another that was killed may have begun before."""
        if self.status is LoadStatus.RECEIVED:
            self.record(facts.CatalogueLoadValidating(validating_at=now))

    def surveyed(self, survey: Survey, *, confirm_by: datetime, now: datetime) -> None:
        """All of it was read: it is ready, unless it takes so much away that a person has to say yes."""
        if survey.rows != survey.accepted + survey.duplicates + survey.rejected:
            raise Invalid("every row is accepted, a duplicate or rejected")
        if self.status is not LoadStatus.VALIDATING:
            return
        if self.mode is LoadMode.FULL and survey.needs_confirmation:
            self.record(facts.CatalogueLoadAwaitingConfirmation(survey=survey, confirm_by=confirm_by, awaiting_at=now))
        else:
            self.record(facts.CatalogueLoadReady(survey=survey, ready_at=now))

    def reject(self, *, reason: str, row: int | None, offset: int | None, now: datetime) -> None:
        """It cannot be read; nothing of it was applied, and nothing will be."""
        if self.status is LoadStatus.VALIDATING:
            self.record(facts.CatalogueLoadRejected(reason=reason, row=row, offset=offset, rejected_at=now))

    def start(self, *, now: datetime) -> None:
        """Its turn has come."""
        if self.status is LoadStatus.READY:
            self.record(facts.CatalogueLoadStarted(started_at=now))

    def finish(self, outcome: Outcome, *, now: datetime) -> None:
        """Every chunk was applied or failed, and a FULL has deactivated what it lacks."""
        if self.status is LoadStatus.APPLYING:
            self.record(facts.CatalogueLoadApplied(outcome=outcome, applied_at=now))

    def fail(self, *, reason: str, now: datetime) -> None:
        """It cannot be finished, through no fault of the partner."""
        if not self.is_over:
            self.record(facts.CatalogueLoadFailed(reason=reason, failed_at=now))

    def lapse(self, *, now: datetime) -> None:
        """Nobody confirmed it in time: those behind it have waited long enough."""
        if self.status is LoadStatus.AWAITING_CONFIRMATION and self.confirm_by is not None and self.confirm_by <= now:
            self.record(
                facts.CatalogueLoadCancelled(reason="not-confirmed-in-time", cancelled_by=None, cancelled_at=now)
            )

    # -- what people say -----------------------------------------------------------------------------------------------

    def confirm(self, *, confirmed_by: UserId, now: datetime) -> None:
        """What it takes away is meant."""
        self._require("confirm")
        self.record(facts.CatalogueLoadConfirmed(confirmed_by=confirmed_by, confirmed_at=now))

    def cancel(self, *, reason: str, cancelled_by: UserId, now: datetime) -> None:
        """It is not wanted any more; nothing of it was applied yet."""
        self._require("cancel")
        self.record(facts.CatalogueLoadCancelled(reason=reason, cancelled_by=cancelled_by, cancelled_at=now))

    def retry(self, *, retried_by: UserId | None, now: datetime) -> None:
        """Chunks that failed are tried again."""
        self._require("retry")
        self.record(facts.CatalogueLoadRetried(retried_by=retried_by, retried_at=now))

    def _require(self, command: str) -> None:
        if command not in self.allowed:
            raise InvalidTransition(status=self.status, allowed=self.allowed)

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_CatalogueLoadReceived(self, event: facts.CatalogueLoadReceived) -> None:  # noqa: N802
        self.organization_id, self.cnpj, self.mode = event.organization_id, event.cnpj, event.mode
        self.payload, self.sequence, self.received_at = event.payload, event.sequence, event.received_at

    def _on_CatalogueLoadValidating(self, _event: facts.CatalogueLoadValidating) -> None:  # noqa: N802
        self.status = LoadStatus.VALIDATING

    def _on_CatalogueLoadReady(self, event: facts.CatalogueLoadReady) -> None:  # noqa: N802
        self.status, self.survey = LoadStatus.READY, event.survey

    def _on_CatalogueLoadAwaitingConfirmation(self, event: facts.CatalogueLoadAwaitingConfirmation) -> None:  # noqa: N802
        self.status, self.survey = LoadStatus.AWAITING_CONFIRMATION, event.survey
        self.confirm_by = event.confirm_by

    def _on_CatalogueLoadConfirmed(self, _event: facts.CatalogueLoadConfirmed) -> None:  # noqa: N802
        self.status, self.confirm_by = LoadStatus.READY, None

    def _on_CatalogueLoadStarted(self, event: facts.CatalogueLoadStarted) -> None:  # noqa: N802
        self.status, self.started_at = LoadStatus.APPLYING, event.started_at

    def _on_CatalogueLoadApplied(self, event: facts.CatalogueLoadApplied) -> None:  # noqa: N802
        failed = event.outcome.failed_chunks > 0
        self.status = LoadStatus.APPLIED_WITH_ERRORS if failed else LoadStatus.APPLIED
        self.outcome, self.ended_at = event.outcome, event.applied_at

    def _on_CatalogueLoadRetried(self, event: facts.CatalogueLoadRetried) -> None:  # noqa: N802
        self.status, self.started_at, self.ended_at = LoadStatus.APPLYING, event.retried_at, None

    def _on_CatalogueLoadRejected(self, event: facts.CatalogueLoadRejected) -> None:  # noqa: N802
        self.status, self.ended_at = LoadStatus.REJECTED, event.rejected_at
        self.reason, self.row, self.offset = event.reason, event.row, event.offset

    def _on_CatalogueLoadFailed(self, event: facts.CatalogueLoadFailed) -> None:  # noqa: N802
        self.status, self.reason, self.ended_at = LoadStatus.FAILED, event.reason, event.failed_at

    def _on_CatalogueLoadCancelled(self, event: facts.CatalogueLoadCancelled) -> None:  # noqa: N802
        self.status, self.reason, self.ended_at = LoadStatus.CANCELLED, event.reason, event.cancelled_at
