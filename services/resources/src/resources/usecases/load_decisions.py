"""What people decide about catalogue loads: confirm or cancel one that waits, try again what failed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction, under_locks
from chassis.kernel import Conflict, Forbidden

from resources import repository
from resources.domain import CatalogueLoad, LoadNotFound, LoadSuperseded, UserId
from resources.repository import LOADS
from resources.usecases.load_intake import CHUNKS_CONSUMER, CHUNKS_HINT, LOADS_HINT


class NotYourLoad(Forbidden):
    """Managers and keys decide about their organization's loads."""

    slug = "not-your-load"


class ChunksGone(Conflict):
    """What failed is not kept any more: send the catalogue again."""

    slug = "catalogue-chunks-gone"


async def confirm_load(
    tx: Transaction, principal: Principal, load_id: UUID, *, now: datetime, if_match: int | None
) -> CatalogueLoad:
    """What the load takes away is meant: it is applied."""
    load = await _of_manager(tx, principal, load_id, if_match)
    load.confirm(confirmed_by=UserId(principal.id), now=now)
    LOADS.save(tx, load, now=now)
    _wake(tx, load, now)
    return load


async def cancel_load(
    tx: Transaction, principal: Principal, load_id: UUID, *, reason: str, now: datetime, if_match: int | None
) -> CatalogueLoad:
    """The load is not wanted any more; those behind it go on."""
    under_locks(tx)
    load = await _of_manager(tx, principal, load_id, if_match)
    load.cancel(reason=reason, cancelled_by=UserId(principal.id), now=now)
    LOADS.save(tx, load, now=now)
    await repository.end_run(tx, load, now=now)
    tx.hints.add(LOADS_HINT)
    return load


async def retry_load(
    tx: Transaction, principal: Principal, load_id: UUID, *, now: datetime, if_match: int | None
) -> CatalogueLoad:
    """The chunks that failed are tried again, and they alone."""
    under_locks(tx)
    await repository.hold_feed(tx, await repository.company_of(tx, load_id))
    load = await _of_manager(tx, principal, load_id, if_match)
    await reopen(tx, load, retried_by=UserId(principal.id), now=now)
    repository.failed_due(tx, load.id, consumer=CHUNKS_CONSUMER, now=now)
    tx.hints.add(CHUNKS_HINT)
    return load


async def reopen(tx: Transaction, load: CatalogueLoad, *, retried_by: UserId | None, now: datetime) -> None:
    """The load is under way again; the feed is held. Refused when a newer one had its turn meanwhile."""
    load.retry(retried_by=retried_by, now=now)
    if await repository.is_superseded(tx, load.id):
        raise LoadSuperseded
    known = await repository.sums(tx, load.id)
    if not known["failed"]:
        raise ChunksGone
    LOADS.save(tx, load, now=now)
    repository.begin_run(tx, load, now=now, read=True, announced=known["chunks"])
    tx.hints.add(LOADS_HINT)


async def _of_manager(tx: Transaction, principal: Principal, load_id: UUID, if_match: int | None) -> CatalogueLoad:
    load = await LOADS.get(tx, load_id)
    if not principal.acts_for(load.organization_id) and not principal.is_admin:
        raise LoadNotFound
    if not principal.manages(load.organization_id):
        raise NotYourLoad
    load.expect_version(if_match)
    return load


def _wake(tx: Transaction, load: CatalogueLoad, now: datetime) -> None:
    repository.wake_run(tx, load.id, now=now)
    tx.hints.add(LOADS_HINT)
