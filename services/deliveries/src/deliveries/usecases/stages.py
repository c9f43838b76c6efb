"""A delivery entered a stage: the process managers and tasks of the one it left end, those of the new one begin.

What counts is where the delivery is now. Its events may come late or out of order: one about a stage that is left
already begins nothing, and one that is heard again finds its run begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis import processes
from chassis.database import Transaction
from chassis.processes import Process
from chassis.timers import TimerHandler

from deliveries.domain import Status
from deliveries.repository import DELIVERIES
from deliveries.usecases import tasks
from deliveries.usecases.following import AnyManager, Following
from deliveries.usecases.offering import OFFERS, settle
from deliveries.usecases.watching import DROPOFF, HOLDS, PICKUP, REROUTE

MANAGERS: Mapping[Status, AnyManager] = {
    manager.stage: manager for manager in (HOLDS, OFFERS, PICKUP, DROPOFF, REROUTE)
}
_KINDS = [*(manager.kind.name for manager in MANAGERS.values()), tasks.KIND.name]


async def entered(
    tx: Transaction, following: Following, *, delivery_id: UUID, stage: Status, version: int, now: datetime
) -> None:
    """An event of this version brought the delivery into the stage; an end is a stage that nothing waits in."""
    running = await processes.lock_running(tx, delivery_id, _KINDS)
    manager = MANAGERS.get(stage)
    begun: Process[Any] | None = None
    if manager is not None:
        begun = await manager.kind.begin(tx, delivery_id, run=version, state=manager.new(), deadline=None, now=now)
    delivery = await DELIVERIES.get(tx, delivery_id)
    for other in MANAGERS.values():
        if other.kind.name in running and other.stage is not delivery.status:
            await other.end(tx, delivery, now=now)
    is_here = delivery.status is stage
    settle(tx, delivery, opening=version if is_here and begun is not None else None, now=now)
    await tasks.entered(tx, delivery, version=version if is_here else None, now=now)
    if manager is not None and begun is not None and is_here:
        await manager.begin(tx, following, delivery, begun, now)


def timers(following: Following) -> Mapping[str, TimerHandler]:
    """What due timers of process managers do."""
    return {manager.kind.timer_kind: manager.timer(following) for manager in MANAGERS.values()}
