"""A producer and a consumer on the real chassis that write down what they do: `python -m chassis.testing.ledger SIDE ROLE`.

The producer appends events to streams and announces every one; the consumer writes a row for every event it applies,
into a table without any constraint, so that a second application shows. Sides: `producer`, `consumer`; roles: those
of `chassis.app`. Each side has a database of its own and runs in any number of processes. `chassis.testing.judge`
compares what was sent with what was applied.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
import uvloop
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from chassis import app
from chassis.app import Service
from chassis.consumer import Consumer, Handler, NotYet, Order
from chassis.database import Database, Transaction
from chassis.kernel import Aggregate, ConcurrentUpdate
from chassis.outbox import Announcement
from chassis.repository import Repository
from chassis.settings import ServiceSettings
from chassis.testing.crashing import crash_as_told

PRODUCER = "webhooks"  # the producer of the fact that is sent
CONSUMER = "chassis"  # a service of nothing but chassis; its schema is the chassis's own
LOCK = 0x6C6564676572  # an advisory lock that whoever watches may hold, to keep a transaction open
APPEND_TRIES = 5

_TABLES = {
    "producer": """CREATE TABLE IF NOT EXISTS ledger_endpoints (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL)""",
    "consumer": """CREATE TABLE IF NOT EXISTS applied (
        seq bigserial PRIMARY KEY, consumer text NOT NULL, stream_id uuid NOT NULL, version int NOT NULL,
        event_id uuid NOT NULL, worker text NOT NULL)""",
}
_APPLY = "INSERT INTO applied (consumer, stream_id, version, event_id, worker) VALUES ($1, $2, $3, $4, $5)"

Fault = Literal["raise", "die", "not-yet", "wait"]


class LedgerSettings(ServiceSettings):
    """What only the probe is told."""

    ledger_worker: str = Field(default="", description="written into each applied row")
    ledger_orders: list[Order] = Field(default=list(Order), description="a consumer of each of these")
    ledger_faults: dict[str, Fault] = Field(
        default={}, description="`<consumer>:<stream id>[:<version>]`: what its handler does"
    )


@dataclass(frozen=True)
class Tested:
    """What is stored; what is announced of it is `EndpointTest`."""

    endpoint_id: UUID


class Endpoint(Aggregate):
    """A stream of nothing but tests."""

    def test(self) -> None:
        """Once more."""
        self.record(Tested(self.id))

    def _on_Tested(self, event: Tested) -> None:  # noqa: N802 - named after its event
        """Only the version moves."""


ENDPOINTS: Repository[Endpoint] = Repository(
    table="ledger_endpoints",
    aggregate=Endpoint,
    events={"Tested": Tested},
    columns=lambda _: {},
    announce=lambda _, event: Announcement(EndpointTest(endpoint_id=event.endpoint_id)),
)


class Append(BaseModel):
    """`events` more in each stream, all in one command; with `held` it waits for the lock before it commits."""

    streams: Annotated[list[UUID], Field(min_length=1, max_length=200)]
    events: Annotated[int, Field(ge=1, le=1_000)] = 1
    held: bool = False
    rolled_back: bool = False


def producer() -> Service:
    """Takes `POST /append` on its internal port."""
    return Service(
        name=PRODUCER, settings=LedgerSettings(), internal_routers=[_append_route()], replicates_access=False
    )


def consumer() -> Service:
    """A consumer of each order, named after it."""
    settings = LedgerSettings()
    consumers = [
        Consumer(order.value, {EndpointTest: _handler(order.value, settings)}, order=order)
        for order in settings.ledger_orders
    ]
    return Service(name=CONSUMER, settings=settings, consumers=consumers, replicates_access=False)


def _append_route() -> APIRouter:
    router = APIRouter()

    @router.post("/append", status_code=204)
    async def append(request: Request, wanted: Append) -> None:
        database: Database = request.app.state.runtime.database
        if wanted.held or wanted.rolled_back:
            await _append_slowly(database, wanted)
        else:
            await _append_soon(database, wanted)

    return router


async def _append_soon(database: Database, wanted: Append) -> None:
    for attempt in range(APPEND_TRIES):
        try:
            async with database.command() as tx:
                return await _append(tx, wanted)
        except ConcurrentUpdate:  # another producer was faster in one of the streams
            if attempt == APPEND_TRIES - 1:
                raise
    return None


async def _append_slowly(database: Database, wanted: Append) -> None:
    async with database.transaction() as tx:
        await _append(tx, wanted)
        await tx.flush()
        if wanted.held:
            await tx.fetch("SELECT pg_advisory_xact_lock($1)", LOCK)
        if wanted.rolled_back:
            raise HTTPException(409, "rolled back, as was wanted")


async def _append(tx: Transaction, wanted: Append) -> None:
    now = datetime.now(UTC)
    for stream_id in wanted.streams:
        endpoint = await ENDPOINTS.find(tx, stream_id) or Endpoint(id=stream_id)
        for _ in range(wanted.events):
            endpoint.test()
        ENDPOINTS.save(tx, endpoint, now=now)


def _handler(name: str, settings: LedgerSettings) -> Handler:
    faults = {
        key.partition(":")[2]: fault for key, fault in settings.ledger_faults.items() if key.startswith(f"{name}:")
    }

    async def apply(tx: Transaction, received: Received) -> None:
        envelope = received.envelope
        tx.write(_APPLY, name, envelope.subject, envelope.aggregateversion, envelope.id, settings.ledger_worker)
        for about in (f"{envelope.subject}", f"{envelope.subject}:{envelope.aggregateversion}") if faults else ():
            if about in faults:
                await _fail(tx, faults[about])

    return apply


async def _fail(tx: Transaction, fault: Fault) -> None:
    match fault:
        case "raise":
            raise ValueError("this release cannot handle it")
        case "not-yet":
            raise NotYet("what it builds on is missing")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            await tx.fetch("SELECT pg_advisory_xact_lock($1)", LOCK)


def override_constants() -> None:
    """Give names of the chassis other values, by `VAJ_TEST_CONSTANTS`: `{"chassis.broker.HEARTBEAT_S": 2}`.

    Of a class, the arguments it has unless told otherwise: `{"chassis.outbox.Pace": {"lease": 2}}`.
    """
    for name, value in json.loads(os.environ.get("VAJ_TEST_CONSTANTS", "{}")).items():
        module_name, _, constant = name.rpartition(".")
        module = importlib.import_module(module_name)
        if not hasattr(module, constant):
            sys.exit(f"there is no {name}")
        setattr(module, constant, partial(getattr(module, constant), **value) if isinstance(value, dict) else value)


async def _make_table(side: str) -> None:
    connection = await asyncpg.connect(LedgerSettings().database_url.get_secret_value())
    await connection.execute(_TABLES[side])
    await connection.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """One process of one side in one role."""
    side, role = sys.argv[1:] if arguments is None else arguments
    override_constants()
    crash_as_told()
    build = {"producer": producer, "consumer": consumer}[side]
    app.main(build, [role])
    uvloop.run(_make_table(side))  # only `migrate` comes back


if __name__ == "__main__":
    main()
