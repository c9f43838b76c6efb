"""`refold`: rows of aggregates made anew from their events, after a release whose state has another shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

from chassis.database import Database
from chassis.repository import Repository
from chassis.telemetry import log

PAGE_ROWS = 500  # ids of one read; each aggregate is a transaction of its own, locked for as long as its fold takes
_FIRST = UUID(int=0)


async def refold(database: Database, repositories: Iterable[Repository[Any]]) -> dict[str, int]:
    """How many rows of each table had been another; a second run beside quiet commands finds none.

    Safe beside live traffic and to run again. A command that had loaded an old row before may write what it made of
    it afterwards: run again until nothing is found.
    """
    found = {}
    for repository in repositories:
        changed = 0
        async for aggregate_id in _ids(database, repository.table):
            async with database.transaction() as tx:
                changed += await repository.refold(tx, aggregate_id)
        log.info("aggregates.refolded", table=repository.table, changed=changed)
        found[repository.table] = changed
    return found


async def _ids(database: Database, table: str) -> AsyncIterator[UUID]:
    sql = f"SELECT id FROM {table} WHERE id > $1 ORDER BY id LIMIT $2"
    last = _FIRST
    while rows := await database.reading().fetch(sql, last, PAGE_ROWS):
        for row in rows:
            yield row["id"]
        last = rows[-1]["id"]
