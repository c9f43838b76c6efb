"""Dead letters for operators: look, plan, then redrive or discard what was planned, under `/v1/ops/<service>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from contracts.topology import queue
from fastapi import APIRouter, Query, Response
from pydantic import Field, StringConstraints

from chassis import deadletters, generations, redrive
from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.deadletters import Chosen, Confirmed
from chassis.job_routes import JobOut
from chassis.pagination import Page, PageAsked
from chassis.projections import queues_of
from chassis.routing import Admin, Now, Tx, api_router
from chassis.wire import Body, Integer, Reason, UtcMoment, View

if TYPE_CHECKING:
    from chassis.app import Runtime

IDS_MAX = 1_000  # more are better named by their fingerprint
LETTERS_MAX = 100_000  # an act is one statement, which must end within the database's timeout
RATE_PER_S_DEFAULT, RATE_PER_S_MAX = 50, 1_000

Status = Literal["open", "redriving", "resolved", "discarded"]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
ConsumerName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class DeadLetterFilter(Body):
    """Which open dead letters: those that fit everything given; nothing given means all."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=IDS_MAX)] | None = None
    fingerprint: Fingerprint | None = None
    consumer: ConsumerName | None = None

    def chosen(self) -> Chosen:
        """The filter alone."""
        return Chosen(self.ids, self.fingerprint, self.consumer)


class DiscardIn(DeadLetterFilter):
    """A plan confirmed: the filter, how many it was about, and why."""

    expected_count: Annotated[Integer, Field(ge=1, le=LETTERS_MAX)]
    reason: Reason

    def by(self, admin: Principal) -> Confirmed:
        """The act as this operator confirmed it."""
        return Confirmed(self.chosen(), self.expected_count, self.reason, admin.id)


class RedriveIn(DiscardIn):
    """A plan confirmed, and how fast to go."""

    rate_per_s: Annotated[Integer, Field(ge=1, le=RATE_PER_S_MAX)] = RATE_PER_S_DEFAULT


class PlanOut(View):
    """The filter as understood; `not_redrivable` of the count can only be discarded."""

    filter: DeadLetterFilter
    count: int
    not_redrivable: int


class Discarded(View):
    """How many were discarded."""

    count: int


class DeadLetterSummary(View):
    """A message that had no effect; `actor` and `note` are who acted on it last, and why."""

    id: UUID
    consumer: str
    queue: str
    message_id: str
    reason: str
    error_type: str
    error_message: str
    fingerprint: str
    attempts: int
    first_failed_at: UtcMoment
    last_failed_at: UtcMoment
    status: Status
    redrives: int
    job_id: UUID | None
    actor: str | None
    note: str | None


class DeadLetter(DeadLetterSummary):
    """A dead letter in full; bytes of the body that are no UTF-8 are shown as U+FFFD."""

    stack: str
    headers: dict[str, Any]
    body: str

    @classmethod
    def of(cls, row: Row) -> Self:
        """From its row."""
        body = row["body"].decode("utf-8", "replace")
        return cls.model_validate({**row, "stack": row["error_stack"], "body": body})


class DeadLetterGroup(View):
    """Dead letters of one fault."""

    fingerprint: str
    consumer: str
    error_type: str
    count: int
    first_failed_at: UtcMoment
    last_failed_at: UtcMoment
    sample_message: str


def dead_letter_routes(runtime: Runtime) -> APIRouter:
    """Every route here is for admins, and every act leaves a row in `operator_acts`."""
    router = api_router("operations")
    _add_views(router, runtime.service.name)
    _add_acts(router, runtime)
    return router


def _add_views(router: APIRouter, name: str) -> None:
    base = f"/v1/ops/{name}/dead-letters"

    @router.get(base, operation_id=f"ops_{name}_list_dead_letters")
    async def list_dead_letters(
        admin: Admin,
        tx: Tx,
        paging: PageAsked,
        status: Annotated[list[Status] | None, Query()] = None,
        consumer: ConsumerName | None = None,
        fingerprint: Fingerprint | None = None,
    ) -> Page[DeadLetterSummary]:
        """The newest first, whatever their status unless one is asked for."""
        before = None if paging.position is None else UUID(paging.position[0])
        rows = await deadletters.many(
            tx, status=status or (), consumer=consumer, fingerprint=fingerprint, before=before, limit=paging.limit
        )
        shown = [DeadLetterSummary.model_validate(dict(row)) for row in rows]
        return paging.page(shown, [[str(item.id)] for item in shown])

    @router.get(f"{base}/groups", operation_id=f"ops_{name}_group_dead_letters")
    async def group_dead_letters(
        admin: Admin,
        tx: Tx,
        paging: PageAsked,
        status: Annotated[list[Status] | None, Query()] = None,
        consumer: ConsumerName | None = None,
    ) -> Page[DeadLetterGroup]:
        """One item per fault, open ones unless another status is asked for."""
        after = None if paging.position is None else str(paging.position[0])
        rows = await deadletters.groups(
            tx, status=status or ("open",), consumer=consumer, after=after, limit=paging.limit
        )
        shown = [DeadLetterGroup.model_validate(dict(row)) for row in rows]
        return paging.page(shown, [[item.fingerprint] for item in shown])

    @router.get(f"{base}/{{dead_letter_id}}", operation_id=f"ops_{name}_get_dead_letter")
    async def get_dead_letter(admin: Admin, tx: Tx, dead_letter_id: UUID) -> DeadLetter:
        """With its stack, headers and body."""
        return DeadLetter.of(await deadletters.one(tx, dead_letter_id))


def _add_acts(router: APIRouter, runtime: Runtime) -> None:
    name = runtime.service.name
    base = f"/v1/ops/{name}/dead-letters"

    async def queues(tx: Transaction) -> list[str]:
        return [queue(name, each.name) for each in queues_of(runtime.consumers, await generations.all_of(tx))]

    @router.post(f"{base}/plan", operation_id=f"ops_{name}_plan_dead_letters")
    async def plan_dead_letters(admin: Admin, tx: Tx, body: DeadLetterFilter) -> PlanOut:
        """How many a redrive or discard with this filter would be about; changes nothing."""
        row = await deadletters.plan(tx, body.chosen(), queues=await queues(tx))
        return PlanOut(filter=body, count=row["count"], not_redrivable=row["not_redrivable"])

    @router.post(f"{base}/redrive", operation_id=f"ops_{name}_redrive_dead_letters", status_code=202)
    async def redrive_dead_letters(admin: Admin, tx: Tx, now: Now, body: RedriveIn, response: Response) -> JobOut:
        """Give the planned messages back to the queues they came from, as a job."""
        row = await redrive.start(tx, body.by(admin), rate_per_s=body.rate_per_s, queues=await queues(tx), now=now)
        response.headers["Location"] = f"/v1/ops/{name}/jobs/{row['id']}"
        return JobOut.model_validate(dict(row))

    @router.post(f"{base}/discard", operation_id=f"ops_{name}_discard_dead_letters")
    async def discard_dead_letters(admin: Admin, tx: Tx, now: Now, body: DiscardIn) -> Discarded:
        """Close the planned messages without an effect; they stay readable."""
        return Discarded(count=await deadletters.discard(tx, body.by(admin), now=now))
