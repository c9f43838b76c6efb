"""A gated consumer has every event of an aggregate once and in order; a monotonic one never goes back."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import pytest
from chassis import deadletters
from chassis.broker import Incoming, Outgoing
from chassis.consumer import Consumer, ConsumerRunner, NotYet, Order
from chassis.database import Database, Transaction
from chassis.gaps import Gaps
from chassis.kernel import new_id
from chassis.message_store import PARKED_LOOK, SqlMessageStore, Stream, forget_overdue
from chassis.outbox import Announcement, envelope_bytes
from chassis.telemetry import in_context, start_context
from chassis.testing import eventually
from contracts.commands import Resend, command_of
from contracts.events import identity
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received
from hypothesis import given
from hypothesis import strategies as st


class Sent:
    """Keeps what a runner publishes: the ladder's copies and the commands to producers."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []

    async def publish(self, message: Outgoing) -> None:
        self.messages.append(message)


class Rig:
    """A consumer that writes down what it applies, and can be told to fail on a version."""

    def __init__(self, database: Database, order: Order, *, alone: asyncio.Lock | None = None) -> None:
        self.database, self.sent = database, Sent()
        self.name = f"order{new_id().hex[-12:]}"
        self.failing: dict[int, BaseException] = {}
        handlers = {EndpointTest: self._handle, identity.OrganizationSuspended: self._handle}
        self.runner = ConsumerRunner(
            "webhooks", Consumer(self.name, handlers, order=order), SqlMessageStore(database), self.sent, alone=alone
        )

    async def _handle(self, tx: Transaction, received: Received) -> None:
        version = received.envelope.aggregateversion
        if version in self.failing:
            raise self.failing[version]
        tx.write(
            "INSERT INTO applied (consumer, stream_id, version) VALUES ($1, $2, $3)",
            self.name,
            received.envelope.subject,
            version,
        )

    async def take(self, stream_id: UUID, *versions: int, **headers: Any) -> None:
        """Hand over these versions, as one batch."""
        await self.runner.handle([message(stream_id, version, headers=headers) for version in versions])

    async def applied(self, stream_id: UUID) -> list[int]:
        """What had its effect, in that order."""
        query = "SELECT version FROM applied WHERE consumer = $1 AND stream_id = $2 ORDER BY seq"
        return [row["version"] for row in await self.database.reading().fetch(query, self.name, stream_id)]

    async def parked(self) -> int:
        """How many messages wait for their turn."""
        query = "SELECT count(*) FROM parked_messages WHERE consumer = $1"
        count: int = await self.database.reading().fetchval(query, self.name)
        return count

    async def dead(self) -> list[tuple[int, str, str]]:
        """(version, reason, status) of each dead letter."""
        query = "SELECT version, reason, status FROM dead_letters WHERE consumer = $1 ORDER BY version"
        return [tuple(row.values()) for row in await self.database.reading().fetch(query, self.name)]

    def gaps(self, *, resend_after_s: float = 0.0) -> Gaps:
        """One that asks at once."""
        return Gaps([self.runner], self.sent, resend_after_s=resend_after_s)

    async def age(self, seconds: float) -> None:
        """Everything that waits has waited for so much longer."""
        for sql in (
            "UPDATE parked_messages SET parked_at = parked_at - make_interval(secs => $2) WHERE consumer = $1",
            "UPDATE stream_positions SET asked_at = asked_at - make_interval(secs => $2) WHERE consumer = $1",
            "UPDATE retrying_messages SET due_at = due_at - make_interval(secs => $2) WHERE consumer = $1",
        ):
            await self.database.pool.execute(sql, self.name, seconds)


def message(stream_id: UUID, version: int, *, event: Any = None, headers: dict[str, Any] | None = None) -> Incoming:
    event = event or EndpointTest(endpoint_id=stream_id)
    event_id = new_id()
    with in_context(start_context()):
        body = envelope_bytes(Announcement(event), stream_id, event_id, version, datetime.now(UTC))
    return Incoming(1, str(event_id), event.routing_key(), body, headers or {})


@pytest.fixture
async def gated(database: Database) -> Rig:
    await _table(database)
    return Rig(database, Order.GATED)


@pytest.fixture
async def monotonic(database: Database) -> Rig:
    await _table(database)
    return Rig(database, Order.MONOTONIC)


async def _table(database: Database) -> None:
    await database.pool.execute(
        "CREATE TABLE IF NOT EXISTS applied (seq bigint GENERATED ALWAYS AS IDENTITY, consumer text, stream_id uuid, version int)"
    )


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
async def test_whatever_the_order_of_arrival_events_take_effect_in_theirs(gated: Rig, order: Sequence[int]) -> None:
    """One by one or in one batch: 1, 2, 3; nothing stays parked."""
    one_by_one, together = new_id(), new_id()

    for version in order:
        await gated.take(one_by_one, version)
    await gated.take(together, *order)

    assert (await gated.applied(one_by_one), await gated.applied(together)) == ([1, 2, 3], [1, 2, 3])
    assert await gated.parked() == 0


