"""Loads and saves aggregates: events, the row they fold to, and the messages they send, all in one statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from chassis import eventstore
from chassis.database import Row, Transaction
from chassis.kernel import Aggregate, NotFound, new_id
from chassis.outbox import Announcement, enqueue

A = TypeVar("A", bound=Aggregate)


class Repository(Generic[A]):
    """Loads and saves one kind of aggregate: events, state row and outbox rows, or nothing at all.

    `table` has `id`, `version`, `state jsonb` and the columns that `columns(aggregate)` names (for queries and
    constraints). `announce` turns a domain event into its public event, or None to keep it inside. `inline`
    sees each public event, with its version, in the same transaction.
    """

    def __init__(
        self,
        *,
        table: str,
        aggregate: type[A],
        events: Mapping[str, type],
        columns: Callable[[A], dict[str, Any]],
        announce: Callable[[A, Any], Announcement | None],
        inline: Callable[[Transaction, Announcement, int], None] | None = None,
        not_found: type[NotFound] = NotFound,
    ) -> None:
        self._table = table
        self._type = aggregate
        self._events = events
        self._columns = columns
        self._announce = announce
        self._inline = inline
        self._not_found = not_found
        self._decoder = msgspec.json.Decoder(aggregate)

    async def get(self, tx: Transaction, aggregate_id: UUID) -> A:
        """The aggregate as it is; raises its NotFound."""
        lock = " FOR UPDATE" if tx.locking else ""
        row = await tx.fetchrow(f"SELECT state::text FROM {self._table} WHERE id = $1{lock}", aggregate_id)
        if row is None:
            raise self._not_found
        return self._decoder.decode(row["state"])

    async def find(self, tx: Transaction, aggregate_id: UUID) -> A | None:
        """The aggregate as it is, or None."""
        try:
            return await self.get(tx, aggregate_id)
        except self._not_found:
            return None

    async def history(self, tx: Transaction, aggregate_id: UUID) -> list[Row]:
        """The stored events, oldest first; raises its NotFound when there are none."""
        rows = await eventstore.load(tx, aggregate_id)
        if not rows:
            raise self._not_found
        return rows

    async def as_of(self, tx: Transaction, aggregate_id: UUID, moment: datetime | None = None) -> A:
        """The aggregate folded from its events, up to `moment`; raises its NotFound when there are none."""
        rows = await eventstore.load(tx, aggregate_id, until=moment)
        if not rows:
            raise self._not_found
        return self._type.fold(aggregate_id, [msgspec.convert(row["data"], self._events[row["type"]]) for row in rows])

    def save(self, tx: Transaction, aggregate: A, *, now: datetime) -> None:
        """Queue the aggregate's new events, its row and their messages; nothing happened means nothing is queued."""
        events, aggregate.pending = aggregate.pending, []
        if not events:
            return
        before = aggregate.version - len(events)
        ids = [new_id() for _ in events]
        eventstore.append(tx, aggregate.id, expected_version=before, ids=ids, events=events, now=now)
        self._store(tx, aggregate, created=before == 0)
        announced = [(ids[n], before + n + 1, self._announce(aggregate, event)) for n, event in enumerate(events)]
        messages = [(event_id, version, public) for event_id, version, public in announced if public is not None]
        enqueue(tx, stream_id=aggregate.id, messages=messages, now=now)
        if self._inline is not None:
            for _, version, public in messages:
                self._inline(tx, public, version)

    def _store(self, tx: Transaction, aggregate: A, *, created: bool) -> None:
        columns = self._columns(aggregate)
        sql = (_insert if created else _update)(self._table, tuple(columns))
        tx.write(sql, aggregate.id, aggregate.version, msgspec.json.encode(aggregate).decode(), *columns.values())


@lru_cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(("id", "version", "state", *columns))
    places = "".join(f", ${n}" for n in range(4, 4 + len(columns)))
    return f"INSERT INTO {table} ({names}) VALUES ($1, $2, $3::text::jsonb{places})"


@lru_cache
def _update(table: str, columns: tuple[str, ...]) -> str:
    sets = "".join(f", {name} = ${n}" for n, name in enumerate(columns, 4))
    return f"UPDATE {table} SET version = $2, state = $3::text::jsonb{sets} WHERE id = $1"
