"""E-mails: each arrives, once, at the right time; whatever happens to the server, to identity or to us."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import httpx
import pytest
from chassis.database import Database, Transaction
from chassis.kernel import new_id
from chassis.testing import LiveService, eventually
from contracts.events import batches, deliveries
from notifications import usecases
from notifications.channels import OutgoingMessage, Sent
from notifications.dispatcher import MAILS_AT_ONCE, Mailer
from notifications.domain import Fact, Outcome, Party, Status

from services.notifications.tests.people import People, Person
from services.notifications.tests.servers import Identity, PostOffice
from services.notifications.tests.test_consumers import golden


async def _status(people: People, event_id: UUID, person: Person) -> str | None:
    row = (await people.mails_of(event_id)).get(person.id)
    return None if row is None else str(row["status"])


async def _failed_once(people: People, event_id: UUID) -> None:
    mails = await people.mails_of(event_id)
    assert mails
    assert all(row["failure"] for row in mails.values())


async def test_mails_wait_for_a_closed_post_office(people: People, post_office: PostOffice) -> None:
    """While nobody listens mails are tried again; when the server is back each arrives once."""
    journey = await people.journey()
    post_office.close()
    event_id = await people.claimed(journey)
    await eventually(lambda: _failed_once(people, event_id))

    post_office.open()
    await people.let_time_pass(event_id)

    heard = [journey.manager, journey.staff, journey.receiver]
    mails = await people.until_settled(event_id, *heard)
    assert {(row["status"], row["attempts"] > 1) for row in mails.values()} == {("sent", True)}
    assert [len(post_office.to(person.address)) for person in heard] == [1, 1, 1]


async def test_a_refused_address_fails_and_a_busy_server_is_tried_again(
    people: People, post_office: PostOffice
) -> None:
    """5xx for a recipient is the end of that mail alone; 4xx is not."""
    journey = await people.journey()
    post_office.answers[journey.manager.address] = "550 5.1.1 unknown"
    post_office.answers[journey.receiver.address] = "451 4.3.0 later"
    event_id = await people.claimed(journey)
    await people.until_settled(event_id, journey.manager, journey.staff)
    await eventually(lambda: journey.receiver.address in post_office.refused)

    post_office.answers.clear()
    await eventually(lambda: people.let_time_pass(event_id))
    mails = await people.until_settled(event_id, journey.receiver)

    told = {person.id: (mails[person.id]["status"], mails[person.id]["failure"]) for person in journey.everybody[:2]}
    assert told == {journey.manager.id: ("failed", "refused: 550 5.1.1"), journey.staff.id: ("sent", None)}
    assert mails[journey.receiver.id]["status"] == "sent"
    assert not post_office.to(journey.manager.address)


async def test_identity_may_be_away_or_talk_nonsense_for_a_while(
    people: People, identity: Identity, post_office: PostOffice
) -> None:
    """Mails wait until the address is known; what identity cannot say now is asked again."""
    journey = await people.journey()
    identity.troubles[journey.manager.id] = [503, b'{"email": 5}']

    event_id = await people.claimed(journey)

    await people.until_settled(event_id, journey.staff)
    await people.until_settled(event_id, journey.manager)
    assert identity.asked.count(journey.manager.id) == 3
    assert len(post_office.to(journey.manager.address)) == 1


async def test_somebody_identity_does_not_know_gets_no_mail(people: People, identity: Identity) -> None:
    """The mail ends as failed; the inbox has it nevertheless."""
    journey = await people.journey()
    del identity.people[journey.manager.id]

    event_id = await people.claimed(journey)

    mails = await people.until_settled(event_id, journey.manager)
    assert (mails[journey.manager.id]["status"], mails[journey.manager.id]["failure"]) == ("failed", "no-address")
    assert journey.manager.id in await people.told(event_id)


async def test_a_mail_whose_time_is_over_is_not_sent(
    people: People, identity: Identity, post_office: PostOffice
) -> None:
    """Every message expires, also one whose address was never known."""
    journey = await people.journey()
    identity.troubles[journey.manager.id] = [503] * 100
    event_id = await people.claimed(journey)
    await people.until_settled(event_id, journey.staff)

    sql = "UPDATE messages SET expires_at = now() WHERE user_id = $1 AND channel = 'email'"
    await people.execute(sql, journey.manager.id)

    mails = await people.until_settled(event_id, journey.manager)
    assert mails[journey.manager.id]["status"] == "expired"
    assert not post_office.to(journey.manager.address)


async def test_quiet_hours_defer_what_can_wait(
    people: People, client: httpx.AsyncClient, post_office: PostOffice
) -> None:
    """In quiet hours a recall comes and a claim does not; it comes when the person wants no quiet any more."""
    journey = await people.journey()
    await people.hear(journey.fact(deliveries.DeliveryPlanned, volunteer_id=None))
    now = datetime.now(UTC)
    quiet = {"from": f"{now - timedelta(hours=2):%H:%M}", "to": f"{now + timedelta(hours=2):%H:%M}", "tz": "UTC"}
    wishes = {"channels": {"email": True}, "quiet_hours": quiet}
    answer = await client.put("/v1/me/preferences", json=wishes, headers=journey.manager.headers)
    assert answer.status_code == 200, answer.text

    claimed = await people.claimed(journey, version=2)
    recalled = await people.hear(golden(batches.BatchRecalled, journey), subject=journey.batch_id)
    await people.until_settled(recalled, journey.manager)
    await eventually(lambda: _has_status(people, claimed, journey.manager, "deferred"))

    row = (await people.mails_of(claimed))[journey.manager.id]
    assert timedelta(hours=1, minutes=58) < row["due_at"] - now < timedelta(hours=2, minutes=1)
    assert row["attempts"] == 0
    assert [taken.subject.split(",")[0] for taken in post_office.to(journey.manager.address)] == ["ATENÇÃO"]
    calm = {"channels": {"email": True}, "quiet_hours": None}
    await client.put("/v1/me/preferences", json=calm, headers=journey.manager.headers)
    await people.until_settled(claimed, journey.manager)
    assert len(post_office.to(journey.manager.address)) == 2


async def _has_status(people: People, event_id: UUID, person: Person, status: str) -> bool:
    return await _status(people, event_id, person) == status


async def test_one_click_in_a_mail_ends_mails(
    people: People, client: httpx.AsyncClient, post_office: PostOffice
) -> None:
    """The link of the header works without signing in, for its owner alone; the inbox goes on."""
    journey = await people.journey()
    first = await people.claimed(journey)
    await people.until_settled(first, journey.manager, journey.staff)
    mail = post_office.to(journey.manager.address)[0].mail
    path = httpx.URL(str(mail["List-Unsubscribe"]).strip("<>")).path
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    page = await client.get(path, headers={"Accept": "text/html"})
    assert (page.status_code, "<form" in page.text) == (200, True)
    still = await client.get("/v1/me/preferences", headers=journey.manager.headers)
    assert still.json()["channels"] == {"email": True}
    answer = await client.post(path, data={"List-Unsubscribe": "One-Click"})
    again = await client.post(path, data={"List-Unsubscribe": "One-Click"}, headers={"Accept": "text/html"})

    assert (answer.status_code, answer.json()["channels"]) == (200, {"email": False})
    assert (again.status_code, again.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<form" not in again.text
    second = await people.claimed(journey, version=2)
    await people.until_settled(second, journey.staff)
    assert journey.manager.id in await people.told(second)
    assert journey.manager.id not in await people.mails_of(second)
    assert (len(post_office.to(journey.manager.address)), len(post_office.to(journey.staff.address))) == (1, 2)


async def test_a_queued_mail_is_dropped_when_it_is_not_wanted_any_more(
    people: People, client: httpx.AsyncClient, post_office: PostOffice
) -> None:
    """Turning e-mail off counts for what still waits."""
    journey = await people.journey()
    post_office.answers[journey.manager.address] = "451 later"
    event_id = await people.claimed(journey)
    await eventually(lambda: journey.manager.address in post_office.refused)

    wishes = {"channels": {"email": False}}
    await client.put("/v1/me/preferences", json=wishes, headers=journey.manager.headers)
    post_office.answers.clear()
    await people.let_time_pass(event_id)

    mails = await people.until_settled(event_id, journey.manager)
    assert mails[journey.manager.id]["status"] == "suppressed"
    assert not post_office.to(journey.manager.address)


async def test_the_language_chosen_here_wins(
    people: People, client: httpx.AsyncClient, post_office: PostOffice
) -> None:
    """A person's own choice goes before the account's language, in mails and in the inbox."""
    journey = await people.journey()
    wishes = {"locale": "en", "channels": {"email": True}}
    await client.put("/v1/me/preferences", json=wishes, headers=journey.manager.headers)

    event_id = await people.claimed(journey)

    await people.until_settled(event_id, journey.manager)
    assert post_office.to(journey.manager.address)[0].subject == "Delivery claimed: 10 portions of Sopa"
    inbox = await client.get("/v1/notifications", headers=journey.manager.headers)
    assert [item["title"] for item in inbox.json()["items"]] == ["Delivery claimed"]


async def test_a_killed_process_loses_no_mail_and_names_none_twice(
    people: People, post_office: PostOffice, live: LiveService
) -> None:
    """Killed while every slot waits for the server's word, all mails arrive, and what came twice is recognisable."""
    journeys = [await people.journey() for _ in range(6)]
    before = [await people.claimed(journey) for journey in journeys]
    for journey, event_id in zip(journeys, before, strict=True):
        await people.until_settled(event_id, *journey.everybody[:3])
    post_office.silent.set()
    events = [await people.claimed(journey, version=2) for journey in journeys]
    heard = [person for journey in journeys for person in (journey.manager, journey.staff, journey.receiver)]
    await eventually(lambda: _taken_twice(post_office, heard) == MAILS_AT_ONCE)

    live.kill()
    post_office.silent.clear()
    for event_id in events:
        await people.let_time_pass(event_id)
    await live.start_soon()

    for journey, event_id in zip(journeys, events, strict=True):
        await people.until_settled(event_id, *journey.everybody[:3])
    for journey, event_id in zip(journeys, events, strict=True):
        mails = await people.mails_of(event_id)
        for person in journey.everybody[:3]:
            taken = [mail.id for mail in post_office.to(person.address)]
            assert f"<{mails[person.id]['id']}@vouajudar.org>" in taken
            assert len(set(taken)) == 2
    assert sum(len(post_office.to(person.address)) for person in heard) == 2 * len(heard) + MAILS_AT_ONCE


