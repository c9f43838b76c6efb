"""The inbox: which messages a consumer has handled already, kept in the handler's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from operator import attrgetter
from uuid import UUID

from chassis.database import Transaction

DAYS_AHEAD = 3
DAYS_KEPT = 14
_value = attrgetter("int")  # the same order as of the ids themselves, compared in C

_FIRST_TIME = """INSERT INTO inbox (message_id, consumer) SELECT m, $2 FROM unnest($1::uuid[]) AS x(m)
ON CONFLICT DO NOTHING RETURNING message_id"""
# Ids of no day that has a partition: messages of long ago that came once more.
_TAKE_STRAYS = "DELETE FROM inbox_default WHERE message_id >= $1 AND message_id < $2 RETURNING *"
_PUT_STRAYS = """INSERT INTO inbox (message_id, consumer, processed_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])"""
_PARTITIONS = """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'inbox'::regclass AND c.relname ~ '^inbox_[0-9]{8}$'"""
_FORGET_STRAYS = "DELETE FROM inbox_default WHERE processed_at < now() - make_interval(days => $1)"


async def first_time(tx: Transaction, consumer: str, message_ids: Sequence[UUID]) -> set[UUID]:
    """The messages among these that this consumer never handled; sorted, so that two workers cannot deadlock."""
    rows = await tx.fetch(_FIRST_TIME, sorted(set(message_ids), key=_value), consumer)
    return {UUID(int=row["message_id"].int) for row in rows}


def _first_id_of(day: date) -> str:
    """The least UUIDv7 of a day: its first 48 bits are the milliseconds since 1970."""
    millis = (day - date(1970, 1, 1)).days * 86_400_000
    return str(UUID(int=millis << 80))


async def keep_partitions(tx: Transaction, today: date) -> None:
    """One partition a day, made ahead and dropped after 14 days; what fits none falls into the default one, as long."""
    known = {row["relname"] for row in await tx.fetch(_PARTITIONS)}
    for offset in range(-1, DAYS_AHEAD + 1):
        day = today + timedelta(days=offset)
        if f"inbox_{day:%Y%m%d}" not in known:
            await _make_partition(tx, day)
    oldest = f"inbox_{today - timedelta(days=DAYS_KEPT):%Y%m%d}"
    for name in sorted(known):
        if name < oldest:
            await tx.fetch(f"DROP TABLE {name}")
    await tx.fetch(_FORGET_STRAYS, DAYS_KEPT)


async def _make_partition(tx: Transaction, day: date) -> None:
    """What fell into the default partition because nobody made this one in time moves into it."""
    first, end = _first_id_of(day), _first_id_of(day + timedelta(days=1))
    await tx.fetch("LOCK TABLE inbox IN SHARE ROW EXCLUSIVE MODE")
    strays = await tx.fetch(_TAKE_STRAYS, UUID(first), UUID(end))
    await tx.fetch(
        f"CREATE TABLE IF NOT EXISTS inbox_{day:%Y%m%d} PARTITION OF inbox FOR VALUES FROM ('{first}') TO ('{end}')"
    )
    if strays:
        await tx.fetch(
            _PUT_STRAYS, *([row[name] for row in strays] for name in ("message_id", "consumer", "processed_at"))
        )
