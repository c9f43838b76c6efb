"""What tests of process managers need: volunteers at a place, a process's row, a look at it at any time, time that passes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis import processes
from chassis.database import Database, Row
from chassis.testing import eventually
from chassis.testing.callers import Caller
from contracts.events import identity
from deliveries.usecases import Following
from deliveries.usecases.following import AnyManager

from services.deliveries.tests.builders import PICKUP_POINT, World

METRES_PER_DEGREE = 111_195
PATIENCE_S = 20.0  # for a service on a machine that has other work too
AFTER_KILL_S = 45.0  # what a killed relay had leased is free again after fifteen seconds


async def volunteer_at(
    world: World, metres: int, *, from_point: tuple[float, float] = PICKUP_POINT, radius_m: int = 50_000,
    capacity_g: int = 50_000, vehicle: str = "car",
) -> Caller:  # fmt: skip
    """Somebody who lives so far south of a point."""
    person = await world.callers.person()
    lat = from_point[0] - metres / METRES_PER_DEGREE
    profile = identity.VolunteerProfileChanged(
        user_id=person.id, vehicle=vehicle, capacity_g=capacity_g, lat=lat, lon=from_point[1], radius_m=radius_m
    )
    await world.bus.publish(profile, subject=person.id, version=2)
    known = "SELECT EXISTS (SELECT FROM volunteers WHERE user_id = $1 AND vehicle IS NOT NULL)"
    await eventually(lambda: world.database.reading().fetchval(known, person.id))
    return person


async def run_of(database: Database, kind: str, delivery: dict[str, Any], *, run: int = 0) -> Row | None:
    """The newest run of a kind about a delivery, at least `run`."""
    rows = await processes.many(database.reading(), kind=kind, key=UUID(delivery["id"]), limit=1)
    return rows[0] if rows and rows[0]["run"] >= run else None


async def begun(
    world: World, kind: str, delivery: dict[str, Any], *, run: int = 0, timeout_s: float = PATIENCE_S
) -> Row:
    """The newest run, once it has begun."""

    async def look() -> Row | bool:
        return await run_of(world.database, kind, delivery, run=run) or False

    row: Row = await eventually(look, timeout_s=timeout_s)
    return row


async def ended(world: World, kind: str, delivery: dict[str, Any], outcome: str) -> Row:
    """The newest run, once it has ended so."""

    async def look() -> Row | bool:
        row = await run_of(world.database, kind, delivery)
        return row if row is not None and row["outcome"] == outcome else False

    row: Row = await eventually(look, timeout_s=PATIENCE_S)
    return row


def steps(row: Row) -> list[str]:
    """The names of its steps, those that were past when their time came in brackets."""
    return [f"({step['name']})" if step["note"].get("passed") else step["name"] for step in row["steps"]]


async def look_again(
    world: World, manager: AnyManager, delivery: dict[str, Any], how: Following, *, at: datetime
) -> None:
    """What its timer would do at that time, early or late."""
    async with world.database.transaction() as tx:
        process = await manager.kind.running(tx, UUID(delivery["id"]))
        if process is not None:
            await manager.wake(tx, how, process, at)


async def let_pass(world: World, kind: str, delivery: dict[str, Any], time: timedelta) -> None:
    """So much time passes for a process: everything it waits for is so much nearer, and its timer with it."""
    key = UUID(delivery["id"])
    async with world.database.transaction() as tx:
        row = await tx.fetchrow(
            "SELECT id, state, deadline FROM processes WHERE kind = $1 AND key = $2 AND status = 'running' FOR UPDATE",
            kind,
            key,
        )
        assert row is not None
        state = row["state"]
        for moment in state.get("moments", []):
            moment["at"] = (datetime.fromisoformat(moment["at"]) - time).isoformat()
        deadline = row["deadline"] - time
        await tx.fetch("UPDATE processes SET state = $2, deadline = $3 WHERE id = $1", row["id"], state, deadline)
        await tx.fetch("UPDATE timers SET due_at = $2 WHERE dedupe_key = $1", f"process:{kind}:{key}", deadline)
