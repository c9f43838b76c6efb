"""What is committed is sent: in order per aggregate, through crashes of relays and cuts of the link."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from chassis.broker import Outgoing, Publisher, PublishRefused
from chassis.database import Database
from chassis.kernel import new_id
from chassis.outbox import PARTITIONS, Relay
from chassis.roles import Role
from chassis.testing import Tap, eventually
from contracts.events.webhooks import EndpointTest

from services.chassis.tests.probe import CutLink, announce, running


@pytest.fixture
async def heard(broker_url: str, declared: None) -> Tap:
    async with Tap(broker_url, "webhooks") as tap:
        yield tap  # type: ignore[misc]


async def _left(database: Database) -> int:
    count: int = await database.reading().fetchval("SELECT count(*) FROM outbox")
    return count


async def _empty(database: Database) -> None:
    async def check() -> None:
        assert await _left(database) == 0

    await eventually(check, timeout_s=20)


async def test_the_relay_keeps_each_aggregates_order_and_leaves_nothing(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """Fifty aggregates with four versions each: all arrive, each in its own order, and the outbox is empty."""
    subjects = [new_id() for _ in range(50)]
    for version in (1, 2, 3, 4):
        for subject in subjects:
            await announce(database, subject, version)

    async with running(Role("relay", Relay(database, publisher, owner=new_id()).run)):
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

    async with running(Role("relay", Relay(database, publisher, owner=new_id()).run)):
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

    async with running(Role("relay", Relay(database, publisher, owner=new_id()).run)):
        await heard.saw(EndpointTest, marker)

    assert heard.of(EndpointTest, subject) == []
    assert await database.reading().fetchval("SELECT count(*) FROM access_users WHERE user_id = $1", subject) == 0


async def test_a_dead_relays_work_is_taken_over(database: Database, publisher: Publisher, heard: Tap) -> None:
    """A relay that died holding every lease keeps nobody waiting longer than its lease."""
    subject = new_id()
    async with database.command() as tx:
        tx.write("UPDATE outbox_leases SET owner = $1, until = now() + interval '1 second' WHERE true", new_id())
    await announce(database, subject, 1)
    relay = Relay(database, publisher, owner=new_id())
    relay.renew_s = 0.2

    async with running(Role("relay", relay.run)):
        await heard.saw(EndpointTest, subject)
        await _empty(database)


async def test_two_relays_share_the_partitions_and_send_everything_once(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """No partition has two owners; each message arrives exactly once."""
    owners = [new_id(), new_id()]
    relays = [Relay(database, publisher, owner=owner) for owner in owners]
    for relay in relays:
        relay.renew_s = 0.1
    subjects = [new_id() for _ in range(100)]

    async with running(*(Role(f"relay{n}", relay.run) for n, relay in enumerate(relays))):
        query = "SELECT count(*) FROM outbox_leases WHERE owner = $1 AND until > now()"

        async def shared() -> None:
            held = [await database.reading().fetchval(query, owner) for owner in owners]
            assert held == [PARTITIONS // 2, PARTITIONS // 2]

        await eventually(shared)
        for subject in subjects:
            await announce(database, subject, 1)
        await _empty(database)
        await eventually(lambda: all(heard.of(EndpointTest, s) for s in subjects))

    assert all(len(heard.of(EndpointTest, s)) == 1 for s in subjects)


async def test_a_refused_message_blocks_its_aggregate_only(
    database: Database, publisher: Publisher, heard: Tap
) -> None:
    """An unroutable message stays, its successor waits behind it, the others pass; once routable both go, in order."""
    stuck, free = _in_one_partition()
    await announce(database, stuck, 1, 2)
    await database.pool.execute("UPDATE outbox SET exchange = 'evt.nobody-binds' WHERE order_key = $1", stuck)
    await announce(database, free, 1)
    await _declare_unbound(publisher)

    async with running(Role("relay", Relay(database, publisher, owner=new_id()).run)):
        await heard.saw(EndpointTest, free)

        async def only_the_stuck_are_left() -> None:
            assert await _left(database) == 2

        await eventually(only_the_stuck_are_left)
        await database.pool.execute("UPDATE outbox SET exchange = 'evt.webhooks' WHERE order_key = $1", stuck)
        await eventually(lambda: len(heard.of(EndpointTest, stuck)) == 2)

    assert [r.envelope.aggregateversion for r in heard.of(EndpointTest, stuck)] == [1, 2]


async def test_cut_links_lose_nothing(database: Database, broker_url: str, heard: Tap) -> None:
    """With the connection to the broker cut again and again while sending, every message arrives."""
    host, _, rest = broker_url.rpartition("@")[2].partition(":")
    port, _, vhost = rest.partition("/")
    subjects = [new_id() for _ in range(300)]
    async with CutLink(host, int(port)) as link:
        credentials = broker_url.rpartition("@")[0]
        through = Publisher(f"{credentials}@127.0.0.1:{link.port}/{vhost}", name="cut")
        async with running(Role("publisher", through.run), Role("relay", Relay(database, through, owner=new_id()).run)):
            for number, subject in enumerate(subjects):
                await announce(database, subject, 1)
                if number % 60 == 59:
                    link.cut()
            await _empty(database)

    await eventually(lambda: all(heard.of(EndpointTest, s) for s in subjects))


async def test_an_unroutable_message_is_refused_not_swallowed(publisher: Publisher) -> None:
    """Publishing where no queue is bound is an error the relay sees."""
    await _declare_unbound(publisher)

    with pytest.raises(PublishRefused):
        await publisher.publish(Outgoing("evt.nobody-binds", "x.y.v1", str(uuid4()), b"{}"))


async def _declare_unbound(publisher: Publisher) -> None:
    await publisher._channels[0]._channel.exchange_declare(
        exchange="evt.nobody-binds", exchange_type="topic", durable=True
    )


def _in_one_partition() -> tuple[UUID, UUID]:
    first = new_id()
    return first, UUID(int=first.int + PARTITIONS)