async def test_what_was_had_is_passed_over(gated: Rig) -> None:
    """Repeated, late and parked twice: each version has one effect."""
    stream = new_id()

    await gated.take(stream, 3, 3, 1, 1)
    await gated.take(stream, 3, 2, 1, 2, 3)

    assert await gated.applied(stream) == [1, 2, 3]
    assert await gated.parked() == 0


async def test_workers_with_shuffled_streams_keep_each_ones_order(gated: Rig) -> None:
    """Four workers, thirty streams of eight events, every message twice, shuffled: each once and in order, no deadlock."""
    streams = [new_id() for _ in range(30)]
    messages = [message(stream, version) for stream in streams for version in range(1, 9)] * 2
    random.Random(7).shuffle(messages)
    shares = [messages[n::4] for n in range(4)]

    async def work(share: list[Incoming]) -> None:
        for start in range(0, len(share), 10):
            await gated.runner.handle(share[start : start + 10])

    await asyncio.gather(*(work(share) for share in shares))
    await gated.gaps().round(gated.runner)

    assert {tuple(await gated.applied(stream)) for stream in streams} == {tuple(range(1, 9))}
    assert await gated.parked() == 0


async def test_successors_of_a_dead_letter_stay_parked_until_it_had_its_effect(gated: Rig) -> None:
    """Others go on meanwhile; once the letter comes again and is handled, its successors follow."""
    stream, other = new_id(), new_id()
    gated.failing = {2: ValueError("cannot be handled")}

    await gated.take(stream, 1, 2, 3, 4)
    gated.failing = {}
    await gated.take(other, 1, 2)
    before = await gated.applied(stream)
    await gated.gaps().round(gated.runner)
    asked = len(gated.sent.messages)
    await gated.take(stream, 2)

    assert (before, asked) == ([1], 0), "what is a dead letter is not asked for"
    assert await gated.dead() == [(2, "permanent", "open")]
    assert (await gated.applied(stream), await gated.applied(other)) == ([1, 2, 3, 4], [1, 2])
    assert await gated.parked() == 0


async def test_a_discarded_dead_letter_lets_its_successors_pass(gated: Rig) -> None:
    """What an operator decided not to have is not waited for."""
    stream = new_id()
    gated.failing = {1: ValueError("cannot be handled")}
    await gated.take(stream, 1, 2, 3)
    act = deadletters.Confirmed(
        deadletters.Chosen(consumer=gated.name), expected_count=1, reason="not wanted", actor_id=new_id()
    )

    async with gated.database.transaction() as tx:
        await deadletters.discard(tx, act, now=datetime.now(UTC))
    await gated.gaps().round(gated.runner)

    assert await gated.applied(stream) == [2, 3]
    assert await gated.parked() == 0


async def test_what_waits_in_the_ladder_is_not_asked_for(gated: Rig) -> None:
    """Its successors are parked; when it comes back everything follows, in order."""
    stream = new_id()
    gated.failing = {1: NotYet("its cause is on the way")}
    first = message(stream, 1)
    await gated.runner.handle([first, message(stream, 2)])
    await gated.age(600)
    await gated.gaps().round(gated.runner)
    [copy] = gated.sent.messages
    assert (copy.exchange, copy.headers) == ("retry.webhooks.1s", {"x-attempt": 2})

    gated.failing = {}
    await gated.runner.handle([Incoming(1, first.message_id, "", copy.body, dict(copy.headers))])

    assert await gated.applied(stream) == [1, 2]
    query = "SELECT count(*) FROM retrying_messages WHERE consumer = $1"
    assert await gated.database.reading().fetchval(query, gated.name) == 0


async def test_a_parked_message_that_fails_is_judged_by_itself(gated: Rig) -> None:
    """The one it waited for keeps its effect; the failing one is a dead letter, the next one waits for it."""
    stream = new_id()
    gated.failing = {2: ValueError("cannot be handled")}

    await gated.take(stream, 3, 2)
    await gated.take(stream, 1)

    assert await gated.applied(stream) == [1]
    assert await gated.dead() == [(2, "permanent", "open")]
    assert await gated.parked() == 1