def _taken_twice(post_office: PostOffice, people: list[Person]) -> int:
    return sum(len(post_office.to(person.address)) == 2 for person in people)


# ---------------------------------------------------------------- one process, looked at closely


class Slow:
    """A channel that holds back the first mails until it is opened, and counts how many it has in hand."""

    name = "email"

    def __init__(self, *, holds: int = 1_000_000) -> None:
        self._holds = holds
        self.open = asyncio.Event()
        self.sent: list[UUID] = []
        self.now, self.most = 0, 0

    async def send(self, message: OutgoingMessage) -> Sent:
        """Take it, after the word when it is one of the first."""
        self.now += 1
        self.most = max(self.most, self.now)
        if self._holds:
            self._holds -= 1
            await self.open.wait()
        self.now -= 1
        self.sent.append(message.message_id)
        return Sent(str(message.message_id))


_MEMBERS = """INSERT INTO access_members (organization_id, user_id, role, version)
SELECT $1, u, 'staff', 1 FROM unnest($2::uuid[]) u"""
_KNOWN = """INSERT INTO contacts (user_id, status, email, fetched_at)
SELECT u, 'known', u || '@example.org', now() FROM unnest($1::uuid[]) u"""
_ENDED = """UPDATE messages SET status = 'expired'
WHERE notification_id IN (SELECT id FROM notifications WHERE event_id = $1) AND channel = 'email'"""
_CRITICAL = """UPDATE messages SET critical = true
WHERE notification_id IN (SELECT id FROM notifications WHERE event_id = $1)"""


