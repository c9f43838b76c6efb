"""A projection is built anew beside the live one and takes its place at once; what goes wrong leaves the live one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
import pytest_asyncio
from chassis import crashpoints, generations, green_tables, projections
from chassis.app import Runtime, Service, create_api
from chassis.broker import Publisher, Subscriber, declare_topology
from chassis.consumer import Consumer, ConsumerRunner
from chassis.database import Database, Transaction
from chassis.kernel import new_id
from chassis.message_store import SqlMessageStore
from chassis.outbox import OutboxTables, Relay
from chassis.projections import GenerationRunner, Projections, Rebuilder
from chassis.roles import Role
from chassis.settings import ServiceSettings
from chassis.testing import Callers, eventually
from chassis.testing.replays import Playing
from contracts.commands import REPLAY_HEADER
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received
from structlog.testing import capture_logs

from services.chassis.tests.probe import running
from services.chassis.tests.test_dead_letters import message_about

OPS = "/v1/ops/webhooks"
TABLES = ("tally", "heard")
MADE = """
    CREATE TABLE tally (
        subject uuid CONSTRAINT tally_subject_key PRIMARY KEY, times int NOT NULL DEFAULT 0 CHECK (times >= 0),
        number bigint GENERATED ALWAYS AS IDENTITY, parts text[] NOT NULL DEFAULT '{}',
        CONSTRAINT tally_number_once UNIQUE (number) INCLUDE (times)) WITH (fillfactor = 70);
    CREATE TABLE heard (event_id uuid PRIMARY KEY, subject uuid NOT NULL);
    CREATE INDEX heard_by_subject ON heard (subject) WHERE subject IS NOT NULL;
    CREATE INDEX tally_parts ON tally USING gin (parts);
    CREATE VIEW tallied AS SELECT t.subject, t.times, count(h.event_id) AS heard
        FROM tally t JOIN heard h USING (subject) GROUP BY t.subject, t.times;
    CREATE VIEW often WITH (security_barrier = true) AS SELECT subject FROM tallied WHERE times > 2;
"""
# Everything that says what a schema's relations are, its own name left out.
SHAPE = """SELECT c.relname, c.relkind::text, c.reloptions::text,
    (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || a.attnotnull || a.attidentity::text
        || coalesce(pg_get_expr(d.adbin, d.adrelid), ''), ', ' ORDER BY a.attnum)
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns,
    (SELECT string_agg(k.conname || ' ' || pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname)
     FROM pg_constraint k WHERE k.conrelid = c.oid) AS constraints,
    (SELECT string_agg(replace(pg_get_indexdef(i.indexrelid), $1 || '.', ''), ', ' ORDER BY i.indexrelid::regclass::text)
     FROM pg_index i WHERE i.indrelid = c.oid) AS indexes,
    CASE WHEN c.relkind = 'v' THEN replace(pg_get_viewdef(c.oid), $1 || '.', '') END AS view
FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'v')
    AND c.relname IN ('tally', 'heard', 'tallied', 'often') ORDER BY c.relname"""


class Crash(BaseException):
    """The process is gone."""


class Rig:
    """A projection that counts, its workers, and the producer that it hears, played."""

    def __init__(self, database: Database, publisher: Publisher, broker_url: str, playing: Playing) -> None:
        self.database = database
        self.publisher = publisher
        self.broker_url = broker_url
        self.playing = playing
        self.poisoned: set[UUID] = set()
        self.processes: list[Subscriber] = []
        self.consumer = Consumer("tally", {EndpointTest: self._count}, projection=TABLES)
        self.rebuilder = Rebuilder("webhooks", [self.consumer], database, publisher, broker_url)

    async def _count(self, tx: Transaction, received: Received) -> None:
        event: Any = received.event
        if event.endpoint_id in self.poisoned:
            raise ZeroDivisionError
        tx.write("INSERT INTO heard (event_id, subject) VALUES ($1, $2)", received.envelope.id, event.endpoint_id)
        tx.write(
            "INSERT INTO tally (subject, times) VALUES ($1, 1) ON CONFLICT (subject) DO UPDATE SET times = tally.times + 1",
            event.endpoint_id,
        )

    def working(self, *more: Role) -> AbstractAsyncContextManager[None]:
        """One process: relay, consumers, projections."""
        subscriber = Subscriber(self.broker_url, name="rig", subscriptions=[])
        self.processes.append(subscriber)
        relay = Relay(OutboxTables(self.database), self.publisher, owner=new_id())
        own = Projections("webhooks", [self.consumer], self.database, self.publisher, subscriber, {})
        return running(Role("relay", relay.run), Role("consumers", subscriber.run), Role("own", own.run), *more)

    def rebuilding(self) -> AbstractAsyncContextManager[None]:
        """One process that also moves rebuilds on."""
        return self.working(Role("rebuild", self.rebuilder.run))

    async def tell(self, *subjects: UUID, version: int = 1) -> None:
        """The producer tells a fact of each."""
        for subject in subjects:
            await self.playing.tell(EndpointTest(endpoint_id=subject), subject, version)

    async def rows(self, schema: str = "public") -> dict[str, int]:
        """How often each subject was counted."""
        if not await self.database.reading().fetchval("SELECT to_regclass($1)", f"{schema}.tally"):
            return {}
        found = await self.database.reading().fetch(f"SELECT subject, times FROM {schema}.tally")
        return {str(row["subject"]): row["times"] for row in found}

    async def counted(self, count: int, schema: str = "public") -> None:
        """Wait until so many facts are counted."""

        async def check() -> None:
            assert sum((await self.rows(schema)).values()) == count

        await eventually(check, timeout_s=20)

    async def begin(self) -> UUID:
        """An admin asks for a rebuild; returns the job."""
        async with self.database.transaction() as tx:
            job = await generations.begin(tx, "tally", actor_id=new_id(), reason="test", now=datetime.now(UTC))
        return UUID(int=job["id"].int)

    async def generation(self, number: int) -> dict[str, Any]:
        """As its row is."""
        sql = "SELECT * FROM projection_generations WHERE consumer = 'tally' AND number = $1"
        row = await self.database.reading().fetchrow(sql, number)
        assert row is not None
        return dict(row)

    async def becomes(self, number: int, **wanted: str) -> None:
        """Wait until a generation is so."""

        async def check() -> None:
            found = await self.generation(number)
            assert {name: found[name] for name in wanted} == wanted, found

        await eventually(check, timeout_s=20)

    async def job(self, job_id: UUID) -> dict[str, Any]:
        """As its row is."""
        row = await self.database.reading().fetchrow("SELECT * FROM operator_jobs WHERE id = $1", job_id)
        assert row is not None
        return dict(row)

    async def schemas(self) -> list[str]:
        """Which generations have tables beside the public ones."""
        rows = await self.database.reading().fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tally_g%'")
        return sorted(row["nspname"] for row in rows)

    async def queue(self, number: int) -> bool:
        """Whether a generation has its queue."""
        name = generations.topology.generation("tally", number)
        return await self.publisher.look(f"q.webhooks.{name}") is not None


@pytest_asyncio.fixture(loop_scope="session")
async def rig(database: Database, publisher: Publisher, broker_url: str) -> AsyncIterator[Rig]:
    await database.pool.execute(
        "DROP TABLE IF EXISTS tally, heard CASCADE; DROP SCHEMA IF EXISTS tally_g1, tally_g2, tally_g3 CASCADE;"
        + MADE
        + "TRUNCATE projection_generations, projection_replays, operator_jobs, operator_acts, inbox, outbox, dead_letters,"
        " stream_positions, parked_messages, retrying_messages"
    )
    async with await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        for name in ("tally", "tally.g2", "tally.g3"):
            await channel.queue_delete(f"q.webhooks.{name}")
    await declare_topology(broker_url, "webhooks", {"tally": [("webhooks", EndpointTest.routing_key())]})
    async with Playing(broker_url, "webhooks") as playing:
        yield Rig(database, publisher, broker_url, playing)


async def test_tables_made_a_second_time_are_the_same_tables(rig: Rig) -> None:
    """Columns, defaults, checks, keys, indexes, storage and views: every one, under the same name."""
    first = await rig.database.pool.fetch(SHAPE, "public")
    async with rig.database.transaction() as tx:
        await green_tables.make(tx, TABLES, "tally_g2")
        second = await tx.fetch(SHAPE, "tally_g2")
        await tx.fetch("INSERT INTO tally_g2.tally (subject, times) VALUES ($1, 3)", new_id())
        await tx.fetch("INSERT INTO tally_g2.heard SELECT gen_random_uuid(), subject FROM tally_g2.tally")
        assert await tx.fetchval("SELECT count(*) FROM tally_g2.often") == 1
        await green_tables.swap(tx, TABLES, new="tally_g2", old="tally_g1")

    assert [row["relname"] for row in first] == ["heard", "often", "tallied", "tally"]
    assert [tuple(row) for row in second] == [tuple(row) for row in first]
    assert [tuple(row) for row in await rig.database.pool.fetch(SHAPE, "public")] == [tuple(row) for row in first]
    assert [tuple(row) for row in await rig.database.pool.fetch(SHAPE, "tally_g1")] == [tuple(row) for row in first]
    counts = "SELECT (SELECT count(*) FROM public.often), (SELECT count(*) FROM tally_g1.tally)"
    assert tuple((await rig.database.pool.fetch(counts))[0]) == (1, 0)


@pytest.mark.parametrize(
    ("change", "why", "back"),
    [
        ("CREATE TABLE more (subject uuid REFERENCES tally)", "foreign keys", "DROP TABLE more"),
        ("CREATE MATERIALIZED VIEW more AS TABLE tallied", "materialized", "DROP MATERIALIZED VIEW more"),
        (
            "CREATE SCHEMA seen; CREATE VIEW seen.more AS TABLE public.tally",
            "another schema",
            "DROP SCHEMA seen CASCADE",
        ),
        ("ALTER TABLE heard RENAME TO lost", "no such tables: heard", "DROP TABLE lost CASCADE"),
    ],
)
async def test_what_cannot_be_made_a_second_time_ends_the_rebuild_with_its_reason(
    rig: Rig, change: str, why: str, back: str
) -> None:
    """Tables that others hang on are not pulled from under them: the job fails and says why, and nothing is left."""
    await rig.database.pool.execute(change)
    job_id = await rig.begin()

    async with rig.rebuilding():
        await rig.becomes(2, status="gone")

    job = await rig.job(job_id)
    assert job["status"] == "failed"
    assert why in job["error"]
    assert "tally_g2" not in await rig.schemas()
    await rig.database.pool.execute(back)


@pytest.mark.fault("replay under live traffic and crash mid-rebuild")
async def test_a_rebuild_under_load_takes_the_place_of_the_live_one(rig: Rig) -> None:
    """Facts before, during and after: each counts once in the live tables, in the new ones, and across the switch."""
    told = [new_id() for _ in range(100)]
    rig.playing.may_end.clear()

    async with rig.rebuilding():
        await rig.tell(*told[:40])
        await rig.counted(40)
        job_id = await rig.begin()
        await rig.tell(*told[40:70])
        await rig.counted(70)
        await rig.counted(70, "tally_g2")
        assert await rig.rows("tally_g2") == await rig.rows()
        assert (await rig.job(job_id))["status"] == "running"
        rig.playing.may_end.set()
        for subject in told[70:]:
            await rig.tell(subject)
        await rig.becomes(2, status="live")
        await rig.counted(100)
        await rig.becomes(1, status="gone")
        await rig.tell(told[0], version=2)
        await rig.counted(101)

    assert await rig.rows() == {str(subject): 1 + (subject == told[0]) for subject in told}
    job = await rig.job(job_id)
    assert (job["status"], job["done"] >= 40, job["total"] >= 40) == ("done", True, True)
    assert await rig.schemas() == []
    assert [await rig.queue(number) for number in (1, 2)] == [False, True]
    assert [(ask.queue, ask.aggregates) for ask in rig.playing.asked] == [("q.webhooks.tally.g2", ["endpoint"])]


async def test_a_rebuild_mends_what_was_wrong(rig: Rig) -> None:
    """Rows that were spoilt, lost or made up are right again; a second rebuild finds nothing to change."""
    told = [new_id() for _ in range(30)]
    async with rig.rebuilding():
        await rig.tell(*told)
        await rig.counted(30)
        right = await rig.rows()
        await rig.database.pool.execute(
            "UPDATE tally SET times = 9 WHERE number % 3 = 0; DELETE FROM tally WHERE number % 3 = 1;"
            "INSERT INTO tally (subject, times) VALUES (gen_random_uuid(), 5)"
        )
        assert await rig.rows() != right
        await rig.begin()
        await rig.becomes(2, status="live")
        assert await rig.rows() == right
        await rig.begin()
        await rig.becomes(3, status="live")
        await rig.becomes(2, status="gone")

    assert await rig.rows() == right


@pytest.mark.fault("replay under live traffic and crash mid-rebuild")
async def test_processes_that_die_during_a_rebuild_leave_it_to_others(rig: Rig) -> None:
    """The one that consumes, in the middle of a replay, and the one that switches, right after it: nothing is lost or doubled."""
    told = [new_id() for _ in range(200)]
    rig.playing.pace_s = 0.2
    rig.playing.may_end.clear()  # so that the first process cannot come as far as the switch
    await rig.tell(*told[:150])
    async with rig.rebuilding():
        await rig.counted(150)
        await rig.begin()
        await eventually(lambda: len(rig.playing.asked))
        await eventually(lambda: _some(rig, 20))
    await rig.tell(*told[150:])
    async with rig.working():
        await rig.counted(200, "tally_g2")
        rig.playing.may_end.set()
        crashpoints.install(_die_at("projection.switched"))
        try:
            with pytest.raises(Crash):
                await _turn_for_ever(rig)
        finally:
            crashpoints.install(None)
        assert (await rig.generation(2))["status"] == "live"

    async with rig.rebuilding():
        await rig.becomes(1, status="gone")
        await rig.tell(told[0], version=2)
        await rig.counted(201)
    assert await rig.rows() == {str(subject): 1 + (subject == told[0]) for subject in told}


async def _some(rig: Rig, count: int) -> bool:
    return sum((await rig.rows("tally_g2")).values()) >= count


async def _turn_for_ever(rig: Rig) -> None:
    async with asyncio.timeout(40):  # a process that died in the middle of a step leaves its lease
        while True:
            await rig.rebuilder.turn()
            await asyncio.sleep(0.02)


def _die_at(place: str) -> Any:
    def hook(name: str) -> None:
        if name == place:
            raise Crash

    return hook


async def test_what_ended_has_no_effect_any_more(rig: Rig) -> None:
    """A worker of the old generation that wakes up late, its batch in hand, changes neither the new tables nor the old."""
    subject, late = new_id(), new_id()
    async with rig.rebuilding():
        await rig.tell(subject)
        await rig.counted(1)
        first = next(one for one in await generations.all_of(rig.database.reading()) if one.number == 1)
        await rig.begin()
        await rig.becomes(2, status="live")
        await GenerationRunner("webhooks", rig.consumer, first, rig.database, rig.publisher).handle(
            [message_about(late)]
        )

    assert await rig.rows() == {str(subject): 1}
    assert await rig.database.reading().fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_the_switch_waits_for_a_batch_in_hand(rig: Rig) -> None:
    """A batch of the old generation that has begun ends in peace, in the old tables; the switch follows at once."""
    subject = new_id()
    async with rig.rebuilding():
        await rig.tell(subject)
        await rig.counted(1)
        rig.playing.may_end.clear()
        await rig.begin()
        await rig.counted(1, "tally_g2")
        with capture_logs() as said:
            async with rig.database.transaction() as batch:
                assert await generations.counts(batch, "tally", 1)
                rig.playing.may_end.set()
                await eventually(lambda: _waits_for_a_lock(rig))
                batch.write("INSERT INTO tally (subject, times) VALUES ($1, 7)", new_id())
            await rig.becomes(2, status="live")

    assert not [each for each in said if each["event"] == "projection.postponed"]
    assert await rig.rows() == {str(subject): 1}


async def _waits_for_a_lock(rig: Rig) -> bool:
    sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    return bool(await rig.database.reading().fetchval(sql))


async def test_a_dead_letter_of_the_new_one_keeps_it_from_going_live(rig: Rig) -> None:
    """Somebody decides about it first: discarded, the new tables take their place without it."""
    bad, good = new_id(), new_id()
    async with rig.rebuilding():
        await rig.tell(bad, good)
        await rig.counted(2)
        rig.poisoned.add(bad)
        await rig.begin()
        await rig.becomes(2, waits_for="1 dead letters to be redriven or discarded")
        assert await rig.rows() == {str(bad): 1, str(good): 1}
        await rig.database.pool.execute("UPDATE dead_letters SET status = 'discarded' WHERE consumer = 'tally.g2'")
        await rig.becomes(2, status="live")

    assert await rig.rows() == {str(good): 1}


async def test_a_rebuild_is_cancelled(rig: Rig) -> None:
    """Tables and queue go, the producer is told, the live one went on all the time; another may begin."""
    told = [new_id() for _ in range(10)]
    rig.playing.may_end.clear()
    async with rig.rebuilding():
        await rig.tell(*told)
        await rig.counted(10)
        job_id = await rig.begin()
        await rig.counted(10, "tally_g2")
        async with rig.database.transaction() as tx:
            job = await generations.cancel(tx, job_id, actor_id=new_id(), now=datetime.now(UTC))
        assert job["status"] == "cancelled"
        await rig.tell(new_id())
        await rig.counted(11)
        await rig.becomes(2, status="gone")
        await eventually(lambda: bool(rig.playing.cancelled))
        assert (await rig.schemas(), await rig.queue(2)) == ([], False)
        rig.playing.may_end.set()
        await rig.begin()
        await rig.becomes(3, status="live")

    assert sum((await rig.rows()).values()) == 11


async def test_a_producer_that_cannot_tell_everything_ends_the_rebuild(rig: Rig) -> None:
    """The job fails with the producer's reason, and the live tables stay."""
    subject = new_id()
    rig.playing.fails_with = "an event of 2019 cannot be read"
    async with rig.rebuilding():
        await rig.tell(subject)
        await rig.counted(1)
        job_id = await rig.begin()
        await rig.becomes(2, status="gone")

    job = await rig.job(job_id)
    assert (job["status"], job["error"]) == ("failed", "webhooks: an event of 2019 cannot be read")
    assert await rig.rows() == {str(subject): 1}


