"""Jobs that partners started: how far one is, and how to stop it."""

from __future__ import annotations

from uuid import UUID

from chassis.job_routes import JobOut
from chassis.routing import Tx, api_router

from webhooks import usecases
from webhooks.api.callers import Manager

router = api_router("webhooks")


@router.get("/v1/jobs/{job_id}", operation_id="get_job")
async def get_job(job_id: UUID, tx: Tx, principal: Manager) -> JobOut:
    """How far a recovery is: `done` of `total` messages are on their way again; while they are counted the total grows."""
    return JobOut.model_validate(dict(await usecases.recovery_job(tx, principal, job_id)))


@router.post("/v1/jobs/{job_id}/cancel", operation_id="cancel_job")
async def cancel_job(job_id: UUID, tx: Tx, principal: Manager) -> JobOut:
    """Send nothing more of it; what is on its way already goes out."""
    return JobOut.model_validate(dict(await usecases.cancel_own_recovery(tx, principal, job_id)))