async def _queue_mails(database: Database, count: int) -> UUID:
    """That many people who are members of one organization and told of one fact; returns the event's id."""
    organization_id = new_id()
    fact = Fact(
        event_id=new_id(), name="OrganizationVerified", type="t", subject=organization_id, version=1,
        happened_at=datetime.now(UTC) - timedelta(hours=1), parties={Party.ORGANIZATION: [organization_id]},
        context={"organization_id": organization_id},
    )  # fmt: skip
    users = [new_id() for _ in range(count)]
    async with database.command() as tx:
        tx.write(_MEMBERS, organization_id, users)
        tx.write(_KNOWN, users)
    async with database.transaction() as tx:
        await usecases.tell(tx, fact, lifetime=timedelta(hours=1), now=datetime.now(UTC))
    return fact.event_id


async def _sent(database: Database, event_id: UUID) -> int:
    sql = """SELECT count(*) FROM messages m JOIN notifications n ON n.id = m.notification_id
        WHERE n.event_id = $1 AND m.channel = 'email' AND m.status = 'sent'"""
    return int(await database.reading().fetchval(sql, event_id))


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_mail_in_hand_is_not_sent_again_when_its_lease_runs_out(still_database: Database) -> None:
    """However long the server takes, one process never takes up a mail that it still waits for."""
    channel = Slow(holds=1)
    held = await _queue_mails(still_database, 1)
    task = asyncio.create_task(_mailer(still_database, channel).run())
    await eventually(lambda: channel.now == 1)

    async with still_database.command() as tx:
        tx.write("UPDATE messages SET due_at = now() - interval '1 minute' WHERE status = 'queued'")
    others = await _queue_mails(still_database, 5)
    await eventually(lambda: _equals(still_database, others, 5))
    channel.open.set()

    await eventually(lambda: _equals(still_database, held, 1))
    await _stop(task)
    assert (len(channel.sent), len(set(channel.sent))) == (6, 6)


