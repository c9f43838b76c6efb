"""Facts told once more: whole stores by replay, single aggregates by resend, through crashes and full queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from chassis import crashpoints
from chassis.broker import Publisher, Subscriber
from chassis.control import Control
from chassis.database import Database
from chassis.kernel import Aggregate, new_id
from chassis.message_store import SqlMessageStore
from chassis.outbox import Announcement
from chassis.replay import PAGE_EVENTS, Replayer
from chassis.repository import Repository
from chassis.roles import Role
from chassis.testing import eventually
from chassis.testing.replays import Asking
from contracts.commands import CancelReplay, Replay, Resend
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received

from services.chassis.tests.probe import running


@dataclass(frozen=True, slots=True)
class Noted:
    """Something happened."""

    number: int


@dataclass
class Notebook(Aggregate):
    """An aggregate of nothing but numbers."""

    last: int = 0

    def note(self, count: int) -> None:
        for _ in range(count):
            self.record(Noted(self.last + 1))

    def _on_Noted(self, event: Noted) -> None:  # noqa: N802 - named after the event
        self.last = event.number


NOTEBOOKS = Repository(
    table="notebooks",
    aggregate=Notebook,
    events={"Noted": Noted},
    columns=lambda _: {},
    announce=lambda notebook, _: Announcement(EndpointTest(endpoint_id=notebook.id)),
)


class Crash(BaseException):
    """The process is gone."""


@pytest_asyncio.fixture(loop_scope="session")
async def notebooks(database: Database) -> Database:
    """The database with an empty store."""
    await database.pool.execute("CREATE TABLE IF NOT EXISTS notebooks (id uuid PRIMARY KEY, version int, state jsonb)")
    await database.pool.execute("TRUNCATE notebooks, events, replays, outbox, dead_letters")
    return database


@pytest_asyncio.fixture(loop_scope="session")
async def asking(broker_url: str, declared: None) -> AsyncIterator[Asking]:
    async with Asking(broker_url, "webhooks") as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def control(notebooks: Database, publisher: Publisher, broker_url: str, declared: None) -> AsyncIterator[None]:
    """The service's control queue, answered."""
    streams = {"notebook": NOTEBOOKS}
    answering = Control("webhooks", streams, SqlMessageStore(notebooks), notebooks, publisher)
    subscriber = Subscriber(broker_url, name="test", subscriptions=[answering.subscription])
    async with running(Role("control", subscriber.run)):
        yield


@pytest.fixture
def crashes() -> Iterator[list[int]]:
    """At which pages the process dies, counted from 1."""
    pages: list[int] = []
    passed = 0

    def hook(name: str) -> None:
        nonlocal passed
        passed += name == "replay.page"
        if name == "replay.page" and passed in pages:
            raise Crash

    crashpoints.install(hook)
    yield pages
    crashpoints.install(None)


async def _write(database: Database, *counts: int, save: int = 3) -> dict[UUID, int]:
    """Notebooks with so many events each, appended a few at a time."""
    written: dict[UUID, int] = {}
    for count in counts:
        notebook = Notebook(id=new_id())
        async with database.transaction() as tx:
            while notebook.version < count:
                notebook.note(min(save, count - notebook.version))
                NOTEBOOKS.save(tx, notebook, now=datetime.now(UTC))
                tx.end_step()
        written[notebook.id] = count
    return written


def _replayer(database: Database, publisher: Publisher, **changes: Any) -> Replayer:
    made = Replayer("webhooks", {"notebook": NOTEBOOKS}, database, publisher)
    made.lease_s = 0.2
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _versions(received: list[Received]) -> dict[UUID, list[int]]:
    found: dict[UUID, list[int]] = {}
    for each in received:
        found.setdefault(each.envelope.subject, []).append(each.envelope.aggregateversion)
    return found


async def _ended(database: Database, replay_id: UUID) -> str:
    async def check() -> str | None:
        status: str = await database.reading().fetchval("SELECT status FROM replays WHERE id = $1", replay_id)
        return status if status != "running" else ""

    return str(await eventually(check, timeout_s=30))


