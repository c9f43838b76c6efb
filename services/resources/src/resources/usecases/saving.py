"""Saves a request with what its new facts call for: timers, and an end to proposals of what is not lacked any more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chassis import timers
from chassis.database import Transaction
from chassis.telemetry import current_context

from resources import repository
from resources.domain import (
    LineId,
    Match,
    ReservationMade,
    ResourceRequest,
    ResourceRequestChanged,
    ResourceRequestOpened,
    Status,
)
from resources.repository import MATCHES, REQUESTS
from resources.usecases.looking import look_again, look_for

EXPIRE_REQUEST = "expire-request"
EXPIRE_RESERVATION = "expire-reservation"


async def save(
    tx: Transaction,
    request: ResourceRequest,
    *,
    now: datetime,
    cell: int | None = None,
    accepted: Match | None = None,
) -> None:
    """Queue the request, its timers, and the match that became one of its reservations; new lines are in `cell`."""
    facts = list(request.pending)
    if not facts:
        return
    for event in facts:
        _set_timer(tx, request, event)
    released: dict[LineId, int] = {} if accepted is None else {accepted.line_id: accepted.quantity}
    if accepted is not None:
        MATCHES.save(tx, accepted, now=now)
    for match in await _crowded_out(tx, request, accepted):
        match.withdraw(reason=_why(request), now=now)
        released[match.line_id] = released.get(match.line_id, 0) + match.quantity
        MATCHES.save(tx, match, now=now)
        look_again(tx, match.batch_id, because=f"{match.id}:withdrawn", now=now)
    await _look_where_freed(tx, request, facts, now)
    REQUESTS.save(tx, request, now=now, cell=cell, released=released)


async def _crowded_out(tx: Transaction, request: ResourceRequest, accepted: Match | None) -> list[Match]:
    """Proposals that end with these facts; the one that was accepted has become a reservation."""
    if request.version == len(request.pending):  # it is new: nobody proposed anything
        return []
    proposals = await repository.open_for(tx, request.id)
    return request.crowded_out([each for each in proposals if accepted is None or each.id != accepted.id])


def _why(request: ResourceRequest) -> str:
    return "need-covered" if request.status is Status.OPEN else f"request-{request.status}"


async def _look_where_freed(tx: Transaction, request: ResourceRequest, facts: list[Any], now: datetime) -> None:
    """A reservation that ended takes nothing of its batch any more; what is needed again may be served by another."""
    ended = [
        event.reservation_id
        for event in facts
        if hasattr(event, "reservation_id") and not request.reservations[event.reservation_id].active
    ]
    for batch_id in await repository.batches_reserved(tx, ended) if ended else ():
        look_again(tx, batch_id, because=f"{request.id}:{request.version}", now=now)
    lacks = request.status is Status.OPEN and any(line.uncovered for line in request.lines.values())
    asked = any(isinstance(event, ResourceRequestOpened | ResourceRequestChanged) for event in facts)
    if lacks and (asked or ended):
        look_for(tx, request.id, version=request.version, now=now)


def _set_timer(tx: Transaction, request: ResourceRequest, event: Any) -> None:
    match event:
        case ResourceRequestOpened(needed_by_at=due_at) | ResourceRequestChanged(needed_by_at=due_at):
            if due_at is not None:
                set_request_timer(tx, request, due_at=due_at)
        case ReservationMade():
            set_reservation_timer(tx, request, event.reservation_id, due_at=event.expires_at)


# A timer is never moved or taken back, since it may be firing: its key has its moment, and it checks the state.


def set_request_timer(tx: Transaction, request: ResourceRequest, *, due_at: datetime) -> None:
    """Queue the timer that ends a request."""
    key = f"{EXPIRE_REQUEST}:{request.id}:{due_at.isoformat()}"
    payload = {"kind": EXPIRE_REQUEST, "request_id": str(request.id), **_origin()}
    timers.schedule(tx, due_at=due_at, key=key, payload=payload)


def set_reservation_timer(tx: Transaction, request: ResourceRequest, reservation_id: Any, *, due_at: datetime) -> None:
    """Queue the timer that ends a promise which is not on its way."""
    ids = {"request_id": str(request.id), "reservation_id": str(reservation_id)}
    payload = {"kind": EXPIRE_RESERVATION, **ids, **_origin()}
    timers.schedule(tx, due_at=due_at, key=f"{EXPIRE_RESERVATION}:{reservation_id}", payload=payload)


def _origin() -> dict[str, str]:
    """What set the timer off: what it does belongs to the same."""
    return {"correlation_id": current_context().correlation_id}
