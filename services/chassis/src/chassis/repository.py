"""Loads and saves aggregates: events, the row they fold to, and the messages they send, all in one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from chassis import eventstore
from chassis.database import Row, Transaction
from chassis.kernel import Aggregate, NotFound, Upcasters, new_id
from chassis.outbox import Announcement, enqueue, envelope_bytes
from chassis.stored_events import StoredEvents
from chassis.telemetry import current_context, in_context

A = TypeVar("A", bound=Aggregate)
VERSIONS = range(1, 2**31)


@dataclass(frozen=True, slots=True)
class Fact:
    """A public event as it was sent: its id, its place in its stream, its routing key and its very bytes."""

    event_id: UUID
    version: int
    routing_key: str
    body: bytes


class UnreadableState(ValueError):
    """A row's `state` does not fit the aggregate's class of today: `python -m <service> refold` makes it anew."""


class Repository(Generic[A]):
    """Loads and saves one kind of aggregate: events, state row and outbox rows, or nothing at all.

    `table` has `id`, `version`, `state jsonb` and the columns that `columns(aggregate)` names (for queries and
    constraints). `upcasters` lift stored data of earlier revisions of `events`. `announce` turns a domain event into
    its public event, or None to keep it inside. `inline` sees each public event, with its version, in the same
    transaction.
    """

    def __init__(
        self,
        *,
        table: str,
        aggregate: type[A],
        events: Mapping[str, type],
        upcasters: Upcasters | None = None,
        columns: Callable[[A], dict[str, Any]],
        announce: Callable[[A, Any], Announcement | None],
        inline: Callable[[Transaction, Announcement, int], None] | None = None,
        not_found: type[NotFound] = NotFound,
    ) -> None:
        self.table = table
        self.stored = StoredEvents(events, upcasters or {})
        self.aggregate = aggregate
        self._columns = columns
        self._announce = announce
        self._inline = inline
        self._not_found = not_found
        self._decoder = msgspec.json.Decoder(aggregate)

    async def get(self, tx: Transaction, aggregate_id: UUID) -> A:
        """The aggregate as it is; raises its NotFound."""
        lock = " FOR UPDATE" if tx.locking else ""
        row = await tx.fetchrow(f"SELECT state::text FROM {self.table} WHERE id = $1{lock}", aggregate_id)
        if row is None:
            raise self._not_found
        try:
            return self._decoder.decode(row["state"])
        except msgspec.ValidationError as error:
            raise UnreadableState(f"{self.table} {aggregate_id}: {error}") from error

    async def find(self, tx: Transaction, aggregate_id: UUID) -> A | None:
        """The aggregate as it is, or None."""
        try:
            return await self.get(tx, aggregate_id)
        except self._not_found:
            return None

    async def history(self, tx: Transaction, aggregate_id: UUID) -> list[dict[str, Any]]:
        """The stored events as they look today, oldest first; raises its NotFound when there are none."""
        rows = await self._stream(tx, aggregate_id)
        lifted = [self.stored.lift(row["type"], row["data"]) for row in rows]
        return [{**row, "type": name, "data": data} for row, (name, data) in zip(rows, lifted, strict=True)]

    async def as_of(self, tx: Transaction, aggregate_id: UUID, moment: datetime | None = None) -> A:
        """The aggregate folded from its events, up to `moment`; raises its NotFound when there are none."""
        rows = await self._stream(tx, aggregate_id, until=moment)
        return self.aggregate.fold(aggregate_id, [self._event(row) for row in rows])

    def _event(self, row: Row) -> Any:
        return self.stored.decode(row["type"], row["data"])

    async def refold(self, tx: Transaction, aggregate_id: UUID) -> bool:
        """Make the row anew from the events, in a real transaction; whether it had been another. Nobody is told."""
        version = await tx.fetchval(f"SELECT version FROM {self.table} WHERE id = $1 FOR UPDATE", aggregate_id)
        aggregate = await self.as_of(tx, aggregate_id)
        if aggregate.version != version:
            raise ValueError(f"{self.table} {aggregate_id}: version {version}, but {aggregate.version} by its events")
        columns = self._columns(aggregate)
        sql = _refold(self.table, tuple(columns))
        return await tx.fetchval(sql, aggregate_id, version, _state(aggregate), *columns.values()) is not None

    async def _stream(self, tx: Transaction, aggregate_id: UUID, *, until: datetime | None = None) -> list[Row]:
        rows = await eventstore.load(tx, aggregate_id, until=until)
        if not rows:
            raise self._not_found
        return rows

    @property
    def types(self) -> list[str]:
        """The stored event types that this kind of aggregate folds."""
        return [name for name in self.stored.types if hasattr(self.aggregate, f"_on_{name.partition('.')[0]}")]

    def unborn(self, aggregate_id: UUID) -> A:
        """The aggregate before its first event."""
        return self.aggregate(id=aggregate_id)

    def facts(self, rows: Sequence[Row], versions: range = VERSIONS) -> Iterator[Fact]:
        """What a stream announced of these versions; `rows` are its events from the first on."""
        aggregate = self.unborn(rows[0]["stream_id"])
        for save in eventstore.saves(rows):
            yield from self.retell(aggregate, save, versions)

    def retell(self, aggregate: A, save: Sequence[Row], versions: range = VERSIONS) -> Iterator[Fact]:
        """What one save announced, byte for byte; folds its events into `aggregate`, which is as the save found it."""
        events = [self._event(row) for row in save]
        for event in events:
            aggregate.apply(event)
        for row, event in zip(save, events, strict=True):
            announcement = self._announce(aggregate, event) if row["version"] in versions else None
            if announcement is not None:
                event_id, version = row["event_id"], row["version"]
                with in_context(eventstore.context_of(row["meta"])):
                    body = envelope_bytes(announcement, aggregate.id, event_id, version, row["occurred_at"])
                yield Fact(event_id, version, announcement.event.routing_key(), body)

    def save(self, tx: Transaction, aggregate: A, *, now: datetime) -> None:
        """Queue the aggregate's new events, its row and their messages; nothing happened means nothing is queued."""
        events, aggregate.pending = aggregate.pending, []
        if not events:
            return
        before = aggregate.version - len(events)
        ids = [new_id() for _ in events]
        announced = [(ids[n], before + n + 1, self._announce(aggregate, event)) for n, event in enumerate(events)]
        messages = [(event_id, version, public) for event_id, version, public in announced if public is not None]
        with in_context(current_context()):  # where there is none, events and messages still tell of the same
            eventstore.append(tx, aggregate.id, expected_version=before, ids=ids, events=events, now=now)
            self._store(tx, aggregate, created=before == 0)
            enqueue(tx, stream_id=aggregate.id, messages=messages, now=now)
        if self._inline is not None:
            for _, version, public in messages:
                self._inline(tx, public, version)

    def _store(self, tx: Transaction, aggregate: A, *, created: bool) -> None:
        columns = self._columns(aggregate)
        sql = (_insert if created else _update)(self.table, tuple(columns))
        tx.write(sql, aggregate.id, aggregate.version, _state(aggregate), *columns.values())


def _state(aggregate: Aggregate) -> str:
    return msgspec.json.encode(aggregate).decode()


@lru_cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(("id", "version", "state", *columns))
    places = "".join(f", ${n}" for n in range(4, 4 + len(columns)))
    return f"INSERT INTO {table} ({names}) VALUES ($1, $2, $3::text::jsonb{places})"


@lru_cache
def _update(table: str, columns: tuple[str, ...]) -> str:
    sets = "".join(f", {name} = ${n}" for n, name in enumerate(columns, 4))
    return f"UPDATE {table} SET version = $2, state = $3::text::jsonb{sets} WHERE id = $1"


@lru_cache
def _refold(table: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(("state", *columns))
    places = "".join(f", ${n}" for n in range(4, 4 + len(columns)))
    return f"{_update(table, columns)} AND ({names}) IS DISTINCT FROM ($3::text::jsonb{places}) RETURNING id"
