"""The outbox and what consumers keep, as the SQL of `chassis.outbox` and `chassis.message_store` has them, in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeVar, cast
from uuid import UUID

from chassis.broker import Incoming
from chassis.database import Transaction
from chassis.message_store import PARKED_LOOK, Gap, Parked, Position, Stream
from chassis.outbox import PARTITIONS, Wanted
from chassis.testing.simulation.database import Changes, Database, Kept, Letter, Row, Tables
from chassis.testing.simulation.world import Process

CLAIM_S = 1.0  # shorter than `chassis.message_store` has it, as all times here

T = TypeVar("T")


class SimulatedOutbox:
    """`chassis.outbox.OutboxStore`."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process

    def listen(self, wake: Callable[[], None]) -> None:
        self._database.hear.append((self._process, wake))

    async def lease(self, owner: UUID, seconds: float) -> list[int]:
        return await self._database.ask(self._process, lambda: lease(self._database, owner, seconds))

    async def read(self, wanted: Wanted) -> list[Any]:
        return await self._database.ask(self._process, lambda: _next(self._database.tables, wanted))

    async def delete_and_read(self, owner: UUID, gone: Sequence[Any], wanted: Wanted) -> list[Any]:
        def act() -> list[Any]:
            tables, now = self._database.tables, self._database.now
            rows = _next(tables, wanted)  # one snapshot: what is deleted here is still seen
            for row in gone:
                holder, until = tables.leases[row["part"]]
                if holder == owner and until >= now:
                    tables.outbox.pop(row["id"], None)
            return rows

        return await self._database.ask(self._process, act)

    async def give_back(self, owner: UUID) -> None:
        def act() -> None:
            _release(self._database, owner, ())
            self._database.tables.relays.pop(owner, None)

        await self._database.ask(self._process, act)


def lease(database: Database, owner: UUID, seconds: float) -> list[int]:
    """The owner's fair share, its own partitions first."""
    tables, now = database.tables, database.now
    tables.relays[owner] = now + seconds
    present = sum(until >= now for until in tables.relays.values())
    free = [part for part, (holder, until) in enumerate(tables.leases) if holder == owner or until < now]
    free.sort(key=lambda part: (tables.leases[part][0] != owner or tables.leases[part][1] < now, part))
    parts = sorted(free[: math.ceil(PARTITIONS / present)])
    for part in parts:
        tables.leases[part] = (owner, now + seconds)
    _release(database, owner, parts)
    tables.relays = {known: until for known, until in tables.relays.items() if until >= now}
    return parts


def _release(database: Database, owner: UUID, parts: Sequence[int]) -> None:
    leases = database.tables.leases
    for part, (holder, _) in enumerate(leases):
        if holder == owner and part not in parts:
            leases[part] = (owner, database.now - 1)


def _next(tables: Tables, wanted: Wanted) -> list[Any]:
    parts, without = set(wanted.parts), set(wanted.without)
    rows = [row for row in tables.outbox.values() if row["part"] in parts and row["order_key"] not in without]
    return sorted(rows, key=lambda row: int(row["id"]))[: wanted.limit]


