"""A service from its parts: `create_api`, the roles `api`, `worker`, `all`, `migrate`, `refold`, and their graceful stop."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvloop
from contracts.registry import Received
from fastapi import APIRouter, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from pydantic import BaseModel
from starlette.types import ASGIApp

from chassis import deadletters, generations, idempotency, jobs, message_store, problems, processes, replay
from chassis.access import ACCESS_EVENTS, ACCESS_TABLES, Directory, project_access
from chassis.auth import Authenticator
from chassis.broker import Publisher, Subscriber, declare_topology, queue_depths
from chassis.consumer import Consumer, ConsumerRunner
from chassis.control import Control
from chassis.database import TRANSIENT_ERRORS, UNAVAILABLE_ERRORS, Database, Transaction
from chassis.dead_letter_routes import dead_letter_routes
from chassis.edge import Edge
from chassis.gaps import Gaps
from chassis.health import Check, health_router
from chassis.idempotency import IdempotencyKeys, IdempotencyKeyTaken, secret_bytes
from chassis.inbox import keep_partitions
from chassis.ingester import Ingester
from chassis.job_routes import Cancel, job_routes
from chassis.kernel import DomainError, new_id
from chassis.message_store import SqlMessageStore
from chassis.migrate import head_of, migrate, version_table
from chassis.operations import operations_router
from chassis.outbox import OutboxTables, Relay
from chassis.pagination import Cursors
from chassis.partitions import DailyTable
from chassis.process_routes import process_routes
from chassis.projection_routes import projection_routes
from chassis.projections import Projections, Rebuilder, be_born, queues_of
from chassis.ratelimit import Quotas
from chassis.redrive import Redriver
from chassis.refold import refold
from chassis.replay import Replayer
from chassis.repository import Repository
from chassis.roles import Role, http_role, supervise
from chassis.settings import ServiceSettings
from chassis.telemetry import configure_telemetry, log
from chassis.timers import TimerHandler, Timers

ACCESS_TTL_S = 1.0  # with the event's lag this keeps a revoked key below the promised 2 s
HOUSEKEEPING_S, HOUSEKEEPING_AGAIN_S = 3600, 60
COLLECTED_AFTER = (10_000, 20, 20)  # new objects, then collections of the young and of the middle-aged


@dataclass
class Service:
    """What `main.py` wires by hand."""

    name: str
    settings: ServiceSettings
    routers: Sequence[APIRouter] = ()
    internal_routers: Sequence[APIRouter] = ()
    consumers: Sequence[Consumer] = ()
    streams: Mapping[str, Repository[Any]] = field(default_factory=dict)  # an aggregate's public name → its events
    timers: Mapping[str, TimerHandler] = field(default_factory=dict)
    background: Mapping[str, Callable[[Runtime], Awaitable[None]]] = field(default_factory=dict)
    constraints: Mapping[str, type[DomainError]] = field(default_factory=dict)
    on_start: Callable[[Runtime], Awaitable[None]] | None = None
    daily_tables: Sequence[DailyTable] = ()  # of the service's own; kept as the inbox is
    access_ttl_s: float = ACCESS_TTL_S
    replicates_access: bool = True
    unlimited_paths: Sequence[str] = ()
    job_cancels: Mapping[str, Cancel] = field(
        default_factory=dict
    )  # a kind of job of the service's own → how to stop one

    @property
    def repositories(self) -> list[Repository[Any]]:
        """Where the service's own events are."""
        return [*self.streams.values()]


class Runtime:
    """What a running process shares between its routes, consumers and loops."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        secret = secret_bytes(settings.secret_key.get_secret_value())
        self.service = service
        self.settings = settings
        self.database = Database(
            settings.database_url.get_secret_value(),
            pool_max=settings.database_pool_max,
            constraints={"idempotency_keys_pkey": IdempotencyKeyTaken, **service.constraints},
        )
        self.publisher = Publisher(settings.broker_url.get_secret_value(), name=service.name)
        self.quotas = Quotas(settings.redis_url.get_secret_value())
        self.directory = Directory(self.database.reading, ttl_s=service.access_ttl_s)
        self.authenticator = Authenticator(self.directory, issuer=settings.token_issuer)
        self.cursors = Cursors(secret)
        self.idempotency_keys = IdempotencyKeys(secret)
        self.secret = secret
        self.consumers = [*service.consumers, *([_access_consumer()] if service.replicates_access else [])]
        self.healths = {consumer.name: consumer.health for consumer in self.consumers}

    @property
    def bindings(self) -> dict[str, list[tuple[str, str]]]:
        """Consumer → what it binds to."""
        return {consumer.name: consumer.bindings for consumer in self.consumers}


def _access_consumer() -> Consumer:
    async def replicate(tx: Transaction, received: Received) -> None:
        project_access(tx, received.event, received.envelope.aggregateversion)

    return Consumer("access", dict.fromkeys(ACCESS_EVENTS, replicate), sla_s=1.0, projection=ACCESS_TABLES)


class Problem(BaseModel):
    """RFC 9457: `code` is stable, `detail` is for people, `errors` points into the input."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str | None
    errors: list[dict[str, str]] | None = None


