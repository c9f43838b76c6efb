"""What operators ask of a running service, under `/v1/ops/<service>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.topology import queue
from fastapi import APIRouter

from chassis import generations
from chassis.broker import queue_depths
from chassis.consumer import Consumer, Health
from chassis.projections import queues_of
from chassis.routing import Admin, Tx, api_router
from chassis.wire import View

if TYPE_CHECKING:
    from chassis.app import Runtime


class QueueHealth(View):
    """A queue since the process started; times in seconds, compliance as a share."""

    status: str
    pending: int
    active: int
    completed: int
    failed: int
    avg_processing_s: float
    sla_s: float
    sla_compliance: float


def operations_router(runtime: Runtime) -> APIRouter:
    """`queues`: how far behind each consumer is."""
    name = runtime.service.name
    router = api_router("operations")

    @router.get(f"/v1/ops/{name}/queues", operation_id=f"ops_{name}_queues")
    async def queues(admin: Admin, tx: Tx) -> dict[str, QueueHealth]:
        """Depth and health of each consumer's queue, each generation of a projection for itself."""
        url = runtime.settings.broker_url.get_secret_value()
        found = [
            (consumer, each.name)
            for consumer in runtime.consumers
            for each in queues_of([consumer], await generations.all_of(tx))
        ]
        depths = await queue_depths(url, [queue(name, each) for _, each in found])
        return {
            each: _health(consumer, runtime.healths.get(each, Health()), depths[queue(name, each)])
            for consumer, each in found
        }

    return router


def _health(consumer: Consumer, health: Health, pending: int) -> QueueHealth:
    done = health.completed
    return QueueHealth(
        status="busy" if pending or health.active else "idle",
        pending=pending,
        active=health.active,
        completed=done,
        failed=health.failed,
        avg_processing_s=round(health.busy_s / done, 6) if done else 0.0,
        sla_s=consumer.sla_s,
        sla_compliance=round(health.within_sla / done, 4) if done else 1.0,
    )
