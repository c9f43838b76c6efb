"""What stands for PostgreSQL in the simulation says what the SQL says, whatever is asked of it in whatever order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from chassis import message_store
from chassis.broker import Incoming
from chassis.database import Database
from chassis.kernel import new_id
from chassis.message_store import MessageStore, Parked, Position, SqlMessageStore, Stream
from chassis.outbox import OutboxStore, OutboxTables, Wanted
from chassis.testing.simulation import stores
from chassis.testing.simulation.database import Database as SimulatedDatabase
from chassis.testing.simulation.schedule import Weather, schedule_of
from chassis.testing.simulation.stores import SimulatedMessages, SimulatedOutbox
from chassis.testing.simulation.world import Process, World

from services.chassis.tests.probe import announce

ACTS = 120
CONSUMERS = ("one", "two")
FAR_S = 1e6


def _fair_world() -> World:
    return World(replace(schedule_of(0), weather=Weather()), traced=False)


class Asked:
    """The same questions, drawn from one seed, of whichever store; keeps the answers."""

    def __init__(self, seed: int, store: MessageStore) -> None:
        self.answers: list[Any] = []
        self._draw = random.Random(seed)
        self._store = store
        self._streams = [UUID(int=self._draw.getrandbits(128), version=4) for _ in range(3)]
        self._messages = [UUID(int=self._draw.getrandbits(128), version=4) for _ in range(6)]

    async def ask_all(self) -> None:
        acts = [
            self._inbox, self._gate, self._gate, self._next_parked, self._unpark, self._retrying, self._suspect,
            self._give_up, self._gaps, self._gaps, self._may_ask, self._skip, self._give_up_parked,
        ]  # fmt: skip
        for _ in range(ACTS):
            act = self._draw.choice(acts)
            self.answers.append((act.__name__, await act()))

    @property
    def _consumer(self) -> str:
        return self._draw.choice(CONSUMERS)

    @property
    def _stream(self) -> UUID:
        return self._draw.choice(self._streams)

    @property
    def _message(self) -> str:
        return str(self._draw.choice(self._messages))

    @property
    def _version(self) -> int:
        return self._draw.randint(1, 6)

    async def _inbox(self) -> Any:
        wanted = self._draw.sample(self._messages, 3)
        async with self._store.transaction() as tx:
            return sorted(await self._store.first_time(tx, self._consumer, wanted))

    async def _gate(self) -> Any:
        consumer, stream = self._consumer, self._stream
        async with self._store.transaction() as tx:
            found = await self._store.positions(tx, consumer, [stream, stream])
            before = found[stream]
            if self._draw.random() < 0.4:
                self._store.advance(tx, consumer, {stream: Position(before.version + 1, before.waiting)})
            else:
                early = Parked(stream, before.version + self._draw.randint(1, 3), self._message, "identity", b"body")
                self._store.advance(tx, consumer, {stream: Position(before.version, True)})
                self._store.park(tx, consumer, [early])
            self._store.tried(tx, consumer, [self._message])
        return before

    async def _next_parked(self) -> Any:
        return await self._store.next_parked(self._consumer, self._stream)

    async def _unpark(self) -> Any:
        return await self._store.unpark(self._consumer, self._stream, self._version)

    async def _retrying(self) -> Any:
        stream = Stream(self._stream, self._version)
        return await self._store.retrying(self._consumer, self._message, stream, delay_s=60)

    async def _suspect(self) -> Any:
        return await self._store.suspect(self._consumer, self._message)

    async def _give_up(self) -> Any:
        await self._store.give_up(
            Incoming(0, self._message, "", b"body", {}), ValueError("no"), consumer=self._consumer, queue="q",
            reason="permanent", attempts=1, stream=Stream(self._stream, self._version),
        )  # fmt: skip

    async def _gaps(self) -> Any:
        gaps = await self._store.gaps(self._consumer)
        return sorted((replace(gap, parked_s=0.0) for gap in gaps), key=lambda gap: gap.stream_id)

    async def _may_ask(self) -> Any:
        """Only of what has a position: another one is not asked about."""
        consumer, stream = self._consumer, self._stream
        async with self._store.transaction() as tx:
            await self._store.positions(tx, consumer, [stream])
        return await self._store.may_ask(consumer, stream, pause_s=FAR_S)

    async def _skip(self) -> Any:
        return await self._store.skip(self._consumer, self._stream, self._version)

    async def _give_up_parked(self) -> Any:
        return await self._store.give_up_parked(self._consumer, "q", self._stream)


def _simulated(seed: int) -> list[Any]:
    world = _fair_world()
    asked = Asked(seed, SimulatedMessages(SimulatedDatabase(world), Process(world, "asking")))
    world.loop.run_until_complete(asked.ask_all())
    world.loop.close()
    return asked.answers


@pytest.mark.parametrize("seed", range(20))
async def test_consumers_records_are_the_same_in_memory_and_in_sql(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Inbox, positions, parked messages, notes of retries and suspects, dead letters and gaps."""
    for module in (message_store, stores):
        monkeypatch.setattr(module, "CLAIM_S", FAR_S)  # both clocks run, and not at one speed
    await _emptied(
        database, "inbox", "stream_positions", "parked_messages", "retrying_messages", "suspects", "dead_letters"
    )
    asked = Asked(seed, SqlMessageStore(database))
    await asked.ask_all()

    simulated = await asyncio.to_thread(_simulated, seed)

    for number, (real, imagined) in enumerate(zip(asked.answers, simulated, strict=True)):
        assert real == imagined, f"act {number}"


