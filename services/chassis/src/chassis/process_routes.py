"""Process managers for operators: what runs, what each did, and what is late, under `/v1/ops/<service>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from chassis import processes
from chassis.pagination import Page, PageAsked
from chassis.routing import Admin, Tx, api_router
from chassis.wire import UtcMoment, View

if TYPE_CHECKING:
    from chassis.app import Runtime

Status = Literal["running", "done", "compensated"]
KindName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class StepOut(View):
    """Something the process did."""

    name: str
    at: UtcMoment
    note: dict[str, Any]


class ProcessOut(View):
    """One run of a process manager about `key`; `outcome` says why it ended."""

    id: UUID
    kind: str
    key: UUID
    run: int
    status: Status
    state: dict[str, Any]
    steps: list[StepOut]
    deadline: UtcMoment | None
    correlation_id: str
    outcome: str | None
    version: int
    started_at: UtcMoment
    changed_at: UtcMoment


def process_routes(runtime: Runtime) -> APIRouter:
    """One list, for admins."""
    name = runtime.service.name
    router = api_router("operations")

    @router.get(f"/v1/ops/{name}/processes", operation_id=f"ops_{name}_list_processes")
    async def list_processes(
        admin: Admin,
        tx: Tx,
        paging: PageAsked,
        status: Annotated[list[Status] | None, Query(max_length=3)] = None,
        kind: KindName | None = None,
        key: UUID | None = None,
        late: Annotated[Literal["true", "false"], Query(description="only what should have gone on a minute ago")] = (
            "false"
        ),
    ) -> Page[ProcessOut]:
        """The newest first."""
        before = None if paging.position is None else UUID(paging.position[0])
        rows = await processes.many(
            tx, status=status or (), kind=kind, key=key, late=late == "true", before=before, limit=paging.limit
        )
        shown = [ProcessOut.model_validate(dict(row)) for row in rows]
        return paging.page(shown, [[str(item.id)] for item in shown])

    return router
