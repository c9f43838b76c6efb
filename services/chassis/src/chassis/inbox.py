"""The inbox: which messages a consumer has handled already, kept in the handler's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from operator import attrgetter
from uuid import UUID

from chassis.database import Transaction
from chassis.partitions import DailyTable

DAYS_KEPT = 14
_value = attrgetter("int")  # the same order as of the ids themselves, compared in C

_FIRST_TIME = """INSERT INTO inbox (message_id, consumer) SELECT m, $2 FROM unnest($1::uuid[]) AS x(m)
ON CONFLICT DO NOTHING RETURNING message_id"""
_TABLE = DailyTable("inbox", column="message_id", kept_by="processed_at", days_kept=DAYS_KEPT)


async def first_time(tx: Transaction, consumer: str, message_ids: Sequence[UUID]) -> set[UUID]:
    """The messages among these that this consumer never handled; sorted, so that two workers cannot deadlock."""
    rows = await tx.fetch(_FIRST_TIME, sorted(set(message_ids), key=_value), consumer)
    return {UUID(int=row["message_id"].int) for row in rows}


async def keep_partitions(tx: Transaction, today: date) -> None:
    """One partition a day, made ahead and dropped after 14 days; what fits none falls into the default one, as long."""
    await _TABLE.keep(tx, today)
