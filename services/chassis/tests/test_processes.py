"""Process managers: begun once, one step at a time, woken at their deadline, undone when a rule says no, whole after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from chassis import processes
from chassis.app import Runtime, Service, create_api
from chassis.database import Database, Transaction
from chassis.kernel import ConcurrentUpdate, Conflict, DomainError, new_id
from chassis.processes import Act, Process, ProcessKind, ProcessStatus
from chassis.roles import Role
from chassis.telemetry import current_context, in_context, start_context
from chassis.testing import Callers, eventually
from chassis.timers import Timers

from services.chassis.tests.probe import running

EFFECT = "INSERT INTO effects (subject, times) VALUES ($1, $2) ON CONFLICT (subject) DO UPDATE SET times = effects.times + $2"
LONG_AGO, LATER = timedelta(seconds=-1), timedelta(hours=1)


@dataclass
class Counted:
    """How often it was woken."""

    woken: int = 0


class TooMany(Conflict):
    """The second waking is refused."""

    slug = "too-many"


KIND = ProcessKind("probe", Counted)


@dataclass
class Woken:
    """What the handlers of a test saw."""

    correlation_ids: list[str]

    async def act(self, tx: Transaction, process: Process[Counted], now: datetime) -> None:
        process.state.woken += 1
        process.deadline = now + LATER
        tx.write(EFFECT, process.key, 1)
        self.correlation_ids.append(current_context().correlation_id)

    async def refuse(self, tx: Transaction, process: Process[Counted], now: datetime) -> None:
        await self.act(tx, process, now)
        await tx.flush()
        raise TooMany

    async def undo(self, tx: Transaction, process: Process[Counted], error: DomainError, now: datetime) -> None:
        if process.take("undone", now=now, because=error.slug):
            tx.write(EFFECT, process.key, -100)


@pytest.fixture
def woken() -> Woken:
    return Woken([])


async def _begin(
    database: Database, key: UUID, *, run: int = 1, in_: timedelta = LATER, together: asyncio.Barrier | None = None
) -> bool:
    """Begin a process whose beginning has an effect; False when it began before."""
    now = datetime.now(UTC)
    with in_context(start_context()):
        async with database.transaction() as tx:
            if together is not None:
                await together.wait()
            process = await KIND.begin(tx, key, run=run, state=Counted(), deadline=now + in_, now=now)
            if process is None:
                return False
            process.take("begun", now=now)
            tx.write(EFFECT, key, 10)
            KIND.save(tx, process, now=now)
    return True


async def _step(database: Database, key: UUID, name: str, *, end: bool = False) -> None:
    now = datetime.now(UTC)
    async with database.transaction() as tx:
        process = await KIND.running(tx, key)
        assert process is not None
        if process.take(name, now=now):
            tx.write(EFFECT, key, 1)
        if end:
            process.end("told")
        KIND.save(tx, process, now=now)


async def _running(database: Database, key: UUID) -> Process[Counted] | None:
    async with database.transaction() as tx:
        return await KIND.running(tx, key)


async def _times(database: Database, key: UUID) -> int:
    return await database.reading().fetchval("SELECT times FROM effects WHERE subject = $1", key) or 0


async def _row(database: Database, key: UUID) -> Any:
    rows = await processes.many(database.reading(), key=key, limit=10)
    return rows[0]


async def _is_woken(database: Database, key: UUID) -> bool:
    return bool((await _row(database, key))["state"]["woken"])


async def _timer_due_at(database: Database, key: UUID) -> datetime | None:
    sql = "SELECT due_at FROM timers WHERE dedupe_key = $1"
    due_at: datetime | None = await database.reading().fetchval(sql, f"process:probe:{key}")
    return due_at


async def _fire(database: Database, act: Act[Counted], woken: Woken) -> None:
    """Fire what is due, as the role does."""
    firing = Timers(database, {KIND.timer_kind: KIND.on_deadline(act, woken.undo)})
    while await firing.fire_one():
        pass


async def _due_now(database: Database, key: UUID, *, deadline_too: bool = True) -> None:
    await database.pool.execute(
        "UPDATE timers SET due_at = now() - interval '1 second' WHERE dedupe_key = $1", f"process:probe:{key}"
    )
    if deadline_too:
        await database.pool.execute("UPDATE processes SET deadline = now() - interval '1 second' WHERE key = $1", key)


# -- begin and step ----------------------------------------------------------------------------------------------------


async def test_of_ten_who_begin_at_once_one_begins(effects: Database) -> None:
    """One begins, the others find it begun; its beginning has one effect."""
    key, together = new_id(), asyncio.Barrier(10)

    begun = await asyncio.gather(*(_begin(effects, key, together=together) for _ in range(10)))

    assert sorted(begun) == [False] * 9 + [True]
    assert await _times(effects, key) == 10


async def test_a_run_begins_once_and_a_later_one_takes_its_place(effects: Database) -> None:
    """Neither the same run nor an earlier one begins again, though it has ended; a later one ends the one that runs."""
    key = new_id()
    assert await _begin(effects, key, run=3)
    assert await _begin(effects, key, run=5)

    assert not await _begin(effects, key, run=5)
    assert not await _begin(effects, key, run=4)
    await _step(effects, key, "last", end=True)
    assert not await _begin(effects, key, run=5)
    assert await _running(effects, key) is None

    rows = await processes.many(effects.reading(), key=key, limit=10)
    assert [(row["run"], row["status"], row["outcome"]) for row in rows] == [
        (5, "done", "told"),
        (3, "done", "superseded"),
    ]
    assert await _times(effects, key) == 21


async def test_a_step_is_taken_once_whoever_takes_it(effects: Database) -> None:
    """Ten steps by ten hands each, all at the same time: ten effects, none lost, none twice; and in the record."""
    key = new_id()
    await _begin(effects, key)

    await asyncio.gather(*(_step(effects, key, f"step-{number % 10}") for number in range(100)))

    assert await _times(effects, key) == 20
    process = await _running(effects, key)
    assert process is not None
    assert (len(process.steps), process.version) == (11, 101)


async def test_a_process_without_end_is_a_defect(effects: Database) -> None:
    """What takes ever new steps is stopped."""
    key = new_id()
    await _begin(effects, key)
    process = await _running(effects, key)
    assert process is not None

    now = datetime.now(UTC)
    for number in range(1, processes.STEPS_MAX):
        process.take(f"step-{number}", now=now)

    with pytest.raises(RuntimeError, match="does not end"):
        process.take("one more", now=now)


async def test_a_command_without_locks_gives_way(effects: Database) -> None:
    """Lost updates cannot happen: outside a real transaction nothing is loaded."""
    async with effects.command() as tx:
        with pytest.raises(ConcurrentUpdate):
            await KIND.running(tx, new_id())
        with pytest.raises(ConcurrentUpdate):
            await KIND.begin(tx, new_id(), run=1, state=Counted(), deadline=None, now=datetime.now(UTC))


# -- deadlines ---------------------------------------------------------------------------------------------------------


async def test_the_deadline_wakes_it_in_its_own_context(effects: Database, woken: Woken) -> None:
    """Among three processes of the service it wakes once, with the correlation id of what began it, and waits again."""
    key = new_id()
    await _begin(effects, key, in_=timedelta(milliseconds=50))
    handlers = {KIND.timer_kind: KIND.on_deadline(woken.act, woken.undo)}

    async with running(*(Role(f"timers{n}", Timers(effects, handlers).run) for n in range(3))):
        await eventually(lambda: _is_woken(effects, key))

    row = await _row(effects, key)
    assert woken.correlation_ids == [row["correlation_id"]]
    assert (row["state"], row["version"], await _times(effects, key)) == ({"woken": 1}, 2, 11)
    assert await _timer_due_at(effects, key) == row["deadline"]
    await _step(effects, key, "last", end=True)
    assert await _timer_due_at(effects, key) is None


async def test_a_timer_looks_again_before_it_acts(effects: Database, woken: Woken) -> None:
    """One that comes early is set again; one that comes late finds the end, or a later run, and changes nothing."""
    early, ended, followed = new_id(), new_id(), new_id()
    for key in (early, ended, followed):
        await _begin(effects, key)
    await _due_now(effects, early, deadline_too=False)
    handler = KIND.on_deadline(woken.act, woken.undo)

    await _fire(effects, woken.act, woken)
    await _step(effects, ended, "last", end=True)
    await _begin(effects, followed, run=2, in_=LONG_AGO)
    for key in (ended, followed):
        async with effects.transaction() as tx:
            await handler(tx, {"kind": KIND.timer_kind, "key": str(key), "run": 1})

    assert woken.correlation_ids == []
    assert await _timer_due_at(effects, early) == (await _row(effects, early))["deadline"]
    assert await _timer_due_at(effects, ended) is None
    await _step(effects, followed, "last", end=True)


async def test_a_timer_that_fires_while_somebody_is_at_the_process_waits_for_nobody(
    effects: Database, woken: Woken
) -> None:
    """Each would wait for the other's row for ever: the timer gives way, and the one who is at it sets the next."""
    key, now = new_id(), datetime.now(UTC)
    await _begin(effects, key, in_=LONG_AGO)

    async with effects.transaction() as tx:
        process = await KIND.running(tx, key)
        assert process is not None
        async with asyncio.timeout(5):
            await _fire(effects, woken.act, woken)
        process.deadline = now + LATER
        KIND.save(tx, process, now=now)

    assert woken.correlation_ids == []
    assert await _timer_due_at(effects, key) == now + LATER
    await _begin(effects, idle := new_id(), in_=LONG_AGO)
    async with effects.transaction() as tx:
        await KIND.running(tx, idle)
        await _fire(effects, woken.act, woken)
    await _due_now(effects, idle, deadline_too=False)
    await _fire(effects, woken.act, woken)
    assert await _is_woken(effects, idle)


