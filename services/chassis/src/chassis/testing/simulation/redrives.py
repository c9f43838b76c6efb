"""An operator who looks at dead letters from time to time: sends them back, or decides to do without them."""

from __future__ import annotations

import hashlib
from uuid import UUID

from chassis.testing.simulation.database import Database, Letter
from chassis.testing.simulation.world import World


def operate(world: World, database: Database) -> None:
    """One look, as `chassis.redrive` would have it: open ones go back to their queue, those that were handled are closed."""
    if database.down:
        return
    for letter in database.tables.letters.values():
        if letter.status == "open":
            if world.chance(world.schedule.discards):
                letter.status = "discarded"
            else:
                letter.status = "redriving"
                order_key = UUID(bytes=hashlib.sha256(letter.queue.encode()).digest()[:16])
                row = database.row(order_key, UUID(letter.message_id), "", letter.queue, letter.body)
                database.tables.outbox[row["id"]] = row
            world.note("dead letter {} of {}: {}", letter.message_id, letter.consumer, letter.status)
        elif letter.status == "redriving" and _handled(database, letter):
            letter.status = "resolved"


def _handled(database: Database, letter: Letter) -> bool:
    if (letter.consumer, UUID(letter.message_id)) in database.tables.inbox:
        return True
    stream = letter.stream
    kept = stream and database.tables.positions.get((letter.consumer, stream.id))
    return stream is not None and kept is not None and kept.version >= stream.version
