"""Jobs for operators, of whatever kind: how far one is, and how to stop it, under `/v1/ops/<service>`."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from fastapi import APIRouter

from chassis import generations, jobs, redrive
from chassis.database import Row, Transaction
from chassis.routing import Admin, Now, Tx, api_router
from chassis.wire import View

if TYPE_CHECKING:
    from chassis.app import Runtime


class Cancel(Protocol):
    """Stops a job of one kind; returns it."""

    def __call__(self, tx: Transaction, job_id: UUID, *, actor_id: UUID, now: datetime) -> Awaitable[Row]: ...


CANCELS: dict[str, Cancel] = {redrive.KIND: redrive.cancel, generations.KIND: generations.cancel}


class JobOut(View):
    """A job's progress; `done` counts messages: given back to their queue, taken into a projection, or sent again."""

    id: UUID
    kind: str
    status: Literal["running", "done", "cancelled", "failed"]
    done: int
    total: int
    error: str | None


def job_routes(runtime: Runtime) -> APIRouter:
    """For admins."""
    router, name = api_router("operations"), runtime.service.name
    cancels = {**CANCELS, **runtime.service.job_cancels}
    base = f"/v1/ops/{name}/jobs/{{job_id}}"

    @router.get(base, operation_id=f"ops_{name}_get_job")
    async def get_job(admin: Admin, tx: Tx, job_id: UUID) -> JobOut:
        """How far it is."""
        return JobOut.model_validate(dict(await jobs.job(tx, job_id)))

    @router.post(f"{base}/cancel", operation_id=f"ops_{name}_cancel_job")
    async def cancel_job(admin: Admin, tx: Tx, now: Now, job_id: UUID) -> JobOut:
        """Stop what is not done yet: unsent dead letters are open again, a half-built projection is thrown away."""
        kind = (await jobs.job(tx, job_id))["kind"]
        return JobOut.model_validate(dict(await cancels[kind](tx, job_id, actor_id=admin.id, now=now)))

    return router