async def test_ten_mails_are_sent_at_once_and_no_more(still_database: Database) -> None:
    """The mail server is not flooded, and every mail has its turn."""
    channel = Slow()
    event_id = await _queue_mails(still_database, 25)
    task = asyncio.create_task(_mailer(still_database, channel).run())
    await eventually(lambda: channel.now == MAILS_AT_ONCE)

    channel.open.set()

    await eventually(lambda: _equals(still_database, event_id, 25))
    await _stop(task)
    assert (len(channel.sent), len(set(channel.sent)), channel.most) == (25, 25, MAILS_AT_ONCE)


def _mailer(database: Database, channel: Slow) -> Mailer:
    return Mailer(database, channel, public_url="http://x.example", secret=b"s" * 32)


async def _equals(database: Database, event_id: UUID, count: int) -> bool:
    return await _sent(database, event_id) == count


async def test_two_processes_share_the_work(still_database: Database) -> None:
    """Two mailers on one database send each mail once."""
    channel = Slow()
    channel.open.set()
    event_id = await _queue_mails(still_database, 60)
    tasks = [asyncio.create_task(_mailer(still_database, channel).run()) for _ in range(2)]

    await eventually(lambda: _equals(still_database, event_id, 60))

    for task in tasks:
        await _stop(task)
    assert (len(channel.sent), len(set(channel.sent))) == (60, 60)


async def test_no_two_claims_lease_the_same_mail(still_database: Database) -> None:
    """Twenty claims race for sixty mails: each mail is leased by exactly one."""
    event_id = await _queue_mails(still_database, 60)

    async def claim() -> list[UUID]:
        async with still_database.transaction() as tx:
            return [mail.message_id for mail in await usecases.claim_mails(tx, 10, in_hand=[])]

    claimed = [each for mails in await asyncio.gather(*(claim() for _ in range(20))) for each in mails]

    assert len(claimed) == len(set(claimed))
    rest = await claim()
    assert len({*claimed, *rest}) == 60
    async with still_database.command() as tx:
        tx.write(_ENDED, event_id)


