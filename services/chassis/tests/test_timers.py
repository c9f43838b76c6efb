"""Timers fire once, with their effect, and a failing one holds up nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis import timers
from chassis.database import Database, Transaction
from chassis.kernel import new_id
from chassis.roles import Role
from chassis.testing import eventually
from chassis.timers import Timers

from services.chassis.tests.probe import running


async def _mark(tx: Transaction, payload: dict[str, Any]) -> None:
    tx.write(
        "INSERT INTO effects (subject, times) VALUES ($1, 1) ON CONFLICT (subject) DO UPDATE SET times = effects.times + 1",
        UUID(payload["subject"]),
    )


async def _fail(tx: Transaction, payload: dict[str, Any]) -> None:
    await _mark(tx, payload)
    raise ValueError("broken")


async def _schedule(database: Database, kind: str, subject: UUID, in_s: float) -> None:
    due_at = datetime.now(UTC) + timedelta(seconds=in_s)
    async with database.command() as tx:
        timers.schedule(tx, due_at=due_at, key=f"{kind}:{subject}", payload={"kind": kind, "subject": str(subject)})


async def _times(database: Database, subject: UUID) -> int:
    return await database.reading().fetchval("SELECT times FROM effects WHERE subject = $1", subject) or 0


async def test_due_timers_fire_once_among_several_processes(effects: Database) -> None:
    """Three processes, thirty timers: each fires once; one moved to later does not fire at its first time."""
    subjects, moved = [new_id() for _ in range(30)], new_id()
    for subject in subjects:
        await _schedule(effects, "mark", subject, 0.05)
    await _schedule(effects, "mark", moved, 0.05)
    await _schedule(effects, "mark", moved, 3600)
    firing = [Role(f"timers{n}", Timers(effects, {"mark": _mark}).run) for n in range(3)]

    async with running(*firing):

        async def fired() -> None:
            assert [await _times(effects, s) for s in subjects] == [1] * 30

        await eventually(fired)
    assert await _times(effects, moved) == 0


async def test_a_failing_timer_has_no_effect_and_holds_up_nobody(effects: Database) -> None:
    """Its transaction is rolled back, it is due again later, the next one fires."""
    broken, fine = new_id(), new_id()
    await _schedule(effects, "fail", broken, -1)
    await _schedule(effects, "mark", fine, 0)

    async with running(Role("timers", Timers(effects, {"mark": _mark, "fail": _fail}).run)):
        await eventually(lambda: _times(effects, fine))

    query = "SELECT due_at > now() FROM timers WHERE dedupe_key = $1"
    assert await effects.reading().fetchval(query, f"fail:{broken}") is True
    assert await _times(effects, broken) == 0