@pytest.mark.fault("events arriving 3, 1, 2 and 2 never")
async def test_the_producer_of_a_missing_event_is_asked_in_time_and_not_too_often(gated: Rig) -> None:
    """Not before the time, then once for everything missing, then again after a pause."""
    stream = new_id()
    await gated.take(stream, 1, 4, 6)

    await gated.gaps(resend_after_s=30).round(gated.runner)
    assert gated.sent.messages == []
    await gated.age(31)
    for _ in range(2):
        await gated.gaps(resend_after_s=30).round(gated.runner)
    [asking] = gated.sent.messages
    await gated.age(31)
    await gated.gaps(resend_after_s=30).round(gated.runner)

    assert (asking.exchange, asking.routing_key) == ("", "ctl.webhooks")
    assert command_of(asking.body) == Resend(
        queue=f"q.webhooks.{gated.name}", subject=stream, from_version=2, to_version=3
    )
    assert len(gated.sent.messages) == 2
    await gated.take(stream, 2, 3)
    assert await gated.applied(stream) == [1, 2, 3, 4]
    assert await gated.parked() == 1


async def test_after_a_day_what_waits_becomes_dead_letters(gated: Rig) -> None:
    """Nothing is lost and nothing skipped: redriven after the missing one came, they have their effect in order."""
    stream = new_id()
    await gated.take(stream, 2, 3)
    await gated.age(86_401)

    await gated.gaps().round(gated.runner)
    letters = await gated.dead()
    await gated.take(stream, 1)
    await gated.take(stream, 3, 2)

    assert letters == [(2, "gap_timeout", "open"), (3, "gap_timeout", "open")]
    assert await gated.applied(stream) == [1, 2, 3]


async def test_events_without_a_handler_move_the_gate_on(gated: Rig) -> None:
    """A type that nobody handles here, or that this release does not know yet, is passed; another major of one is not."""
    organization = new_id()
    registered = identity.OrganizationRegistered(
        organization_id=organization, cnpj="11222333000181", kinds=["provider"]
    )
    suspended = message(organization, 4, event=identity.OrganizationSuspended(organization_id=organization))
    unknown = message(organization, 2, event=registered).body.replace(b".registered.v1", b".renamed_one_day.v1")
    other_major = suspended.body.replace(b".suspended.v1", b".suspended.v2")

    await gated.runner.handle([message(organization, 1, event=registered)])
    await gated.runner.handle([Incoming(1, "a", "", unknown, {})])
    await gated.runner.handle([message(organization, 3, event=registered)])
    await gated.runner.handle([Incoming(1, "b", "", other_major, {})])
    await gated.runner.handle([suspended])

    assert await gated.applied(organization) == [4]
    assert ("identity", "organization.*.v1") in gated.runner.consumer.bindings


async def test_a_monotonic_consumer_passes_over_what_comes_late(monotonic: Rig) -> None:
    """The newest counts: gaps are no matter, an older one and a repeated one have no effect."""
    stream = new_id()

    await monotonic.take(stream, 2)
    await monotonic.take(stream, 1, 5, 5, 3)

    assert await monotonic.applied(stream) == [2, 5]
    assert await monotonic.parked() == 0


async def test_what_kills_the_process_is_tried_alone_and_then_put_aside(gated: Rig) -> None:
    """Each try is on record before it is made; after three that nobody survived it is a dead letter; its neighbours live."""

    class Killed(BaseException):
        """The process ends here: nothing more is done, nothing is said."""

    deadly, neighbours = new_id(), [new_id() for _ in range(5)]
    killer = message(deadly, 1)
    others = [message(stream, 1) for stream in neighbours]
    handle = gated._handle

    async def deadly_handle(tx: Transaction, received: Received) -> None:
        if received.envelope.subject == deadly:
            raise Killed
        await handle(tx, received)

    gated.runner._handlers[EndpointTest.type_name()] = deadly_handle
    deaths, returns = 0, 0
    while True:
        batch = [_returned(one, returns) for one in (*others[:3], killer, *others[3:])]
        try:
            await gated.runner.handle(batch)
        except Killed:
            deaths, returns = deaths + 1, returns + 1
        else:
            break

    assert deaths == 7, "four times in ever smaller company, three times alone"
    assert await gated.dead() == [(1, "crashed", "open")]
    assert [await gated.applied(stream) for stream in neighbours] == [[1]] * 5
    query = "SELECT count(*) FROM suspects WHERE consumer = $1"
    assert await gated.database.reading().fetchval(query, gated.name) == 0