@pytest.mark.usefixtures("control")
async def test_a_replay_tells_everything_once_in_order(
    notebooks: Database, publisher: Publisher, asking: Asking
) -> None:
    """Long streams and short ones, saves that a page cuts in two: every fact once, each aggregate's in order, then the end."""
    written = await _write(notebooks, 1, 2_500, 3, 7, 250, save=7)
    assert PAGE_EVENTS < 2_500
    await notebooks.pool.execute("DELETE FROM outbox")

    async with running(Role("replay", _replayer(notebooks, publisher).run)):
        mark = await asking.replay(["notebook"])

    assert _versions(asking.received) == {key: list(range(1, count + 1)) for key, count in written.items()}
    assert (mark.sent, mark.total, mark.producer) == (2_761, 2_761, "webhooks")
    sent = [each.sent for each in asking.marks]
    assert sent == sorted(sent)
    assert len(sent) > 5
    assert await _ended(notebooks, mark.replay_id) == "done"


@pytest.mark.fault("replay under live traffic and crash mid-rebuild")
@pytest.mark.usefixtures("control")
async def test_a_crash_repeats_a_page_and_loses_nothing(
    notebooks: Database, publisher: Publisher, asking: Asking, crashes: list[int]
) -> None:
    """Dead after a page was confirmed and before its place was kept, twice: the next process goes on from that page."""
    written = await _write(notebooks, 40, 90, 25)
    crashes += [2, 4]
    await asking.listen()
    replay_id = new_id()
    await asking.ask(Replay(queue=asking.queue, replay_id=replay_id, aggregates=["notebook"]))
    await eventually(lambda: notebooks.reading().fetchval("SELECT count(*) FROM replays"))

    for _ in crashes:
        with pytest.raises(Crash):
            await eventually(_replayer(notebooks, publisher, page_facts=20).turn)
    last = _replayer(notebooks, publisher, page_facts=20)
    await eventually(last.turn)
    await eventually(lambda: asking.marks[-1].ended)

    told = _versions(asking.received)
    assert {key: sorted(set(versions)) for key, versions in told.items()} == {
        key: list(range(1, count + 1)) for key, count in written.items()
    }
    assert len(asking.received) == sum(written.values()) + 2 * 20
    assert asking.marks[-1].sent == sum(written.values())


@pytest.mark.usefixtures("control")
async def test_a_full_queue_is_left_to_its_consumer(notebooks: Database, publisher: Publisher, asking: Asking) -> None:
    """Nobody takes anything: the replay waits at the limit; somebody does: it goes on to its end."""
    written = await _write(notebooks, 300)
    replay_id = new_id()
    await asking.ask(Replay(queue=asking.queue, replay_id=replay_id, aggregates=["notebook"]))
    replayer = _replayer(notebooks, publisher, page_facts=20, queue_depth_max=100)

    async with running(Role("replay", replayer.run)):
        await eventually(lambda: _waits(notebooks, replay_id))
        state = await publisher.look(asking.queue)
        assert state is not None
        assert 100 < state.ready <= 100 + 2 * 21
        await asking.listen()
        await eventually(lambda: bool(asking.marks) and asking.marks[-1].ended, timeout_s=30)

    assert len(asking.received) == sum(written.values())


async def _waits(database: Database, replay_id: UUID) -> bool:
    """The replay let go of its lease without being at its end."""
    row = await database.reading().fetchrow("SELECT owner, status, sent FROM replays WHERE id = $1", replay_id)
    return row is not None and row["owner"] is None and row["status"] == "running" and row["sent"] > 0