async def test_a_crash_between_effect_and_commit_leaves_nothing_half_done(effects: Database, woken: Woken) -> None:
    """A handler that dies has no effect, its process waits as it was, and wakes again with one effect."""
    key = new_id()
    await _begin(effects, key, in_=LONG_AGO)

    async def die(tx: Transaction, process: Process[Counted], now: datetime) -> None:
        await woken.act(tx, process, now)
        await tx.flush()
        raise ValueError("killed")

    await _fire(effects, die, woken)
    before = await _row(effects, key)
    await _due_now(effects, key)
    await _fire(effects, woken.act, woken)

    assert (before["state"], before["version"], before["status"]) == ({"woken": 0}, 1, "running")
    assert await _times(effects, key) == 11
    await _step(effects, key, "last", end=True)


# -- compensation ------------------------------------------------------------------------------------------------------


async def test_a_refused_step_is_taken_back_and_what_was_done_is_undone(effects: Database, woken: Woken) -> None:
    """Its effects, sent already, are gone; the undoing happened once; the process has ended and says why."""
    key = new_id()
    await _begin(effects, key, in_=LONG_AGO)

    await _fire(effects, woken.refuse, woken)
    await _fire(effects, woken.refuse, woken)

    row = await _row(effects, key)
    assert (row["status"], row["outcome"], row["state"]) == (ProcessStatus.COMPENSATED, "too-many", {"woken": 0})
    assert [(step["name"], step["note"]) for step in row["steps"]] == [
        ("begun", {}),
        ("undone", {"because": "too-many"}),
    ]
    assert await _times(effects, key) == 10 - 100
    assert row["deadline"] is None


