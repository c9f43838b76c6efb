"""What is committed is sent: in order per aggregate, through crashes of relays and cuts of the link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from chassis.broker import Outgoing, Publisher, PublishRefused
from chassis.confirms import Answer
from chassis.database import Database, Row
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.outbox import OutboxTables, Pace, Relay, Wanted
from chassis.roles import Role
from chassis.telemetry import OUTBOX_BLOCKED, OUTBOX_QUARANTINED
from chassis.testing import Tap, eventually
from chassis.testing.links import Link
from contracts.events.webhooks import EndpointTest
from structlog.testing import capture_logs

from services.chassis.tests.probe import announce, declare_unbound, in_one_partition, left_in, running

T = TypeVar("T")


def _relay(database: Database, publisher: Publisher) -> Role:
    return Role("relay", Relay(OutboxTables(database), publisher, owner=new_id()).run)


async def _empty(database: Database) -> None:
    async def check() -> None:
        assert await left_in(database) == 0

    await eventually(check, timeout_s=20)


async def test_the_relay_keeps_each_aggregates_order_and_leaves_nothing(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """Fifty aggregates with four versions each: all arrive, each in its own order, and the outbox is empty."""
    subjects = [new_id() for _ in range(50)]
    for version in (1, 2, 3, 4):
        for subject in subjects:
            await announce(database, subject, version)

    async with running(_relay(database, publisher)):
        await _empty(database)
        await eventually(lambda: all(len(heard.of(EndpointTest, s)) == 4 for s in subjects))

    for subject in subjects:
        assert [r.envelope.aggregateversion for r in heard.of(EndpointTest, subject)] == [1, 2, 3, 4]


async def test_a_backlog_is_sent_whole_and_in_order(database: Database, publisher: Publisher, heard: Tap) -> None:
    """One aggregate with five hundred events waiting among a thousand others: everything arrives, its order kept."""
    busy, others = new_id(), [new_id() for _ in range(1_000)]
    await announce(database, busy, *range(1, 501))
    for subject in others:
        await announce(database, subject, 1)

    async with running(_relay(database, publisher)):
        await _empty(database)
        await eventually(lambda: len(heard.of(EndpointTest, busy)) == 500)

    assert [r.envelope.aggregateversion for r in heard.of(EndpointTest, busy)] == list(range(1, 501))
    assert all(len(heard.of(EndpointTest, subject)) == 1 for subject in others)


async def test_a_rollback_sends_nothing(database: Database, publisher: Publisher, heard: Tap) -> None:
    """A transaction that fails after its outbox row was written leaves no message."""
    subject, marker = new_id(), new_id()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is the transaction
        async with database.transaction() as tx:
            tx.write("INSERT INTO access_users (user_id) VALUES ($1)", subject)
            await tx.flush()
            raise ZeroDivisionError
    await announce(database, marker, 1)

    async with running(_relay(database, publisher)):
        await heard.saw(EndpointTest, marker)

    assert heard.of(EndpointTest, subject) == []
    assert await database.reading().fetchval("SELECT count(*) FROM access_users WHERE user_id = $1", subject) == 0


async def test_a_dead_relays_work_is_taken_over(database: Database, publisher: Publisher, heard: Tap) -> None:
    """A relay that died holding every lease keeps nobody waiting longer than its lease."""
    subject = new_id()
    async with database.command() as tx:
        tx.write("UPDATE outbox_leases SET owner = $1, until = now() + interval '1 second' WHERE true", new_id())
    await announce(database, subject, 1)
    relay = Relay(OutboxTables(database), publisher, owner=new_id(), pace=Pace(renew=0.2))

    async with running(Role("relay", relay.run)):
        await heard.saw(EndpointTest, subject)
        await _empty(database)

    assert len(heard.of(EndpointTest, subject)) == 1


async def test_a_refused_message_blocks_its_aggregate_only(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """An unroutable message stays, its successor waits behind it, the others pass; once routable both go, in order."""
    stuck, free = in_one_partition()
    await announce(database, stuck, 1, 2)
    await database.pool.execute("UPDATE outbox SET exchange = 'evt.nobody-binds' WHERE order_key = $1", stuck)
    await announce(database, free, 1)
    await declare_unbound(publisher)

    async with running(_relay(database, publisher)):
        await heard.saw(EndpointTest, free)

        async def only_the_stuck_are_left() -> None:
            assert await left_in(database) == 2

        await eventually(only_the_stuck_are_left)
        await database.pool.execute("UPDATE outbox SET exchange = 'evt.webhooks' WHERE order_key = $1", stuck)
        await eventually(lambda: len(heard.of(EndpointTest, stuck)) == 2)

    assert [r.envelope.aggregateversion for r in heard.of(EndpointTest, stuck)] == [1, 2]


async def test_what_is_refused_again_and_again_is_quarantined_and_goes_when_it_can(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """Nothing overtakes it from a later read, it is told of once, the others pass, and once routable it goes by itself."""
    stuck, free = in_one_partition()
    await declare_unbound(publisher)
    await announce(database, stuck, 1)
    await database.pool.execute("UPDATE outbox SET exchange = 'evt.nobody-binds' WHERE order_key = $1", stuck)
    relay = Relay(OutboxTables(database), publisher, owner=new_id(), pace=Pace(refused_min=0.01, refused_max=0.1))

    with capture_logs() as logs:
        async with running(Role("relay", relay.run)):
            await eventually(lambda: _logged(logs, "outbox.refused"))
            await announce(database, stuck, 2, 3)
            await eventually(lambda: OUTBOX_QUARANTINED._value.get() == 1)
            await eventually(lambda: _logged(logs, "outbox.refused") >= 8)
            await announce(database, free, 1)
            await heard.saw(EndpointTest, free)
            assert heard.of(EndpointTest, stuck) == []
            await database.pool.execute("UPDATE outbox SET exchange = 'evt.webhooks' WHERE order_key = $1", stuck)
            await _empty(database)
            await eventually(lambda: OUTBOX_QUARANTINED._value.get() == OUTBOX_BLOCKED._value.get() == 0)
            await eventually(lambda: len(heard.of(EndpointTest, stuck)) == 3)

    assert [r.envelope.aggregateversion for r in heard.of(EndpointTest, stuck)] == [1, 2, 3]
    assert _logged(logs, "outbox.quarantined") == 1


async def test_a_refused_message_that_somebody_deletes_is_forgotten(database: Database, publisher: Publisher) -> None:
    """The figure of quarantined aggregates tells of rows that exist."""
    subject = new_id()
    await declare_unbound(publisher)
    await announce(database, subject, 1)
    await database.pool.execute("UPDATE outbox SET exchange = 'evt.nobody-binds' WHERE order_key = $1", subject)
    relay = Relay(OutboxTables(database), publisher, owner=new_id(), pace=Pace(refused_min=0.01, refused_max=0.01))

    async with running(Role("relay", relay.run)):
        await eventually(lambda: OUTBOX_QUARANTINED._value.get() == 1)
        await database.pool.execute("DELETE FROM outbox WHERE order_key = $1", subject)
        await eventually(lambda: OUTBOX_QUARANTINED._value.get() == OUTBOX_BLOCKED._value.get() == 0)


async def test_waits_between_refusals_double_up_to_a_bound(database: Database) -> None:
    """2 s, 4 s, 8 s … 5 min, however often."""

    class Refusing:
        ready = asyncio.Event()

        async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
            return [PublishRefused("no") for _ in messages]

    now, waits = 0.0, []
    await announce(database, new_id(), 1)
    relay = Relay(OutboxTables(database), Refusing(), owner=new_id(), pace=Pace(lease=1e9), clock=lambda: now)
    for _ in range(1_100):
        await relay.round()
        await relay._settle()
        [refusal] = relay._refused.values()
        waits.append(refusal.until - now)
        now = refusal.until
    await relay._leave()
    await database.pool.execute("DELETE FROM outbox")

    assert waits[:9] == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waits[8:]) == {300}


async def test_the_relay_outlives_cut_database_connections(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """With every connection of its database ended again and again, it waits in place, and everything is sent."""
    subjects = [new_id() for _ in range(200)]
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cut'"
    own = Database(f"{database.url}?application_name=cut")
    await own.open()

    async with running(_relay(own, publisher)):
        for number, subject in enumerate(subjects):
            await announce(database, subject, 1)
            if number % 20 == 19:
                await database.pool.execute(end)
        await _empty(database)
        await eventually(lambda: all(heard.of(EndpointTest, s) for s in subjects))
    await own.close()


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.CrashShutdownError("another process crashed"),
        asyncpg.ConnectionDoesNotExistError("closed in the middle"),
        asyncpg.InternalClientError("unexpected state"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.TooManyConnectionsError("sorry"),
        asyncpg.DiskFullError("no space"),
        asyncpg.DeadlockDetectedError("victim"),
        ConcurrentUpdate(),
        ConnectionRefusedError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_relay_waits_in_place_while_the_database_is_away(
    database: Database, publisher: Publisher, heard: Tap, error: Exception
) -> None:
    """Whatever leasing, reading or deleting throws while a server goes down or comes up, before or after it took effect."""
    errors = [error] * 6
    subject = new_id()
    await announce(database, subject, 1)
    relay = Relay(_Failing(database, errors), publisher, owner=new_id(), pace=Pace(unavailable=0.01))

    async with running(Role("relay", relay.run)):
        await eventually(lambda: not errors)
        await announce(database, subject, 2)
        await _empty(database)

    assert [r.envelope.aggregateversion for r in heard.of(EndpointTest, subject)][-1] == 2


class _Failing(OutboxTables):
    """The outbox of a database that goes away: each act fails once before and once after it was done."""

    def __init__(self, database: Database, errors: list[Exception]) -> None:
        super().__init__(database)
        self._errors = errors
        self._failed: set[str] = set()

    async def lease(self, owner: UUID, seconds: float) -> list[int]:
        return await self._failing("lease", lambda: super(_Failing, self).lease(owner, seconds))

    async def read(self, wanted: Wanted) -> list[Row]:
        return await self._failing("read", lambda: super(_Failing, self).read(wanted))

    async def delete_and_read(self, owner: UUID, gone: Sequence[Row], wanted: Wanted) -> list[Row]:
        return await self._failing("delete", lambda: super(_Failing, self).delete_and_read(owner, gone, wanted))

    async def _failing(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        self._fail_once(f"before {name}")
        result = await act()
        self._fail_once(f"after {name}")
        return result

    def _fail_once(self, when: str) -> None:
        if when not in self._failed:
            self._failed.add(when)
            raise self._errors.pop()


def _logged(logs: Sequence[Mapping[str, Any]], event: str) -> int:
    return sum(entry["event"] == event for entry in logs)


async def test_cut_links_lose_nothing(database: Database, broker_url: str, heard: Tap) -> None:
    """With the connection to the broker cut again and again while sending, every message arrives."""
    subjects = [new_id() for _ in range(300)]
    async with Link(broker_url) as link:
        through = Publisher(link.url, name="cut")
        async with running(Role("publisher", through.run), _relay(database, through)):
            for number, subject in enumerate(subjects):
                await announce(database, subject, 1)
                if number % 60 == 59:
                    link.cut()
            await _empty(database)

    await eventually(lambda: all(heard.of(EndpointTest, s) for s in subjects))


async def test_an_unroutable_message_is_refused_not_swallowed(publisher: Publisher) -> None:
    """Publishing where no queue is bound is an error the relay sees."""
    await declare_unbound(publisher)

    with pytest.raises(PublishRefused):
        await publisher.publish(Outgoing("evt.nobody-binds", "x.y.v1", str(uuid4()), b"{}"))
