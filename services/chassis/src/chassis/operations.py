"""What operators ask of a running service, under `/v1/ops/<service>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.topology import queue
from fastapi import APIRouter

from chassis.broker import queue_depths
from chassis.consumer import Consumer
from chassis.routing import Admin, api_router
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
    async def queues(admin: Admin) -> dict[str, QueueHealth]:
        """Depth and health of each consumer's queue."""
        url = runtime.settings.broker_url.get_secret_value()
        depths = await queue_depths(url, [queue(name, consumer.name) for consumer in runtime.consumers])
        return {consumer.name: _health(consumer, depths[queue(name, consumer.name)]) for consumer in runtime.consumers}

    return router


def _health(consumer: Consumer, pending: int) -> QueueHealth:
    health = consumer.health
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