class Away:
    """A database that is away for a few calls, from the first mail that was sent."""

    def __init__(self, database: Database, channel: Slow, *, calls: int) -> None:
        self._database, self._channel, self.calls = database, channel, calls
        self.listen = database.listen

    def command(self) -> AbstractAsyncContextManager[Transaction]:
        """As the database has it, or not at all."""
        if self._channel.sent and self.calls:
            self.calls -= 1
            raise ConnectionRefusedError
        return self._database.command()


async def test_what_was_sent_is_recorded_when_the_database_is_back(still_database: Database) -> None:
    """A database that goes away between the server's yes and our record makes no second mail, even past the lease."""
    channel = Slow(holds=1)
    event_id = await _queue_mails(still_database, 1)
    away = Away(still_database, channel, calls=3)
    task = asyncio.create_task(_mailer(cast("Database", away), channel).run())
    await eventually(lambda: channel.now == 1)
    async with still_database.command() as tx:
        tx.write("UPDATE messages SET due_at = now() - interval '1 minute' WHERE status = 'queued'")

    channel.open.set()

    await eventually(lambda: _equals(still_database, event_id, 1))
    await _stop(task)
    assert (len(channel.sent), away.calls) == (1, 0)


async def test_a_graceful_stop_finishes_what_is_under_way(still_database: Database) -> None:
    """A mail that the server is just taking is recorded as sent before the process ends."""
    channel = Slow()
    event_id = await _queue_mails(still_database, 1)
    task = asyncio.create_task(_mailer(still_database, channel).run())
    await eventually(lambda: channel.now == 1)

    task.cancel()
    channel.open.set()
    await asyncio.gather(task, return_exceptions=True)

    assert await _sent(still_database, event_id) == 1


async def test_a_result_that_comes_after_the_lease_was_taken_over_changes_nothing(still_database: Database) -> None:
    """The fence: only the newest attempt is recorded."""
    event_id = await _queue_mails(still_database, 1)
    async with still_database.command() as tx:
        [old] = await usecases.claim_mails(tx, 10, in_hand=[])
    async with still_database.command() as tx:
        tx.write("UPDATE messages SET due_at = now() WHERE id = $1", old.message_id)
    async with still_database.command() as tx:
        [new] = await usecases.claim_mails(tx, 10, in_hand=[])

    async with still_database.command() as tx:
        usecases.record_mail(tx, old, Outcome(Status.FAILED, failure="late"))
    status = await still_database.reading().fetchval("SELECT status FROM messages WHERE id = $1", old.message_id)
    assert (new.attempt, status) == (2, "queued")
    async with still_database.command() as tx:
        usecases.record_mail(tx, new, Outcome(Status.SENT, reference="r"))

    assert await _sent(still_database, event_id) == 1


async def test_critical_mails_go_first(still_database: Database) -> None:
    """A recall does not stand in the queue behind what can wait."""
    await _queue_mails(still_database, 5)
    last = await _queue_mails(still_database, 1)
    async with still_database.command() as tx:
        tx.write(_CRITICAL, last)

    async with still_database.command() as tx:
        [first] = await usecases.claim_mails(tx, 1, in_hand=[])

    assert first.critical


@pytest.mark.parametrize("attempts", [8, 20])
async def test_a_mail_that_kills_its_process_every_time_ends(still_database: Database, attempts: int) -> None:
    """After eight attempts without a word it is failed, not tried for ever."""
    event_id = await _queue_mails(still_database, 1)
    async with still_database.command() as tx:
        tx.write("UPDATE messages SET attempts = $1 WHERE status = 'queued'", attempts)
    channel = Slow()
    task = asyncio.create_task(_mailer(still_database, channel).run())

    sql = """SELECT count(*) FROM messages m JOIN notifications n ON n.id = m.notification_id
        WHERE n.event_id = $1 AND m.status = 'failed' AND m.failure = 'interrupted'"""
    await eventually(lambda: still_database.reading().fetchval(sql, event_id))

    await _stop(task)
    assert channel.sent == []