async def test_of_what_may_kill_the_process_one_is_tried_at_a_time(database: Database) -> None:
    """Two consumers of one process: when the second's message is tried, the first's is no suspect any more."""

    class Asked(asyncio.Lock):
        """Counts who asked for it."""

        times = 0

        async def acquire(self) -> Literal[True]:
            self.times += 1
            return await super().acquire()

    alone, may_end = Asked(), asyncio.Event()
    first, second = Rig(database, Order.GATED, alone=alone), Rig(database, Order.GATED, alone=alone)
    suspects = "SELECT message_id FROM suspects WHERE consumer = $1"
    seen: list[int] = []

    async def wait(tx: Transaction, received: Received) -> None:
        await may_end.wait()

    async def look(tx: Transaction, received: Received) -> None:
        seen.append(len(await database.reading().fetch(suspects, first.name)))

    first.runner._handlers[EndpointTest.type_name()] = wait
    second.runner._handlers[EndpointTest.type_name()] = look
    stream = new_id()
    async with asyncio.TaskGroup() as group:
        group.create_task(first.runner.handle([_returned(message(stream, 1), 4)]))
        await eventually(lambda: database.reading().fetch(suspects, first.name))
        group.create_task(second.runner.handle([_returned(message(stream, 1), 4)]))
        await eventually(lambda: bool(seen) or alone.times == 2)
        may_end.set()

    assert seen == [0]


async def test_what_had_its_effect_alone_is_no_suspect_even_when_the_process_died_then(
    gated: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its effect and the end of the suspicion are one commit: nobody comes back to it."""

    class Killed(BaseException):
        """The process ends here."""

    stream = new_id()
    await gated.take(stream, 2)
    await gated.database.pool.execute(
        "UPDATE parked_messages SET tried_at = now() - interval '1 hour' WHERE stream_id = $1", stream
    )

    def die(name: str) -> None:
        if name == "consumer.committed" and gated.runner.consumer.health.completed:
            raise Killed

    gated.runner.consumer.health.completed = 0
    monkeypatch.setattr("chassis.consumer.reached", die)
    with pytest.raises(Killed):
        await gated.take(stream, 1)
    monkeypatch.undo()
    await gated.runner.drain(stream)

    assert await gated.applied(stream) == [1, 2]
    query = "SELECT count(*) FROM suspects WHERE consumer = $1"
    assert await gated.database.reading().fetchval(query, gated.name) == 0


async def test_a_parked_suspect_is_cleared_when_another_copy_has_its_effect(gated: Rig) -> None:
    """What the producer sent again came in order: the parked one was had, and is no suspect any more."""
    stream = new_id()
    second = message(stream, 2)
    await gated.runner.handle([second])
    await gated.runner.store.suspect(gated.name, second.message_id)

    await gated.runner.handle([message(stream, 1), second])

    assert (await gated.applied(stream), await gated.parked()) == ([1, 2], 0)
    query = "SELECT count(*) FROM suspects WHERE consumer = $1"
    assert await gated.database.reading().fetchval(query, gated.name) == 0


async def test_notes_of_the_ladder_do_not_stay_for_ever(gated: Rig) -> None:
    """What is long overdue counts no more; the note of what still waits stays."""
    gone, waiting = Stream(new_id(), 1), Stream(new_id(), 1)
    store = gated.runner.store
    await store.retrying(gated.name, "gone", gone, delay_s=60)
    await gated.age(2 * PARKED_LOOK.total_seconds())
    await store.retrying(gated.name, "waiting", waiting, delay_s=60)

    async with gated.database.transaction() as tx:
        forget_overdue(tx)

    query = "SELECT message_id FROM retrying_messages WHERE consumer = $1"
    assert [row["message_id"] for row in await gated.database.reading().fetch(query, gated.name)] == ["waiting"]


def _returned(incoming: Incoming, times: int) -> Incoming:
    headers = {"x-delivery-count": times} if times else {}
    return Incoming(incoming.tag, incoming.message_id, incoming.routing_key, incoming.body, headers)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=40),
    st.sampled_from([Order.GATED, Order.MONOTONIC]),
)
def test_the_gate_never_repeats_and_never_goes_back(arrivals: list[tuple[int, int]], order: Order) -> None:
    """Whatever arrives: due versions rise, a gated consumer's by one; what is early lies ahead of the position."""
    from chassis.consumer import Decoded, in_order
    from chassis.message_store import Position
    from contracts.registry import envelope_of

    streams = [UUID(int=n) for n in range(3)]
    messages = [
        Decoded(incoming, envelope_of(incoming.body), None)
        for incoming in (message(streams[n], version) for n, version in arrivals)
    ]
    positions = {stream: Position() for stream in streams}

    due, early = in_order(order, positions, messages)

    for stream in streams:
        versions = [one.stream.version for one in due if one.stream.id == stream]
        assert versions == sorted(set(versions))
        if order is Order.GATED:
            assert versions == list(range(1, len(versions) + 1))
        assert positions[stream].version == max(versions, default=0)
        waits = [one for one in early if one.stream.id == stream]
        assert positions[stream].waiting == bool(waits)
