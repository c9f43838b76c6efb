"""Projections for operators: which generations there are, how far a rebuild is, and to begin one, under `/v1/ops/<service>`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self
from uuid import UUID

from contracts.topology import queue
from fastapi import APIRouter, Response

from chassis import generations
from chassis.broker import BrokerUnavailable
from chassis.consumer import Consumer
from chassis.generations import Generation, NotAProjection
from chassis.job_routes import JobOut
from chassis.kernel import NotFound
from chassis.routing import Admin, Now, Tx, api_router
from chassis.wire import Body, Reason, UtcMoment, View

if TYPE_CHECKING:
    from chassis.app import Runtime
    from chassis.database import Row


class ConsumerNotFound(NotFound):
    """The service has no consumer of this name."""

    slug = "consumer-not-found"


class RebuildIn(Body):
    """Why."""

    reason: Reason


class ReplayOut(View):
    """What one producer tells again; `total` is about how many facts there are, until it has ended."""

    producer: str
    sent: int
    total: int
    ended_at: UtcMoment | None
    error: str | None


class GenerationOut(View):
    """One generation; `pending` messages wait in its queue, and `waits_for` says why it is not live yet, or not gone."""

    name: str
    number: int
    status: Literal["building", "live", "retired", "cancelled", "failed"]
    step: str
    pending: int | None
    waits_for: str | None
    error: str | None
    job_id: UUID | None
    started_at: UtcMoment
    live_at: UtcMoment | None
    ended_at: UtcMoment | None
    replays: list[ReplayOut]

    @classmethod
    def of(cls, generation: Generation, pending: int | None, replays: Sequence[Row]) -> Self:
        """From its rows."""
        names = cls.model_fields.keys() - {"pending", "replays"}
        told = {name: getattr(generation, name) for name in names}
        return cls.model_validate({**told, "pending": pending, "replays": [dict(row) for row in replays]})


class ProjectionOut(View):
    """A consumer whose tables can be built again, and its generations, the oldest first."""

    consumer: str
    tables: list[str]
    generations: list[GenerationOut]


def projection_routes(runtime: Runtime) -> APIRouter:
    """For admins; a rebuild leaves a row in `operator_acts`."""
    router, name = api_router("operations"), runtime.service.name
    base = f"/v1/ops/{name}/projections"
    by_name: dict[str, Consumer] = {consumer.name: consumer for consumer in runtime.consumers}

    @router.get(base, operation_id=f"ops_{name}_list_projections")
    async def list_projections(admin: Admin, tx: Tx) -> list[ProjectionOut]:
        """Every projection of the service."""
        found = await generations.all_of(tx)
        shown = []
        for consumer in by_name.values():
            if consumer.projection:
                own = [await _shown(runtime, tx, one) for one in found if one.consumer == consumer.name]
                shown.append(ProjectionOut(consumer=consumer.name, tables=[*consumer.projection], generations=own))
        return shown

    @router.post(f"{base}/{{consumer}}/rebuild", operation_id=f"ops_{name}_rebuild_projection", status_code=202)
    async def rebuild_projection(
        admin: Admin, tx: Tx, now: Now, consumer: str, body: RebuildIn, response: Response
    ) -> JobOut:
        """Build the tables anew from what the producers tell again, beside the live ones, then put them in their place."""
        if consumer not in by_name:
            raise ConsumerNotFound
        if not by_name[consumer].projection:
            raise NotAProjection
        row = await generations.begin(tx, consumer, actor_id=admin.id, reason=body.reason, now=now)
        response.headers["Location"] = f"/v1/ops/{name}/jobs/{row['id']}"
        return JobOut.model_validate(dict(row))

    return router


async def _shown(runtime: Runtime, tx: Tx, generation: Generation) -> GenerationOut:
    replays = await generations.replays_of(tx, generation)
    try:
        state = await runtime.publisher.look(queue(runtime.service.name, generation.name))
    except BrokerUnavailable:
        state = None
    return GenerationOut.of(generation, None if state is None else state.ready, replays)