async def test_a_refused_beginning_is_no_process(effects: Database, woken: Woken) -> None:
    """Whoever begins is told, and nothing of it stays."""
    key, now = new_id(), datetime.now(UTC)

    async def begin() -> None:
        async with effects.transaction() as tx:
            process = await KIND.begin(tx, key, run=1, state=Counted(), deadline=now, now=now)
            assert process is not None
            await KIND.attempt(tx, process, woken.refuse, woken.undo, now=now)

    with pytest.raises(TooMany):
        await begin()

    assert await processes.many(effects.reading(), key=key, limit=1) == []
    assert await _times(effects, key) == 0


async def test_a_lost_race_is_no_refusal(effects: Database, woken: Woken) -> None:
    """A clash with another writer rises, so that the whole is tried again; nothing is compensated."""
    key, now = new_id(), datetime.now(UTC)
    await _begin(effects, key)

    async def clash(tx: Transaction, process: Process[Counted], now: datetime) -> None:
        await woken.act(tx, process, now)
        raise ConcurrentUpdate

    async def step() -> None:
        async with effects.transaction() as tx:
            process = await KIND.running(tx, key)
            assert process is not None
            await KIND.attempt(tx, process, clash, woken.undo, now=now)

    with pytest.raises(ConcurrentUpdate):
        await step()

    row = await _row(effects, key)
    assert (row["status"], row["version"], await _times(effects, key)) == ("running", 1, 10)