@pytest.mark.parametrize("seed", range(8))
async def test_outbox_and_leases_are_the_same_in_memory_and_in_sql(database: Database, seed: int) -> None:
    """Three owners lease, read, delete and leave: the same partitions, the same rows in the same order."""
    await _nobody_relays(database)
    for number in range(10):  # the same partitions whenever it is run
        await announce(database, UUID(int=number * 7), 1, 2, 3)
    rows = await database.pool.fetch("SELECT * FROM outbox ORDER BY id")

    real = await _relayed(seed, OutboxTables(database))
    await _nobody_relays(database)  # whatever runs next shall not wait for these leases
    imagined = await asyncio.to_thread(_simulated_relays, seed, rows)

    assert real == imagined
    assert any(len(answer) > 1 for name, answer in real if name == "delete")


async def _nobody_relays(database: Database) -> None:
    await _emptied(database, "outbox", "outbox_relays")
    await database.pool.execute("UPDATE outbox_leases SET owner = $1, until = '-infinity'", new_id())


def _simulated_relays(seed: int, rows: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    world = _fair_world()
    server = SimulatedDatabase(world)
    for row in rows:
        made = server.row(*(row[name] for name in ("order_key", "message_id", "exchange", "routing_key", "body")))
        server.tables.outbox[made["id"]] = made
    answers = world.loop.run_until_complete(_relayed(seed, SimulatedOutbox(server, Process(world, "relaying"))))
    world.loop.close()
    return answers


async def _relayed(seed: int, store: OutboxStore) -> list[tuple[str, list[Any]]]:
    draw, answers = random.Random(seed), []
    owners = [UUID(int=draw.getrandbits(128), version=4) for _ in range(3)]
    held: dict[UUID, list[int]] = {owner: [] for owner in owners}
    read: dict[UUID, list[Any]] = {owner: [] for owner in owners}
    for _ in range(60):
        owner, act = draw.choice(owners), draw.choice(("lease", "lease", "read", "delete", "leave"))
        without = sorted({row["order_key"] for row in read[owner]})[: draw.randint(0, 2)]
        wanted = Wanted(held[owner], without, draw.choice((0, 3, 500)), 500)
        if act == "lease":
            held[owner] = await store.lease(owner, 60.0)
            answers.append((act, held[owner]))
        elif act == "leave":
            await store.give_back(owner)
            held[owner] = []
        else:
            gone = draw.sample(read[owner], min(len(read[owner]), 3)) if act == "delete" else []
            found = await (store.delete_and_read(owner, gone, wanted) if gone else store.read(wanted))
            read[owner] = found or read[owner]
            answers.append((act, [(row["part"], row["message_id"], row["routing_key"], row["body"]) for row in found]))
    return answers


async def _emptied(database: Database, *tables: str) -> None:
    for table in tables:
        await database.pool.execute(f"DELETE FROM {table}")
