"""An organization is suspended or left: what it asks for and promised, and what is promised to it, is called off."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis import timers
from chassis.access import Directory
from chassis.database import Transaction

from resources import queries, repository
from resources.domain import ReservationId, ReservationState
from resources.repository import REQUESTS
from resources.usecases.looking import look_again
from resources.usecases.saving import save

CALL_OFF = "call-off-organization"
PAGE = 50  # requests of one transaction: a timer goes on with the others
BATCHES_MAX = 1_000  # told at once; processes that are not told look every hour by themselves


class DirectoryBehind(Exception):
    """The directory here does not know yet how the organization stands."""


async def organization_gone(tx: Transaction, organization_id: UUID, *, version: int, now: datetime) -> None:
    """Queue the timer that calls its things off; `DirectoryBehind` while the directory is older than the event."""
    if await queries.directory_version(tx, organization_id) < version:
        raise DirectoryBehind(f"organization {organization_id} is not known as far")
    _go_on(tx, organization_id, now=now)


def _go_on(tx: Transaction, organization_id: UUID, *, now: datetime) -> None:
    payload = {"kind": CALL_OFF, "organization_id": str(organization_id)}
    timers.schedule(tx, due_at=now, key=f"{CALL_OFF}:{organization_id}:{now.isoformat()}", payload=payload)


async def call_off_organization(tx: Transaction, *, organization_id: UUID, now: datetime) -> None:
    """Promises that are not on their way end, batches take their proposals back; requests of who left for good end too.

    An organization that is verified again meanwhile is left alone.
    """
    status = await Directory(lambda: tx, ttl_s=0).organization_status(organization_id)
    if status not in ("suspended", "closed"):
        return
    for batch_id in await repository.batches_of(tx, organization_id, limit=BATCHES_MAX):
        look_again(tx, batch_id, because=f"{organization_id}:{now.isoformat()}", now=now)
    promises = await repository.promises_of(tx, organization_id, limit=PAGE)
    for request_id, reservation_id in promises:
        request = await REQUESTS.get(tx, request_id)
        if request.reservations[ReservationId(reservation_id)].state is ReservationState.RESERVED:
            request.cancel_reservation(ReservationId(reservation_id), reason=f"organization-{status}")
            await save(tx, request, now=now)
            await tx.flush()
    ended = await _end_requests(tx, organization_id, now) if status == "closed" else 0
    if PAGE in (len(promises), ended):
        _go_on(tx, organization_id, now=now)


async def _end_requests(tx: Transaction, organization_id: UUID, now: datetime) -> int:
    requests = await repository.open_requests_of(tx, organization_id, limit=PAGE)
    for request_id in requests:
        request = await REQUESTS.get(tx, request_id)
        request.cancel(reason="organization-closed")
        await save(tx, request, now=now)
        await tx.flush()
    return len(requests)
