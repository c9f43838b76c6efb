"""PostgreSQL as far as the logic relies on it: READ COMMITTED, row locks, atomic commits, connections that break."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg

from chassis.database import Transaction
from chassis.kernel import ConcurrentUpdate
from chassis.message_store import Parked, Stream
from chassis.outbox import PARTITIONS, partition_of
from chassis.repository import Fact
from chassis.testing.simulation.world import FLIGHT_S, Process, World

WOKEN = 0.5  # of the commits
ABORTED_AFTER_S = 0.05  # what a dead client had open; all that it sent before has arrived by then

T = TypeVar("T")


@dataclass(slots=True)
class Kept:
    """A row of `stream_positions`."""

    version: int = 0
    waiting: bool = False
    asked_at: float | None = None


@dataclass(slots=True)
class Row:
    """A row of `parked_messages`."""

    message: Parked
    parked_at: float
    tried_at: float | None = None


@dataclass(slots=True)
class Letter:
    """A row of `dead_letters`."""

    consumer: str
    queue: str
    message_id: str
    body: bytes
    reason: str
    stream: Stream | None
    status: str = "open"


@dataclass
class Tables:
    """What is committed."""

    events: dict[tuple[UUID, int], Fact] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    outbox: dict[int, dict[str, Any]] = field(default_factory=dict)
    leases: list[tuple[UUID | None, float]] = field(default_factory=lambda: [(None, -1.0)] * PARTITIONS)
    relays: dict[UUID, float] = field(default_factory=dict)
    inbox: set[tuple[str, UUID]] = field(default_factory=set)
    positions: dict[tuple[str, UUID], Kept] = field(default_factory=dict)
    parked: dict[tuple[str, UUID], dict[int, Row]] = field(default_factory=dict)
    retrying: dict[tuple[str, str], tuple[Stream, float]] = field(default_factory=dict)
    suspects: dict[tuple[str, str], int] = field(default_factory=dict)
    letters: dict[tuple[str, str, str, bytes], Letter] = field(default_factory=dict)


class Changes(Transaction):
    """An open transaction: row locks, and changes that become visible together, or never."""

    def __init__(self, process: Process | None) -> None:
        self.process = process
        self.changes: list[Callable[[], None]] = []
        self.rows: list[Hashable] = []
        self.state = "open"

    def change(self, act: Callable[[], None]) -> None:
        """Queue it for the commit."""
        self.changes.append(act)

    async def flush(self) -> None:
        """The commit sends all."""

    def end_step(self) -> None:
        """The commit sends all."""


class Database:
    """The server, and what crosses the network to it. `hear` is called after each commit that fills the outbox."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tables = Tables()
        self.down = False
        self._up_at = 0.0
        self._row_ids = 0
        self.hear: list[tuple[Process, Callable[[], None]]] = []
        self._open: list[Changes] = []
        self._locks: dict[Hashable, Changes] = {}
        self._queued: dict[Hashable, deque[tuple[Changes, Callable[[], None]]]] = {}

    def row(self, order_key: UUID, message_id: UUID, exchange: str, key: str, body: bytes) -> dict[str, Any]:
        """A row of the outbox with its id; nobody sees it before it is put into the table."""
        self._row_ids += 1
        return {
            "part": partition_of(order_key), "id": self._row_ids, "order_key": order_key, "message_id": message_id,
            "exchange": exchange, "routing_key": key, "body": body,
        }  # fmt: skip

    def append(self, subject: UUID, facts: Sequence[Fact], rows: Sequence[dict[str, Any]]) -> None:
        """Commit events and their messages."""
        for fact in facts:
            self.world.note("{} is committed", fact.event_id)
            self.tables.events[subject, fact.version] = fact
            self.tables.versions[subject] = fact.version
        for row in rows:
            self.tables.outbox[row["id"]] = row
        self._wake()

    @property
    def now(self) -> float:
        """Its clock."""
        return self.world.loop.time()

    async def ask(self, process: Process, act: Callable[[], T], *, tx: Changes | None = None) -> T:
        """What `act` returns at the server; raises what a connection raises that breaks before, or after it was done."""
        return await self.ask_locked(process, tx, (), act)

    async def ask_locked(
        self, process: Process, tx: Changes | None, rows: Sequence[Hashable], act: Callable[[], T]
    ) -> T:
        """The same, once the rows are this transaction's, taken in the order given."""
        process.must_live()
        answer: asyncio.Future[T] = self.world.loop.create_future()
        flight_s = self.world.flight()
        asked = self._asked if flight_s <= FLIGHT_S[1] else self._asked_late
        self.world.loop.happen(flight_s, asked, act, tx, rows, answer)
        return await answer

    @asynccontextmanager
    async def transaction(self, process: Process) -> AsyncIterator[Changes]:
        """Commits when the block ends well."""
        tx = Changes(process)
        await self.ask(process, lambda: self._open.append(tx))
        try:
            yield tx
        except BaseException:
            if process.alive:  # else the server notices by itself
                self.world.loop.happen(self.world.flight(), self.end, tx, "rolled back")
            raise
        await self.ask(process, lambda: self.commit(tx), tx=tx)

    def commit(self, tx: Changes) -> None:
        """All changes at once."""
        if self.world.chance(self.world.weather.conflict):
            self.end(tx, "refused")
            raise ConcurrentUpdate
        for act in tx.changes:
            act()
        self.end(tx, "committed")

    def end(self, tx: Changes, state: str) -> None:
        """Let go of its rows; who waits for one goes on."""
        if tx.state != "open":
            return
        tx.state = state
        if tx in self._open:
            self._open.remove(tx)
        for row in tx.rows:
            del self._locks[row]
        for row in tx.rows:
            self._hand_over(row)

    def client_died(self, process: Process) -> None:
        """Its transactions end when the server notices."""
        self.hear = [(known, tell) for known, tell in self.hear if known is not process]
        for tx in [tx for tx in self._open if tx.process is process]:
            self.world.loop.happen(ABORTED_AFTER_S, self.end, tx, "aborted")

    def go_down(self, seconds: float) -> None:
        """As with a restart: what is open is gone, what is committed stays."""
        self.world.note("the database is down for {:.3f} s", seconds)
        self.down = True
        self._up_at = max(self._up_at, self.world.loop.time() + seconds)
        for tx in self._open[:]:
            self.end(tx, "aborted")
        self.world.loop.happen(seconds, self.come_up)

    def come_up(self) -> None:
        """As before, unless it went down again meanwhile."""
        self.down = self.world.loop.time() < self._up_at and not self.world.calm

    def _wake(self) -> None:
        """Commits are heard of in their own process only: that is, now and then."""
        for process, tell in self.hear:
            if process.alive and self.world.random.random() < WOKEN:
                tell()

    def _asked_late(
        self, act: Callable[[], T], tx: Changes | None, rows: Sequence[Hashable], answer: asyncio.Future[T]
    ) -> None:
        if not answer.done():
            self._asked(act, tx, rows, answer)
        elif tx is not None:  # the connection is closed long since
            self.end(tx, "aborted")

    def _asked(
        self, act: Callable[[], T], tx: Changes | None, rows: Sequence[Hashable], answer: asyncio.Future[T]
    ) -> None:
        world = self.world
        if self.down:
            return self._answer(answer, None, ConnectionRefusedError("the database is down"))
        if world.chance(world.weather.lost_question):
            if tx is not None:
                self.end(tx, "aborted")
            return self._answer(answer, None, asyncpg.ConnectionDoesNotExistError("lost before"))
        if tx is None or not rows:
            return self._do(act, tx, answer)
        return self._take(tx, iter(rows), lambda: self._do(act, tx, answer), answer)

    def _do(self, act: Callable[[], T], tx: Changes | None, answer: asyncio.Future[T]) -> None:
        if tx is not None and tx.state != "open":
            return self._answer(answer, None, asyncpg.ConnectionDoesNotExistError("the transaction is gone"))
        try:
            result = act()
        except Exception as error:
            return self._answer(answer, None, error)
        if self.world.chance(self.world.weather.lost_answer):
            if tx is not None:
                self.end(tx, "aborted")
            return self._answer(answer, None, asyncpg.ConnectionDoesNotExistError("lost after"))
        return self._answer(answer, result, None)

    def _answer(self, answer: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
        self.world.loop.happen(self.world.flight(), _settle, answer, result, error)

    def _take(
        self, tx: Changes, rows: Iterator[Hashable], then: Callable[[], None], answer: asyncio.Future[Any]
    ) -> None:
        if tx.state != "open":
            return self._answer(answer, None, asyncpg.ConnectionDoesNotExistError("the transaction is gone"))
        for row in rows:
            holder = self._locks.setdefault(row, tx)
            if holder is not tx:
                self._queued.setdefault(row, deque()).append((tx, lambda: self._take(tx, rows, then, answer)))
                return None
            if row not in tx.rows:
                tx.rows.append(row)
        return then()

    def _hand_over(self, row: Hashable) -> None:
        waiting = self._queued.get(row)
        while waiting and row not in self._locks:
            tx, go_on = waiting.popleft()
            if tx.state == "open":
                self._locks[row] = tx
                tx.rows.append(row)
            go_on()
        if not waiting:
            self._queued.pop(row, None)


def _settle(answer: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
    if answer.done():  # nobody waits any more
        return
    if error is None:
        answer.set_result(cast("T", result))
    else:
        answer.set_exception(error)