class SimulatedMessages:
    """`chassis.message_store.MessageStore`."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process
        self._tables = database.tables
        self._note = database.world.note

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return cast("AbstractAsyncContextManager[Transaction]", self._database.transaction(self._process))

    async def ping(self) -> None:
        await self._act(lambda: None)

    async def first_time(self, tx: Transaction, consumer: str, message_ids: Sequence[UUID]) -> set[UUID]:
        inbox, changes = self._tables.inbox, cast("Changes", tx)
        keys = [(consumer, message_id) for message_id in sorted(set(message_ids))]

        def act() -> set[UUID]:
            fresh = [key for key in keys if key not in inbox]
            changes.change(lambda: inbox.update(fresh))
            return {message_id for _, message_id in fresh}

        return await self._database.ask_locked(self._process, changes, [("inbox", *key) for key in keys], act)

    async def positions(self, tx: Transaction, consumer: str, streams: Sequence[UUID]) -> dict[UUID, Position]:
        wanted = sorted(set(streams))

        def act() -> dict[UUID, Position]:
            kept = {stream_id: self._kept(consumer, stream_id) for stream_id in wanted}
            return {stream_id: Position(row.version, row.waiting) for stream_id, row in kept.items()}

        rows = [("position", consumer, stream_id) for stream_id in wanted]
        return await self._database.ask_locked(self._process, cast("Changes", tx), rows, act)

    def advance(self, tx: Transaction, consumer: str, positions: Mapping[UUID, Position]) -> None:
        now = {stream_id: (position.version, position.waiting) for stream_id, position in positions.items()}

        def act() -> None:
            for stream_id, (version, waiting) in now.items():
                row = self._kept(consumer, stream_id)
                row.version, row.waiting = version, waiting

        cast("Changes", tx).change(act)

    def park(self, tx: Transaction, consumer: str, messages: Sequence[Parked]) -> None:
        def act() -> None:
            for message in messages:
                behind = self._tables.parked.setdefault((consumer, message.stream_id), {})
                self._note("{} is parked by {}", message.message_id, consumer)
                behind.setdefault(message.version, Row(message, self._database.now))

        cast("Changes", tx).change(act)

    def tried(self, tx: Transaction, consumer: str, message_ids: Sequence[str]) -> None:
        cast("Changes", tx).change(lambda: self._tried(consumer, message_ids))

    async def next_parked(self, consumer: str, stream_id: UUID) -> Parked | None:
        def act() -> Parked | None:
            row = self._kept(consumer, stream_id)
            behind = self._forget_had(consumer, stream_id, row.version)
            if not behind:
                row.waiting, row.asked_at = False, None
                return None
            first, now = behind[min(behind)], self._database.now
            if first.message.version != row.version + 1 or (first.tried_at or -math.inf) > now - CLAIM_S:
                return None
            suspect, first.tried_at = first.tried_at is not None, now
            return replace(first.message, suspect=suspect)

        return await self._act_locked(consumer, stream_id, act)

    async def unpark(self, consumer: str, stream_id: UUID, version: int) -> None:
        def act() -> None:
            self._tables.parked.get((consumer, stream_id), {}).pop(version, None)

        await self._act(act)

    async def retrying(self, consumer: str, message_id: str, stream: Stream, *, delay_s: float) -> None:
        def act() -> None:
            self._note("{} is noted for the ladder of {}", message_id, consumer)
            known, _ = self._tables.retrying.get((consumer, message_id), (stream, 0.0))
            self._tables.retrying[consumer, message_id] = (known, self._database.now + delay_s)
            self._tables.suspects.pop((consumer, message_id), None)

        await self._act(act)

    async def suspect(self, consumer: str, message_id: str) -> int:
        def act() -> int:
            key = (consumer, message_id)
            self._tables.suspects[key] = tries = self._tables.suspects.get(key, 0) + 1
            self._note("{} is tried alone by {}, {} times now", message_id, consumer, tries)
            return tries

        return await self._act(act)

    async def give_up(
        self, incoming: Incoming, error: BaseException, *, consumer: str, queue: str, reason: str, attempts: int,
        stream: Stream | None,
    ) -> None:  # fmt: skip
        def act() -> None:
            self._note("{} is given up by {}: {}", incoming.message_id, consumer, reason)
            self._keep(Letter(consumer, queue, incoming.message_id, incoming.body, reason, stream))
            self._tried(consumer, [incoming.message_id])

        await self._act(act)

    async def gaps(self, consumer: str) -> Sequence[Gap]:
        def act() -> list[Gap]:
            rows = [(stream_id, row) for (name, stream_id), row in self._tables.positions.items()
                    if name == consumer and row.waiting and self._tables.parked.get((name, stream_id))]  # fmt: skip
            rows.sort(key=lambda found: -math.inf if found[1].asked_at is None else found[1].asked_at)
            return [self._gap(consumer, stream_id, row) for stream_id, row in rows]

        return await self._act(act)

    async def may_ask(self, consumer: str, stream_id: UUID, *, pause_s: float) -> bool:
        def act() -> bool:
            row, now = self._kept(consumer, stream_id), self._database.now
            may = row.asked_at is None or row.asked_at <= now - pause_s
            row.asked_at = now if may else row.asked_at
            return may

        return await self._act_locked(consumer, stream_id, act)

    async def skip(self, consumer: str, stream_id: UUID, version: int) -> None:
        def act() -> None:
            row = self._tables.positions.get((consumer, stream_id))
            if row is not None and row.version == version - 1:
                row.version = version

        await self._act_locked(consumer, stream_id, act)

    async def give_up_parked(self, consumer: str, queue: str, stream_id: UUID) -> int:
        def act() -> int:
            behind = self._tables.parked.pop((consumer, stream_id), {})
            for version, row in behind.items():
                stream, message = Stream(stream_id, version), row.message
                self._keep(Letter(consumer, queue, message.message_id, message.body, "gap_timeout", stream))
                self._tables.suspects.pop((consumer, message.message_id), None)
            return len(behind)

        return await self._act_locked(consumer, stream_id, act)

    async def _act(self, act: Callable[[], T]) -> T:
        return await self._database.ask(self._process, act)

    async def _act_locked(self, consumer: str, stream_id: UUID, act: Callable[[], T]) -> T:
        """A transaction of one statement."""
        tx = Changes(self._process)

        def act_and_end() -> T:
            result = act()
            self._database.end(tx, "committed")
            return result

        return await self._database.ask_locked(self._process, tx, [("position", consumer, stream_id)], act_and_end)

    def _kept(self, consumer: str, stream_id: UUID) -> Kept:
        return self._tables.positions.setdefault((consumer, stream_id), Kept())

    def _tried(self, consumer: str, message_ids: Sequence[str]) -> None:
        for message_id in message_ids:
            self._tables.retrying.pop((consumer, message_id), None)
            self._tables.suspects.pop((consumer, message_id), None)

    def _forget_had(self, consumer: str, stream_id: UUID, version: int) -> dict[int, Row]:
        behind = self._tables.parked.get((consumer, stream_id), {})
        for had in [known for known in behind if known <= version]:
            self._tables.suspects.pop((consumer, behind.pop(had).message.message_id), None)
        return behind

    def _keep(self, letter: Letter) -> None:
        known = self._tables.letters.setdefault((letter.consumer, letter.queue, letter.message_id, letter.body), letter)
        if known.status != "discarded":
            known.status, known.reason = "open", letter.reason

    def _gap(self, consumer: str, stream_id: UUID, row: Kept) -> Gap:
        behind = self._tables.parked[consumer, stream_id]
        first = behind[min(behind)]
        parked_s = self._database.now - first.parked_at
        missing = self._fate(consumer, Stream(stream_id, row.version + 1))
        return Gap(stream_id, row.version, first.message.version, first.message.producer, parked_s, missing)

    def _fate(self, consumer: str, stream: Stream) -> str | None:
        tables, overdue = self._tables, self._database.now - PARKED_LOOK.total_seconds()
        fates = {letter.status for letter in tables.letters.values()
                 if letter.consumer == consumer and letter.stream == stream}  # fmt: skip
        if fates & {"open", "redriving"}:
            return "dead"
        if any(name == consumer and known == stream and due_at > overdue
               for (name, _), (known, due_at) in tables.retrying.items()):  # fmt: skip
            return "retrying"
        return "discarded" if "discarded" in fates else None