@pytest.mark.usefixtures("control")
async def test_two_processes_share_replays(notebooks: Database, publisher: Publisher, asking: Asking) -> None:
    """One replay is sent by one of them; an asking that comes twice is one replay."""
    written = await _write(notebooks, 50, 60)
    await asking.listen()
    command = Replay(queue=asking.queue, replay_id=new_id(), aggregates=["notebook"])
    await asking.ask(command)
    await asking.ask(command)

    one, other = (_replayer(notebooks, publisher, lease_s=30.0, page_facts=10) for _ in range(2))
    async with running(Role("one", one.run), Role("other", other.run)):
        await eventually(lambda: any(mark.ended for mark in asking.marks))

    assert await _ended(notebooks, command.replay_id) == "done"
    assert len(asking.received) == sum(written.values())
    assert sum(mark.ended for mark in asking.marks) == 1


@pytest.mark.usefixtures("control")
async def test_a_replay_that_nobody_waits_for_ends(notebooks: Database, publisher: Publisher, asking: Asking) -> None:
    """Cancelled, or its queue is gone: it is sent no further."""
    await _write(notebooks, 300)
    cancelled, lost = new_id(), new_id()
    gone = "q.test.gone"
    await asking.ask(Replay(queue=asking.queue, replay_id=cancelled, aggregates=["notebook"]))
    await asking.ask(Replay(queue=gone, replay_id=lost, aggregates=["notebook"]))
    await asking.ask(CancelReplay(replay_id=cancelled))
    await eventually(lambda: _is_cancelled(notebooks, cancelled))

    async with running(Role("replay", _replayer(notebooks, publisher).run)):
        assert await _ended(notebooks, lost) == "cancelled"

    assert await notebooks.reading().fetchval("SELECT sum(sent) FROM replays") == 0


async def _is_cancelled(database: Database, replay_id: UUID) -> bool:
    return bool(await database.reading().fetchval("SELECT status = 'cancelled' FROM replays WHERE id = $1", replay_id))


@pytest.mark.usefixtures("control")
async def test_what_cannot_be_told_again_ends_the_replay_with_its_reason(
    notebooks: Database, publisher: Publisher, asking: Asking
) -> None:
    """An event that does not fit its type any more: the asker hears of it with the mark, and no process dies of it."""
    written = await _write(notebooks, 5)
    await notebooks.pool.execute("UPDATE events SET data = '{}' WHERE version = 4")

    async with running(Role("replay", _replayer(notebooks, publisher, page_facts=1).run)):
        mark = await asking.replay(["notebook"])

    assert "number" in (mark.error or "")
    assert mark.sent == 3 < sum(written.values())
    assert await _ended(notebooks, mark.replay_id) == "failed"


@pytest.mark.usefixtures("control")
@pytest.mark.fault("events arriving 3, 1, 2 and 2 never")
async def test_a_resend_tells_a_range_of_one_aggregate(notebooks: Database, asking: Asking) -> None:
    """Exactly the versions asked for, a thousand at most; of an aggregate that nobody knows nothing."""
    [stream_id, _] = await _write(notebooks, 1_200, 5)
    await asking.listen()
    await asking.ask(Resend(queue=asking.queue, subject=new_id(), from_version=1, to_version=9))
    await asking.ask(Resend(queue=asking.queue, subject=stream_id, from_version=150, to_version=5_000))
    await asking.came(1_000)
    await asking.ask(Resend(queue=asking.queue, subject=stream_id, from_version=7, to_version=7))
    await asking.came(1_001)

    assert _versions(asking.received) == {stream_id: [*range(150, 1_150), 7]}
    assert asking.replays == {"None"}


@pytest.mark.usefixtures("control")
async def test_bytes_that_are_no_command_become_a_dead_letter(notebooks: Database, asking: Asking) -> None:
    """They are kept with their reason, and what comes after them is answered."""
    [stream_id] = await _write(notebooks, 2)
    await asking.listen()
    for body in (b"\x00", b'{"kind": "delete-everything"}'):
        await asking.send(body)
    await asking.ask(Resend(queue=asking.queue, subject=stream_id, from_version=1, to_version=2))
    await asking.came(2)

    rows = await notebooks.reading().fetch("SELECT consumer, queue, reason, status FROM dead_letters")
    assert [tuple(row) for row in rows] == [("control", "ctl.webhooks", "undecodable", "open")] * 2
