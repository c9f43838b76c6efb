"""Several relays share the outbox: whoever joins, leaves, dies or sleeps, no partition has two owners at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from chassis.broker import Outgoing, Publisher
from chassis.confirms import Answer
from chassis.database import Database, Row
from chassis.kernel import new_id
from chassis.outbox import PARTITIONS, OutboxTables, Pace, Relay, Wanted
from chassis.roles import Role
from chassis.testing import Tap, eventually
from contracts.events.webhooks import EndpointTest

from services.chassis.tests import relay_process
from services.chassis.tests.probe import announce, left_in, running

QUICK = Pace(lease=1.5, renew=0.1)


class Owned:
    """A relay whose every publishing is checked: its own leases cover each message that it hands over."""

    def __init__(
        self, database: Database, publisher: Publisher, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = new_id()
        self.ready = publisher.ready
        self.strays: list[Outgoing] = []
        self._database = database
        self._publisher = publisher
        self.relay = Relay(OutboxTables(database), self, owner=self.owner, pace=QUICK, clock=clock)

    @property
    def role(self) -> Role:
        return Role("relay", self.relay.run)

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
        query = "SELECT part FROM outbox_leases WHERE owner = $1 AND until >= now()"
        own = {row["part"] for row in await self._database.reading().fetch(query, self.owner)}
        self.strays += [message for message in messages if message.slot not in own]
        return await self._publisher.publish_all(messages)


async def _held(database: Database) -> list[int]:
    """How many partitions each owner holds now, the most first."""
    query = "SELECT count(*) AS n FROM outbox_leases WHERE until >= now() GROUP BY owner ORDER BY n DESC"
    return [row["n"] for row in await database.reading().fetch(query)]


async def _shared(database: Database, *shares: int) -> None:
    async def check() -> None:
        assert await _held(database) == list(shares)

    await eventually(check)


async def _all_sent(database: Database, heard: Tap, expected: dict[UUID, int]) -> None:
    async def check() -> None:
        assert await left_in(database) == 0
        for subject, last in expected.items():
            assert _first_copies(heard, subject) == list(range(1, last + 1))

    await eventually(check, timeout_s=20)


def _first_copies(heard: Tap, subject: UUID) -> list[int]:
    return list(dict.fromkeys(received.envelope.aggregateversion for received in heard.of(EndpointTest, subject)))


@asynccontextmanager
async def _traffic(database: Database) -> AsyncIterator[dict[UUID, int]]:
    """Forty aggregates that change all the time; tells how often each did."""
    told, over = {new_id(): 0 for _ in range(40)}, asyncio.Event()

    async def change() -> None:
        while not over.is_set():
            for subject in told:
                await announce(database, subject, told[subject] + 1)
                told[subject] += 1

    changing = asyncio.create_task(change())
    try:
        yield told
    finally:
        over.set()
        await changing


@contextmanager
def _process(database_url: str, broker_url: str, *place: str) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [relay_process.__file__, database_url, broker_url, str(QUICK.lease), *place]
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _stopped(process: subprocess.Popen[bytes]) -> None:
    stat = Path(f"/proc/{process.pid}/stat")
    await eventually(lambda: stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T")


async def test_relays_join_and_leave_under_traffic(database: Database, publisher: Publisher, heard: Tap) -> None:
    """One, two, three, one again: partitions are shared out anew, nothing is sent twice, or out of order, or by who does not own it."""
    one, two, three = (Owned(database, publisher) for _ in range(3))

    async with running(one.role), _traffic(database) as told:
        await _shared(database, PARTITIONS)
        async with running(two.role):
            await _shared(database, PARTITIONS // 2, PARTITIONS // 2)
            async with running(three.role):
                await _shared(database, 22, 22, 20)
        await _shared(database, PARTITIONS)
        seen = min(told.values())
        await eventually(lambda: min(told.values()) > seen)
    async with running(one.role):
        await _all_sent(database, heard, told)

    assert [owned.strays for owned in (one, two, three)] == [[], [], []]
    assert len(heard.received) == sum(told.values())


async def test_two_relays_send_everything_once(database: Database, publisher: Publisher, heard: Tap) -> None:
    """As long as nobody dies, each message arrives exactly once."""
    relays = [Owned(database, publisher) for _ in range(2)]
    subjects = [new_id() for _ in range(100)]

    async with running(*(owned.role for owned in relays)):
        await _shared(database, PARTITIONS // 2, PARTITIONS // 2)
        for subject in subjects:
            await announce(database, subject, 1)
        await _all_sent(database, heard, dict.fromkeys(subjects, 1))

    assert all(len(heard.of(EndpointTest, s)) == 1 for s in subjects)


async def test_a_relay_that_is_told_to_leave_finishes_what_is_under_way(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """Stopped and followed by another in the midst of a backlog, nothing is sent twice, and nobody waits for a lease."""
    subjects = [new_id() for _ in range(40)]
    for subject in subjects:
        await announce(database, subject, *range(1, 101))

    async with running(Owned(database, publisher).role):
        await eventually(lambda: len(heard.received) > 100)
    assert await _held(database) == []
    async with running(Owned(database, publisher).role):
        await _all_sent(database, heard, dict.fromkeys(subjects, 100))

    assert len(heard.received) == 4_000


async def test_a_killed_relays_partitions_are_taken_over_in_order(
    database: Database, database_url: str, broker_url: str, publisher: Publisher, heard: Tap
) -> None:
    """Killed under traffic, a relay leaves everything to the other, which begins when the leases have run out."""
    owned = Owned(database, publisher)

    async with running(owned.role), _traffic(database) as told:
        with _process(database_url, broker_url) as process:
            await _shared(database, PARTITIONS // 2, PARTITIONS // 2)
            process.kill()
            await _shared(database, PARTITIONS)
    async with running(owned.role):
        await _all_sent(database, heard, told)

    assert owned.strays == []


async def test_a_relay_that_slept_past_its_lease_lets_go_what_it_read(
    database: Database, database_url: str, broker_url: str, publisher: Publisher, heard: Tap
) -> None:
    """A process stopped between reading and publishing, and woken when others have sent it all, sends nothing a second time."""
    subjects = [new_id() for _ in range(20)]
    for subject in subjects:
        await announce(database, subject, 1)

    with _process(database_url, broker_url, "outbox.read") as process:
        await _stopped(process)
        async with running(Owned(database, publisher).role):
            await _all_sent(database, heard, dict.fromkeys(subjects, 1))
            os.kill(process.pid, signal.SIGCONT)
            await _shared(database, PARTITIONS // 2, PARTITIONS // 2)  # it has leased anew: what it had is gone
            await announce(database, subjects[0], 2)
            await _all_sent(database, heard, dict.fromkeys(subjects, 1) | {subjects[0]: 2})

    assert len(heard.received) == len(subjects) + 1


async def test_what_was_read_is_not_sent_once_the_lease_may_be_over(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """By the relay's own clock, counted from before it asked for the lease; it leases anew before it reads again."""
    now, slow = 1_000.0, [1.0, 0.6]  # asking takes a second, reading the rest of the lease and more

    class Slow(OutboxTables):
        async def lease(self, owner: UUID, seconds: float) -> list[int]:
            nonlocal now
            parts = await super().lease(owner, seconds)
            now += slow[0]
            return parts

        async def read(self, wanted: Wanted) -> list[Row]:
            nonlocal now
            rows = await super().read(wanted)
            now += slow[1]
            return rows

    subject = new_id()
    await announce(database, subject, 1)
    relay = Relay(Slow(database), publisher, owner=new_id(), pace=QUICK, clock=lambda: now)

    assert await relay.round() == 1
    slow[0] = 0.0
    assert await relay.round() == 1
    assert heard.received == []
    await relay.round()
    await heard.saw(EndpointTest, subject)
    await relay._leave()

    assert len(heard.received) == 1


@pytest.fixture(autouse=True)
async def _no_rows_of_others(database: Database) -> None:
    await database.pool.execute("DELETE FROM outbox")
    await database.pool.execute("UPDATE outbox_leases SET until = '-infinity'")
    await database.pool.execute("DELETE FROM outbox_relays")
