"""What batches tell: what there is to match, and which holds were answered."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Transaction

from resources import repository
from resources.domain import cell_of
from resources.repository import KnownBatch
from resources.usecases import matching
from resources.usecases.looking import look_again


async def know_batch(tx: Transaction, batch: KnownBatch, *, now: datetime) -> None:
    """A batch is so now; its process looks at it when what is free may have changed."""
    if await repository.keep_batch(tx, batch):
        look_again(tx, batch.batch_id, because=batch.version, now=now)


async def batch_ready(tx: Transaction, batch: KnownBatch, *, now: datetime) -> None:
    """A batch can be held: it is matched from now on."""
    await repository.keep_batch(tx, batch)
    await matching.begin(tx, batch.batch_id, run=batch.version, now=now)


def hold_answered(tx: Transaction, hold_id: UUID, *, batch_id: UUID, quantity: int) -> None:
    """Batches answered a delivery's line: so much is kept for it, nothing when it was rejected."""
    repository.note_hold(tx, hold_id, "answered", batch_id=batch_id, quantity=quantity)


async def place_moved(tx: Transaction, place_id: UUID, *, lat: float, lon: float) -> None:
    """What a place needs and has is where the place is."""
    cell = cell_of(lat, lon)
    await repository.move_requests(tx, place_id, cell=cell)
    repository.move_batches(tx, place_id, cell=cell)
