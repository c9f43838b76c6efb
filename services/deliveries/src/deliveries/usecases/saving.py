"""Saves a delivery with what follows from its state: its timers, and secrets nobody needs any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from chassis import timers
from chassis.database import Transaction

from deliveries.domain import Delivery, Status
from deliveries.repository import DELIVERIES, forget_custody

EXPIRE = "expire-delivery"
UNCONFIRMED = "release-unconfirmed"


def save(tx: Transaction, delivery: Delivery, *, min_handling: timedelta, now: datetime) -> Delivery:
    """Queue what happened; nothing happened means nothing is queued.

    The delivery comes last, for PostgreSQL runs the parts of one statement from the last to the first: a command
    without locks then waits for one with locks at the delivery's row, before it touches anything the other needs.
    """
    if not delivery.pending:
        return delivery
    if delivery.status is not Status.PLANNED:
        set_timers(tx, delivery, min_handling=min_handling)
    if delivery.ended:
        forget_custody(tx, delivery.id)
    DELIVERIES.save(tx, delivery, now=now)
    return delivery


def set_timers(tx: Transaction, delivery: Delivery, *, min_handling: timedelta) -> None:
    """Queue the timers that the delivery's state asks for, and no other."""
    _set(tx, EXPIRE, delivery, delivery.expires_at(min_handling=min_handling))
    _set(tx, UNCONFIRMED, delivery, delivery.confirm_by if delivery.status is Status.CLAIMED else None)


def _set(tx: Transaction, kind: str, delivery: Delivery, due_at: datetime | None) -> None:
    key = f"{kind}:{delivery.id}"
    if due_at is None:
        timers.cancel(tx, key=key)
    else:
        timers.schedule(tx, due_at=due_at, key=key, payload={"kind": kind, "delivery_id": str(delivery.id)})