async def test_a_savepoint_takes_back_what_was_queued_and_what_was_sent(effects: Database) -> None:
    """Work before and after it stays; hints of what is taken back wake nobody."""
    before, sent, queued, after = (new_id() for _ in range(4))

    async def give_up(tx: Transaction) -> None:
        async with tx.savepoint():
            tx.write(EFFECT, sent, 1)
            await tx.flush()
            tx.write(EFFECT, queued, 1)
            tx.hints.add("nobody")
            raise TooMany

    async with effects.transaction() as tx:
        tx.write(EFFECT, before, 1)
        with pytest.raises(TooMany):
            await give_up(tx)
        assert "nobody" not in tx.hints
        tx.write(EFFECT, after, 1)

    assert [await _times(effects, key) for key in (before, sent, queued, after)] == [1, 0, 0, 1]


# -- operators ---------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def api(service: Service, effects: Database) -> AsyncIterator[httpx.AsyncClient]:
    runtime = Runtime(replace(service, settings=service.settings.model_copy(update={"rate_per_minute": 100_000})))
    await runtime.database.open()
    transport = httpx.ASGITransport(create_api(runtime), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
        yield client
    await runtime.database.close()


async def test_operators_see_what_runs_and_what_is_late(
    api: httpx.AsyncClient, callers: Callers, effects: Database
) -> None:
    """Filters by kind, key, status and lateness, newest first, page by page; admins alone."""
    late, waiting, ended = new_id(), new_id(), new_id()
    await _begin(effects, late, in_=timedelta(minutes=-2))
    await _begin(effects, waiting)
    await _begin(effects, ended)
    await _step(effects, ended, "last", end=True)
    admin, person = await callers.person(platform_role="admin"), await callers.person(platform_role="coordinator")
    path = "/v1/ops/webhooks/processes"

    async def ask(**query: Any) -> list[UUID]:
        answer = await api.get(path, params=query, headers=admin.headers)
        assert answer.status_code == 200, answer.text
        return [UUID(item["key"]) for item in answer.json()["items"]]

    assert await ask(late="true") == [late]
    assert await ask(key=str(ended), status="done") == [ended]
    assert await ask(key=str(ended), status="running") == []
    assert await ask(kind="other") == []
    assert (await ask(kind="probe"))[:3] == [ended, waiting, late]
    first = (await api.get(path, params={"limit": 1}, headers=admin.headers)).json()
    assert await ask(limit=1, cursor=first["next_cursor"]) == [waiting]
    shown = first["items"][0]
    assert (shown["status"], shown["outcome"], [step["name"] for step in shown["steps"]]) == (
        "done",
        "told",
        ["begun", "last"],
    )
    refused = await api.get(path, headers=person.headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "admin-only")
    await _step(effects, late, "last", end=True)


async def test_what_ended_long_ago_is_forgotten(effects: Database) -> None:
    """After thirty days an ended run goes; one that runs stays however long."""
    ended, old = new_id(), new_id()
    for key in (ended, old):
        await _begin(effects, key)
    await _step(effects, ended, "last", end=True)
    sql = "UPDATE processes SET changed_at = now() - interval '31 days' WHERE key = ANY($1::uuid[])"
    await effects.pool.execute(sql, [ended, old])

    async with effects.command() as tx:
        processes.forget_ended(tx)

    reading = effects.reading()
    assert await processes.many(reading, key=ended, limit=1) == []
    assert len(await processes.many(reading, key=old, limit=1)) == 1
