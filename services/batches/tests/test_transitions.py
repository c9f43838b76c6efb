"""Every command in every status over HTTP: what the table does not have is a clean 409, another version 412, foreign 404 or 403."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from batches.domain import ALLOWED, Batch, DeliveryId, HoldId, Severity, Status
from batches.repository import BATCHES
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Callers
from chassis.testing.callers import Caller

from services.batches.tests.builders import a_batch

COMMANDS: dict[str, dict[str, Any]] = {
    "ready": {},
    "adjust": {"quantity": 30, "reason": "test"},
    "cancel": {"reason": "test"},
    "recall": {"severity": "low", "reason": "test"},
    "temperatures": {"temperature_dc": 40, "stage": "storage"},
}


def offer(batch: Batch) -> None:
    """It can be held."""
    batch.mark_ready(now=datetime.now(UTC), min_handling=timedelta(0))


def deplete(batch: Batch) -> HoldId:
    """Everything is on the road."""
    offer(batch)
    line, now = HoldId(new_id()), datetime.now(UTC)
    batch.hold(line, delivery_id=DeliveryId(new_id()), quantity=batch.available, now=now)
    batch.pick_up(line, picked=batch.held, now=now)
    return line


BROUGHT: dict[Status, Callable[[Batch], Any]] = {
    Status.PRODUCING: lambda _: None,
    Status.READY: offer,
    Status.DEPLETED: deplete,
    Status.CLOSED: lambda batch: batch.deliver(deplete(batch), delivered=40),
    Status.CANCELLED: lambda batch: batch.cancel(reason="test"),
    Status.EXPIRED: lambda batch: batch.expire(now=datetime.now(UTC) + timedelta(days=2)),
    Status.RECALLED: lambda batch: batch.recall(severity=Severity.LOW, reason="test"),
}


@dataclass
class Scene:
    """A batch in a status, its provider and a stranger."""

    client: httpx.AsyncClient
    path: str
    provider: Caller
    stranger: Caller

    async def give(self, caller: Caller, command: str, **headers: str) -> httpx.Response:
        """Post a command."""
        url = f"{self.path}/{command}"
        return await self.client.post(url, json=COMMANDS[command], headers=caller.headers | headers)

    async def version(self) -> str:
        """As the provider sees it."""
        return (await self.client.get(self.path, headers=self.provider.headers)).headers["etag"]


async def scene(client: httpx.AsyncClient, callers: Callers, database: Database, status: Status) -> Scene:
    """Brought there by the domain's own commands."""
    organization_id = await callers.organization()
    provider = await callers.person(member_of=organization_id)
    body = a_batch(await callers.place(organization_id))
    made = (await client.post("/v1/batches", json=body, headers=provider.headers)).json()
    async with database.command() as tx:
        batch = await BATCHES.get(tx, UUID(made["id"]))
        BROUGHT[status](batch)
        BATCHES.save(tx, batch, now=datetime.now(UTC))
    assert batch.status is status
    return Scene(client, f"/v1/batches/{batch.id}", provider, await callers.person())


def test_every_command_of_the_table_is_tried() -> None:
    """None is left out below, and no status."""
    assert COMMANDS.keys() == {command for commands in ALLOWED.values() for command in commands}
    assert BROUGHT.keys() == set(Status)


@pytest.mark.parametrize("status", list(Status))
async def test_the_table_decides_over_http(
    client: httpx.AsyncClient, callers: Callers, database: Database, status: Status
) -> None:
    """Outside the table: 409 with the status and what is allowed, and nothing changes."""
    made = await scene(client, callers, database, status)
    before = await made.version()

    for command in sorted(COMMANDS.keys() - set(ALLOWED[status])):
        refused = await made.give(made.provider, command)
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (409, "invalid-transition"), command
        assert (problem["current_status"], problem["allowed"]) == (status, ALLOWED[status])
        assert refused.headers["content-type"] == "application/problem+json"

    assert await made.version() == before


@pytest.mark.parametrize("status", list(Status))
async def test_other_versions_and_other_people_come_first(
    client: httpx.AsyncClient, callers: Callers, database: Database, status: Status
) -> None:
    """Whatever the table says: another version is 412; who may see it is 403, everybody else 404."""
    made = await scene(client, callers, database, status)
    foreign = (403, "not-your-batch") if status is Status.READY else (404, "batch-not-found")
    before = await made.version()

    for command in COMMANDS:
        stale = await made.give(made.provider, command, **{"If-Match": '"99"'})
        theirs = await made.give(made.stranger, command)
        assert (stale.status_code, stale.json()["code"]) == (412, "stale"), command
        assert (theirs.status_code, theirs.json()["code"]) == foreign, command

    assert await made.version() == before