async def test_a_release_that_changes_the_tables_ends_a_rebuild(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables made like those of the release before must not take the place of this release's."""
    async with rig.rebuilding():
        await rig.tell(new_id())
        await rig.counted(1)
        rig.playing.may_end.clear()
        job_id = await rig.begin()
        await rig.counted(1, "tally_g2")
        monkeypatch.setattr(projections, "head_of", lambda _: "9999")
        rig.playing.may_end.set()
        await rig.becomes(2, status="gone")

    assert (await rig.job(job_id))["error"] == "the tables changed meanwhile: rebuild again"


async def test_two_workers_share_the_generations(rig: Rig) -> None:
    """Both consume the new queue, one at a time is handed messages; when that one goes, the other is."""
    told = [new_id() for _ in range(60)]
    rig.playing.may_end.clear()
    async with rig.rebuilding():
        await rig.tell(*told[:30])
        await rig.counted(30)
        await rig.begin()
        async with rig.working():
            await rig.counted(30, "tally_g2")
            await eventually(lambda: all("q.webhooks.tally.g2" in each.active for each in rig.processes))
        await rig.tell(*told[30:])
        await rig.counted(60, "tally_g2")
        rig.playing.may_end.set()
        await rig.becomes(2, status="live")

    assert await rig.rows() == {str(subject): 1 for subject in told}


async def test_a_new_service_hears_what_was_told_before_it_was_born(rig: Rig) -> None:
    """With empty tables the first generation asks for everything; known, or with rows already, it asks for nothing."""
    told = [new_id() for _ in range(25)]
    for subject in told:
        await rig.playing.tell(EndpointTest(endpoint_id=subject), subject, 1)
    async with await aio_pika.connect(rig.broker_url) as connection:
        await (await (await connection.channel()).get_queue("q.webhooks.tally")).purge()

    for _ in range(2):
        async with rig.database.transaction() as tx:
            await projections.be_born(tx, "webhooks", [rig.consumer], now=datetime.now(UTC))
    async with rig.rebuilding():
        await rig.counted(25)

    assert [ask.queue for ask in rig.playing.asked] == ["q.webhooks.tally"]
    await rig.database.pool.execute("DELETE FROM projection_replays; DELETE FROM projection_generations")
    async with rig.database.transaction() as tx:
        await projections.be_born(tx, "webhooks", [rig.consumer], now=datetime.now(UTC))
    assert await rig.database.reading().fetchval("SELECT count(*) FROM projection_replays") == 0


async def test_migrate_declares_the_queues_of_today(rig: Rig) -> None:
    """After a rebuild the next release declares the live generation's queue and not the first one's again."""
    async with rig.rebuilding():
        await rig.begin()
        await rig.becomes(1, status="gone")

    found = projections.queues_of([rig.consumer], await generations.all_of(rig.database.reading()))
    bindings = {each.name: each.bindings for each in found}
    await declare_topology(rig.broker_url, "webhooks", bindings, single=[each.name for each in found if each.single])

    assert [*bindings] == ["tally.g2"]
    assert await rig.queue(1) is False


async def test_a_replay_never_reaches_effects_that_would_be_repeated(rig: Rig) -> None:
    """A consumer that is no projection leaves a fact of a replay alone, whoever sent it there."""
    plain = Consumer("probe", rig.consumer.handlers)
    replayed, live = message_about(new_id()), message_about(new_id())
    object.__setattr__(replayed, "headers", {REPLAY_HEADER: str(new_id())})

    await ConsumerRunner("webhooks", plain, SqlMessageStore(rig.database), rig.publisher).handle([replayed, live])

    assert sum((await rig.rows()).values()) == 1
    assert await rig.database.reading().fetchval("SELECT count(*) FROM inbox WHERE consumer = 'probe'") == 1


@pytest_asyncio.fixture(loop_scope="session")
async def runtime(rig: Rig, service: Service, publisher: Publisher, declared: None) -> AsyncIterator[Runtime]:
    """A service with one projection and one consumer that is none."""
    plain = Consumer("probe", rig.consumer.handlers)
    made = Runtime(
        Service(name="webhooks", settings=ServiceSettings(), consumers=[rig.consumer, plain], replicates_access=False)
    )
    await made.database.open()
    made.publisher = publisher
    yield made
    await made.database.close()


async def test_the_routes_are_for_admins_and_leave_a_record(rig: Rig, runtime: Runtime, callers: Callers) -> None:
    """List, rebuild, look at the job, cancel; one at a time, projections only; each act is on record."""
    admin, person = await callers.person(platform_role="admin"), await callers.person()
    transport = httpx.ASGITransport(create_api(runtime), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe", headers=admin.headers) as api:

        async def rebuild(consumer: str, **headers: str) -> httpx.Response:
            path = f"{OPS}/projections/{consumer}/rebuild"
            return await api.post(path, json={"reason": "spoilt rows"}, headers=headers)

        refused = [await rebuild("probe"), await rebuild("nobody"), await rebuild("tally", **person.headers)]
        begun, twice = await rebuild("tally"), await rebuild("tally")
        shown = (await api.get(f"{OPS}/projections")).json()
        job = (await api.get(begun.headers["location"])).json()
        cancelled = (await api.post(f"{begun.headers['location']}/cancel")).json()
        again = await api.post(f"{begun.headers['location']}/cancel")
        queues = (await api.get(f"{OPS}/queues")).json()

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
        (409, "not-a-projection"), (404, "consumer-not-found"), (403, "admin-only"),
    ]  # fmt: skip
    assert (begun.status_code, twice.status_code, twice.json()["code"]) == (202, 409, "rebuild-under-way")
    assert [(each["consumer"], each["tables"]) for each in shown] == [("tally", [*TABLES])]
    assert [(one["name"], one["status"], one["pending"]) for one in shown[0]["generations"]] == [
        ("tally", "live", 0), ("tally.g2", "building", None),
    ]  # fmt: skip
    assert (job["kind"], job["status"], cancelled["status"]) == ("projection.rebuild", "running", "cancelled")
    assert (again.status_code, again.json()["code"]) == (409, "invalid-transition")
    assert [*queues] == ["tally", "probe"] or {*queues} == {"tally", "probe"}
    acts = await rig.database.reading().fetch(
        "SELECT what, reason, actor_id, filter FROM operator_acts ORDER BY at, what"
    )
    assert [(row["what"], row["reason"], row["actor_id"] == admin.id) for row in acts] == [
        ("projection.rebuild", "spoilt rows", True), ("projection.rebuild.cancel", None, True),
    ]  # fmt: skip
    assert acts[0]["filter"] == {"consumer": "tally", "generation": 2}
