"""Wakes what matches: a batch's process looks again when something it decided by has changed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis import timers
from chassis.database import Transaction

LOOK = "look-at-batch"
LOOK_FOR_NEED = "look-for-need"


def look_again(tx: Transaction, batch_id: UUID, *, because: object, now: datetime) -> None:
    """Queue a look at the batch; each cause has a timer of its own, so that none waits for one that is just firing."""
    payload = {"kind": LOOK, "batch_id": str(batch_id)}
    timers.schedule(tx, due_at=now, key=f"{LOOK}:{batch_id}:{because}", payload=payload)


def look_for(tx: Transaction, request_id: UUID, *, version: int, now: datetime) -> None:
    """Queue a look for batches that could serve a request as it is now."""
    payload = {"kind": LOOK_FOR_NEED, "request_id": str(request_id)}
    timers.schedule(tx, due_at=now, key=f"{LOOK_FOR_NEED}:{request_id}:{version}", payload=payload)
