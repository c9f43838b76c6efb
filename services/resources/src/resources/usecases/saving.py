"""Saves a request with the timers that its new facts call for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chassis import timers
from chassis.database import Transaction

from resources.domain import ReservationMade, ResourceRequest, ResourceRequestChanged, ResourceRequestOpened
from resources.repository import REQUESTS

EXPIRE_REQUEST = "expire-request"
EXPIRE_RESERVATION = "expire-reservation"


def save(tx: Transaction, request: ResourceRequest, *, now: datetime) -> None:
    """Queue the request and its timers."""
    for event in request.pending:
        _set_timer(tx, request, event)
    REQUESTS.save(tx, request, now=now)


def _set_timer(tx: Transaction, request: ResourceRequest, event: Any) -> None:
    """A timer is never moved or taken back, since it may be firing: its key has its moment, and it checks the state."""
    match event:
        case ResourceRequestOpened(needed_by_at=due_at) | ResourceRequestChanged(needed_by_at=due_at):
            if due_at is not None:
                key = f"{EXPIRE_REQUEST}:{request.id}:{due_at.isoformat()}"
                payload = {"kind": EXPIRE_REQUEST, "request_id": str(request.id)}
                timers.schedule(tx, due_at=due_at, key=key, payload=payload)
        case ReservationMade():
            reservation_id = str(event.reservation_id)
            payload = {"kind": EXPIRE_RESERVATION, "request_id": str(request.id), "reservation_id": reservation_id}
            timers.schedule(tx, due_at=event.expires_at, key=f"{EXPIRE_RESERVATION}:{reservation_id}", payload=payload)