_PROBLEM = {
    "description": "Problem",
    "content": {problems.PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_RESPONSES: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "5XX": _PROBLEM, 422: _PROBLEM}


def create_app(runtime: Runtime) -> FastAPI:
    """The public routes; OpenAPI 3.1 at `/openapi/<service>.json`."""
    service = runtime.service
    app = FastAPI(
        title=f"VouAjudar {service.name}",
        version="1",
        openapi_url=f"/openapi/{service.name}.json",
        docs_url=None,
        redoc_url=None,
        responses=_RESPONSES,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.runtime = runtime
    problems.install(app)
    operating = (operations_router, dead_letter_routes, process_routes, projection_routes, job_routes)
    for router in (*service.routers, *(make(runtime) for make in operating)):
        app.include_router(router)
    _describe_problems(app)
    return app


def create_api(runtime: Runtime) -> ASGIApp:
    """The public routes behind the one edge layer, once plain and once traced."""
    app = create_app(runtime)
    plain = app.build_middleware_stack()
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    return Edge(
        app,
        plain,
        app.build_middleware_stack(),
        sample_ratio=runtime.settings.trace_sample_ratio,
        body_bytes_max=runtime.settings.body_bytes_max,
        unlimited=runtime.service.unlimited_paths,
    )


def _describe_problems(app: FastAPI) -> None:
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("Problem", Problem.model_json_schema())
        document["components"].setdefault(
            "securitySchemes",
            {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        )
        document.setdefault("security", [{"bearer": []}, {"api_key": []}])
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def create_ops(runtime: Runtime, subscriber: Subscriber | None) -> FastAPI:
    """The internal port: health, metrics, and what only other services may ask."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    problems.install(app)
    app.include_router(health_router(_checks(runtime, subscriber)))
    for router in runtime.service.internal_routers:
        app.include_router(router)
    return app


def _checks(runtime: Runtime, subscriber: Subscriber | None) -> dict[str, Check]:
    async def schema() -> str | None:
        try:
            for package in ("chassis", runtime.service.name):
                found = await runtime.database.reading().fetchval(f"SELECT version_num FROM {version_table(package)}")
                if found is None or found < head_of(package):
                    return f"schema of {package} is {found}"
        except Exception as error:  # whatever is wrong with the database, the answer is the same
            return repr(error)
        return None

    async def broker() -> str | None:
        if not runtime.publisher.ready.is_set():
            return "not connected"
        missing = subscriber.missing if subscriber else []
        return f"not consuming {missing}" if missing else None

    return {"database": schema, "broker": broker}


async def keep_house(tx: Transaction, *, now: datetime, daily_tables: Sequence[DailyTable] = ()) -> None:
    """Forget what nobody needs any more, and make ready what is needed soon."""
    idempotency.expire(tx)
    deadletters.forget_settled(tx)
    message_store.forget_overdue(tx)
    replay.forget_ended(tx)
    jobs.forget_ended(tx)
    processes.forget_ended(tx)
    await _keep_days(tx, daily_tables, now)


async def _keep_days(tx: Transaction, tables: Sequence[DailyTable], now: datetime) -> None:
    await keep_partitions(tx, now.date())
    for table in tables:
        await table.keep(tx, now.date())


async def _housekeep(runtime: Runtime) -> None:
    while True:
        pause_s = HOUSEKEEPING_S
        try:
            async with runtime.database.transaction() as tx:
                await keep_house(tx, now=datetime.now(UTC), daily_tables=runtime.service.daily_tables)
        except TRANSIENT_ERRORS as error:
            log.warning("housekeeping.postponed", error=repr(error))
            pause_s = HOUSEKEEPING_AGAIN_S
        await asyncio.sleep(pause_s)


async def open_database(runtime: Runtime) -> None:
    """Connect, waiting as long as the server takes to come."""
    delay_s = 0.1
    while True:
        try:
            return await runtime.database.open()
        except UNAVAILABLE_ERRORS as error:
            log.warning("database.waiting", error=repr(error))
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, 2.0)


def worker_roles(runtime: Runtime) -> tuple[list[Role], Subscriber]:
    """Relay, timers, gaps, redrive, replay, consumers, projections and the service's own loops."""
    service, database, publisher = runtime.service, runtime.database, runtime.publisher
    broker_url, consumers = runtime.settings.broker_url.get_secret_value(), runtime.consumers
    store, alone = SqlMessageStore(database), asyncio.Lock()
    runners = [
        ConsumerRunner(service.name, one, store, publisher, alone=alone) for one in consumers if not one.projection
    ]
    control = Control(service.name, service.streams, store, database, publisher)
    subscriptions = [
        *(runner.subscription for runner in runners),
        Ingester(service.name, store).subscription,
        control.subscription,
    ]
    subscriber = Subscriber(broker_url, name=service.name, subscriptions=subscriptions)
    projections = Projections(service.name, consumers, database, publisher, subscriber, runtime.healths, alone=alone)
    roles = [
        Role("relay", Relay(OutboxTables(database), publisher, owner=new_id()).run),
        Role("timers", Timers(database, dict(service.timers)).run),
        Role("gaps", Gaps(runners, publisher).run),
        Role("redrive", Redriver(database, consumers=[consumer.name for consumer in consumers]).run),
        Role("replay", Replayer(service.name, service.streams, database, publisher).run),
        Role("rebuild", Rebuilder(service.name, consumers, database, publisher, broker_url).run),
        Role("housekeeping", lambda: _housekeep(runtime)),
        *(Role(name, lambda run=run: run(runtime)) for name, run in service.background.items()),  # type: ignore[misc]
        Role("consumers", subscriber.run),
        Role("projections", projections.run),
    ]
    return roles, subscriber


async def serve(service: Service, role: str) -> int:
    """Run a role until a signal; returns the exit code."""
    runtime = Runtime(service)
    await open_database(runtime)
    settings = service.settings
    if service.on_start is not None:
        await service.on_start(runtime)
    roles, subscriber = worker_roles(runtime) if role in ("worker", "all") else ([], None)
    roles.insert(0, Role("publisher", runtime.publisher.run))
    roles.append(http_role("ops", create_ops(runtime, subscriber), host=settings.host, port=settings.ops_port))
    if role in ("api", "all"):
        roles.append(http_role("api", create_api(runtime), host=settings.host, port=settings.api_port))
    collect_rarely()
    log.info("process.started", role=role)
    code = await supervise(roles)
    await runtime.quotas.close()
    await runtime.database.close()
    return code


def collect_rarely() -> None:
    """What is loaded by now stays for good, and the collector, which stops everything to look, lets it be.

    It comes for every ten thousand new objects and not for every seven hundred: almost all of them end without it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


async def prepare(service: Service) -> None:
    """`migrate`: the schema, then the broker's topology."""
    runtime, now = Runtime(service), datetime.now(UTC)
    await migrate(service.settings.database_url.get_secret_value(), service.name)
    await open_database(runtime)
    async with runtime.database.transaction() as tx:
        await _keep_days(tx, service.daily_tables, now)
        await be_born(tx, service.name, runtime.consumers, now=now)
    queues = queues_of(runtime.consumers, await generations.all_of(runtime.database.reading()))
    await runtime.database.close()
    bindings, single = {each.name: each.bindings for each in queues}, [each.name for each in queues if each.single]
    await declare_topology(service.settings.broker_url.get_secret_value(), service.name, bindings, single=single)


async def restore(service: Service) -> None:
    """`refold`: every aggregate's row made anew from its events."""
    runtime = Runtime(service)
    await open_database(runtime)
    await refold(runtime.database, service.repositories)
    await runtime.database.close()


_ONCE: Mapping[str, Callable[[Service], Coroutine[Any, Any, None]]] = {"migrate": prepare, "refold": restore}


def main(build: Callable[[], Service], arguments: Sequence[str] | None = None) -> None:
    """`python -m <service> api|worker|all|migrate|refold`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1 or given[0] not in ("api", "worker", "all", *_ONCE):
        sys.exit("usage: python -m <service> api|worker|all|migrate|refold")
    service = build()
    configure_telemetry(service.name, service.settings)
    if given[0] in _ONCE:
        uvloop.run(_ONCE[given[0]](service))
    else:
        sys.exit(uvloop.run(serve(service, given[0])))


__all__ = ["Runtime", "Service", "create_api", "create_app", "main", "prepare", "queue_depths", "serve"]
