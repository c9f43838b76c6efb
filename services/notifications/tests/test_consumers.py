"""What other services' facts do here: the right people are told, once each, and never the one who did it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Bus, eventually
from contracts.envelope import Event
from contracts.events import batches, deliveries, identity, resources, webhooks
from contracts.registry import decode, event_types
from notifications import consumers, usecases
from notifications.domain import TELLINGS, DirectoryBehind, Fact, Party
from notifications.rendering import LOCALES, brief

from services.notifications.tests.people import Journey, People
from services.notifications.tests.servers import Identity, PostOffice

# P provider's members, R receiver's members, V volunteer, C coordinators
EXPECTED: dict[type[Event], str] = {
    batches.BatchExpired: "P",
    batches.BatchRecalled: "PRV",
    batches.TemperatureRecorded: "PRV",
    batches.BatchHoldRejected: "PR",
    deliveries.DeliveryPlanned: "",
    deliveries.DeliverySplit: "",
    deliveries.DeliverySplitOff: "",
    deliveries.DeliveryOpened: "PR",
    deliveries.DeliveryClaimed: "PRV",
    deliveries.ClaimReleased: "PRV",
    deliveries.WaitingVolunteerCalled: "V",
    deliveries.PickupConfirmed: "PRV",
    deliveries.DropoffRefused: "PRV",
    deliveries.DeliveryRerouted: "",
    deliveries.DeliveryCompleted: "PRV",
    deliveries.DeliveryReturned: "",
    deliveries.DeliveryDiscarded: "",
    deliveries.DeliveryFailed: "",
    deliveries.DeliveryCancelled: "PRV",
    deliveries.DeliveryExpired: "PRV",
    deliveries.DeliveryOffered: "V",
    deliveries.DeliveryUnclaimed: "PC",
    deliveries.PickupReminded: "V",
    deliveries.PickupDelayed: "PRVC",
    deliveries.DropoffDelayed: "RVC",
    deliveries.RerouteAsked: "V",
    deliveries.RerouteDelayed: "PVC",
    deliveries.TaskCreated: "P",
    deliveries.TaskExpired: "P",
    resources.ResourceRequestFulfilled: "R",
    resources.ReservationMade: "R",
    resources.ReservationReceived: "P",
    resources.ReservationCancelled: "PR",
    resources.ReservationExpired: "PR",
    resources.MatchProposed: "PR",
    resources.MatchAccepted: "P",
    resources.MatchDeclined: "PR",
    resources.MatchExpired: "R",
    resources.MatchWithdrawn: "PR",
    identity.OrganizationVerified: "P",
    identity.OrganizationSuspended: "P",
    webhooks.EndpointFailing: "P",
    webhooks.EndpointDisabled: "P",
}


_WITHOUT_VOLUNTEER = {deliveries.ClaimReleased, deliveries.TaskCreated, deliveries.TaskExpired}


def golden(kind: type[Event], journey: Journey) -> Event:
    """The golden example of an event, about the organizations of a journey; reservations are donated by the provider."""
    body = (files("contracts") / "examples" / f"{kind.type_name()}.json").read_bytes()
    event = decode(body).event
    owner = journey.receiver_id if kind.producer == "resources" else journey.provider_id
    ours: dict[str, Any] = {
        "organization_id": owner,
        "donor_organization_id": journey.provider_id,
        "provider_organization_id": journey.provider_id,
        "provider_organization_ids": [journey.provider_id],
        "receiving_organization_id": journey.receiver_id,
        "volunteer_id": None if kind in _WITHOUT_VOLUNTEER else journey.volunteer.id,
        "volunteer_ids": [journey.volunteer.id],
        "assigned_organization_ids": [journey.provider_id],
        "previous_volunteer_id": journey.volunteer.id,
        "waiting_id": journey.volunteer.id,
        "in_band": False,
        "delivery_id": journey.id,
        "batch_id": journey.batch_id,
        "place_id": journey.place_id,
    }
    return event.model_copy(update={name: value for name, value in ours.items() if name in kind.model_fields})


def of(letters: str, journey: Journey) -> set[UUID]:
    """The people behind the letters."""
    people = {
        "P": [journey.manager.id, journey.staff.id],
        "R": [journey.receiver.id],
        "V": [journey.volunteer.id],
    }
    return {person for letter in letters for person in people[letter]}


def test_every_event_taken_is_expected_here() -> None:
    """No event is told, or followed, without this file saying who hears of it."""
    taken = set(consumers.events(message_lifetime=timedelta(hours=1)).handlers)

    assert taken == set(EXPECTED)
    assert {kind.__name__ for kind, letters in EXPECTED.items() if letters} == set(TELLINGS)
    assert set(TELLINGS) <= {kind.__name__ for kind in event_types().values()}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
async def test_each_event_reaches_its_people(people: People, kind: type[Event], database: Database) -> None:
    """Every member of the organizations concerned, the volunteer where there is one, all coordinators; nobody else; readable."""
    journey = await people.journey()
    await people.callers.person(platform_role="coordinator")
    sql = "SELECT user_id FROM access_users WHERE 'coordinator' = ANY(roles) AND NOT suspended"
    coordinators = {UUID(int=row["user_id"].int) for row in await database.reading().fetch(sql)}
    await people.hear(journey.fact(deliveries.DeliveryPlanned, volunteer_id=None))
    await people.hear(journey.fact(deliveries.DeliveryClaimed), version=2)

    event_id = await people.hear(
        golden(kind, journey), subject=journey.id, version=3 if kind.producer == "deliveries" else 1
    )
    marker = await people.claimed(journey, version=4)

    await people.until_told(marker)
    assert await people.told(event_id) - coordinators == of(EXPECTED[kind].replace("C", ""), journey)
    assert await people.told(event_id) & coordinators == (coordinators if "C" in EXPECTED[kind] else set())
    rows = await database.reading().fetch("SELECT kind, context FROM notifications WHERE event_id = $1", event_id)
    assert all(brief(row["kind"], locale, row["context"]).body for row in rows for locale in LOCALES)


@pytest.mark.parametrize(
    ("role", "letters"), [("receiver_member", "R"), ("volunteer", "V"), ("coordinator", "")], ids=str
)
async def test_a_task_is_told_to_the_side_that_it_is_for(
    people: People, role: str, letters: str, database: Database
) -> None:
    """Members of the assigned organization, or the volunteer alone, or coordinators and nobody of the organizations."""
    journey, coordinator = await people.journey(), await people.callers.person(platform_role="coordinator")
    task = golden(deliveries.TaskCreated, journey).model_copy(
        update={
            "role": role,
            "assigned_organization_ids": [journey.receiver_id] if role == "receiver_member" else [],
            "volunteer_id": journey.volunteer.id if role == "volunteer" else None,
        }
    )

    event_id = await people.hear(task, subject=new_id())

    await people.until_told(event_id)
    told = await people.told(event_id)
    assert told & {person.id for person in journey.everybody} == of(letters, journey)
    assert (coordinator.id in told) == (role == "coordinator")


async def test_what_is_said_of_a_delivery_is_about_the_delivery(people: People, database: Database) -> None:
    """An offer names the delivery that can be opened and claimed, not the stream of what was said beside it."""
    journey = await people.journey()

    event_id = await people.hear(golden(deliveries.DeliveryOffered, journey), subject=new_id())

    await people.until_told(event_id)
    subject = await database.reading().fetchval("SELECT subject FROM notifications WHERE event_id = $1", event_id)
    assert UUID(int=subject.int) == journey.id


async def test_a_suspended_coordinator_is_not_told(people: People) -> None:
    """Who coordinates no more hears nothing of late pickups."""
    journey, coordinator = await people.journey(), await people.callers.person(platform_role="coordinator")
    await people.callers.know(identity.UserSuspended(user_id=coordinator.id))

    event_id = await people.hear(golden(deliveries.PickupDelayed, journey), subject=new_id())

    await people.until_told(event_id)
    told = await people.told(event_id)
    assert coordinator.id not in told
    assert of("PRV", journey) <= told


async def test_what_is_said_about_a_delivery_leads_to_it(people: People, database: Database) -> None:
    """The stream of what is said has an id of its own, which nobody can look at; the notification names the delivery."""
    journey = await people.journey()

    event_id = await people.hear(golden(deliveries.DeliveryOffered, journey), subject=new_id())

    await people.until_told(event_id)
    rows = await database.reading().fetch("SELECT subject FROM notifications WHERE event_id = $1", event_id)
    assert {row["subject"] for row in rows} == {journey.id}


async def test_everybody_but_the_actor_reads_it_in_their_language(people: People, post_office: PostOffice) -> None:
    """One mail and one inbox row each, Portuguese or English as the person's account says, at the place's time."""
    journey = await people.journey()

    event_id = await people.hear(journey.fact(deliveries.PickupConfirmed), actor=journey.staff.id)

    heard = [journey.manager, journey.receiver, journey.volunteer]
    mails = await people.until_settled(event_id, *heard)
    assert {row["status"] for row in mails.values()} == {"sent"}
    subjects = {person.id: [taken.subject for taken in post_office.to(person.address)] for person in journey.everybody}
    assert subjects == {
        journey.manager.id: ["Entrega a caminho: 10 porções de Sopa"],
        journey.staff.id: [],
        journey.receiver.id: ["Entrega a caminho: 10 porções de Sopa"],
        journey.volunteer.id: ["Delivery on its way: 10 portions of Sopa"],
    }
    assert await people.told(event_id) == {person.id for person in heard}
    text = post_office.to(journey.manager.address)[0].mail.get_body(["plain"])
    assert text is not None
    assert "(BRT)" in text.get_content()


async def test_a_repeated_message_tells_nobody_twice(people: People, post_office: PostOffice) -> None:
    """The same event ten times is one notification and one mail each."""
    journey, event_id = await people.journey(), new_id()

    for _ in range(10):
        await people.claimed(journey, event_id=event_id)
    marker = await people.claimed(journey, version=2)

    await people.until_settled(marker, journey.manager)
    await people.until_settled(event_id, journey.manager)
    assert len(post_office.to(journey.manager.address)) == 2
    assert len({taken.id for taken in post_office.to(journey.manager.address)}) == 2


async def test_one_who_is_in_it_twice_is_told_once(people: People) -> None:
    """A volunteer who is also a member of both organizations has one notification."""
    journey = await people.journey()
    for organization_id in (journey.provider_id, journey.receiver_id):
        granted = identity.MembershipGranted(
            organization_id=organization_id, user_id=journey.volunteer.id, role="staff"
        )
        await people.callers.know(granted)

    event_id = await people.hear(journey.fact(deliveries.DeliveryCompleted))

    await people.until_told(event_id)
    assert await people.told(event_id) == of("PRV", journey)


async def test_who_left_or_is_suspended_is_not_told(people: People) -> None:
    """A revoked membership and a suspended person hear nothing more."""
    journey = await people.journey()
    gone = identity.MembershipRevoked(organization_id=journey.provider_id, user_id=journey.staff.id)
    await people.callers.know(gone, identity.UserSuspended(user_id=journey.volunteer.id))

    event_id = await people.hear(journey.fact(deliveries.DeliveryCompleted))

    await people.until_told(event_id)
    assert await people.told(event_id) == {journey.manager.id, journey.receiver.id}


async def test_a_recall_finds_everybody_who_was_brought_the_goods(people: People) -> None:
    """Receivers and volunteers of finished deliveries too, but not of those that never happened."""
    journey, other = await people.journey(), await people.journey()
    await people.hear(journey.fact(deliveries.DeliveryCompleted, status="delivered"))
    cancelled = other.fact(deliveries.DeliveryCancelled, status="cancelled")
    line = cancelled.lines[0].model_copy(update={"batch_id": journey.batch_id})  # type: ignore[attr-defined]
    marker = await people.hear(cancelled.model_copy(update={"lines": [line]}))
    await people.until_told(marker)

    event_id = await people.hear(golden(batches.BatchRecalled, journey), subject=journey.batch_id)

    await people.until_told(event_id)
    assert await people.told(event_id) == of("PRV", journey)
    assert all(row["critical"] for row in (await people.mails_of(event_id)).values())


async def test_an_alarm_is_for_those_who_have_or_bring_the_goods(people: People) -> None:
    """Not for who was brought them already; and a reading in band is no alarm."""
    journey, done = await people.journey(), await people.journey()
    await people.hear(journey.fact(deliveries.PickupConfirmed, status="in_transit"))
    delivered = done.fact(deliveries.DeliveryCompleted, status="delivered")
    line = delivered.lines[0].model_copy(update={"batch_id": journey.batch_id})  # type: ignore[attr-defined]
    marker = await people.hear(delivered.model_copy(update={"lines": [line]}))
    await people.until_told(marker)
    alarm = golden(batches.TemperatureRecorded, journey)

    in_band = await people.hear(alarm.model_copy(update={"in_band": True}), subject=journey.batch_id)
    event_id = await people.hear(alarm, subject=journey.batch_id, version=2)

    await people.until_told(event_id)
    assert await people.told(event_id) == of("PRV", journey)
    assert await people.told(in_band) == set()


async def test_who_waited_is_called_and_nobody_else(people: People) -> None:
    """Also when the delivery has no volunteer, which it never has then."""
    journey = await people.journey()

    event_id = await people.hear(
        journey.fact(deliveries.WaitingVolunteerCalled, volunteer_id=None, waiting_id=journey.volunteer.id)
    )

    await people.until_told(event_id)
    assert await people.told(event_id) == {journey.volunteer.id}


async def test_a_cancellation_is_critical_when_somebody_is_on_the_way(people: People) -> None:
    """Before the claim it can wait for the morning, afterwards it cannot."""
    journey = await people.journey()

    late = await people.hear(journey.fact(deliveries.DeliveryCancelled))
    early = await people.hear(journey.fact(deliveries.DeliveryCancelled, volunteer_id=None), version=2)

    await people.until_told(early)
    await people.until_told(late)
    assert {row["critical"] for row in (await people.mails_of(late)).values()} == {True}
    assert {row["critical"] for row in (await people.mails_of(early)).values()} == {False}


async def test_a_fact_that_overtook_what_it_needs_waits(people: People) -> None:
    """A recent fact of an organization or a delivery that is not known yet is tried again, then told to everybody."""
    journey, newcomer = await people.journey(), new_id()
    rejected = await people.hear(golden(batches.BatchHoldRejected, journey), subject=journey.batch_id)
    completed = journey.fact(deliveries.DeliveryCompleted, delivery_id=new_id(), receiving_organization_id=newcomer)
    completed_id = await people.hear(completed)
    marker = await people.claimed(await people.journey())
    await people.until_told(marker)
    assert not await people.told(rejected)
    assert not await people.told(completed_id)

    await people.hear(journey.fact(deliveries.DeliveryPlanned, volunteer_id=None))
    member = await people.person(member_of=newcomer)
    await people.callers.know(
        identity.OrganizationVerified(organization_id=newcomer, cnpj="11222333000181", kinds=["receiver"])
    )

    await people.until_told(rejected)
    await people.until_told(completed_id)
    assert await people.told(rejected) == of("PR", journey)
    assert await people.told(completed_id) == of("PV", journey) | {member.id}


async def test_an_organizations_own_fact_waits_for_its_members(people: People, database: Database) -> None:
    """That it was verified is told when the replica has come as far: its first manager is a member by then."""
    journey = await people.journey()
    fact = Fact(
        event_id=new_id(), name="OrganizationVerified", type="t", subject=journey.provider_id, version=10**6,
        happened_at=datetime.now(UTC), parties={Party.ORGANIZATION: [journey.provider_id]},
        context={"organization_id": journey.provider_id},
    )  # fmt: skip

    with pytest.raises(DirectoryBehind):
        async with database.transaction() as tx:
            await usecases.tell(tx, fact, lifetime=timedelta(hours=1), now=datetime.now(UTC))

    assert not await people.told(fact.event_id)


async def test_what_never_comes_is_waited_for_a_minute_only(people: People) -> None:
    """An old fact is told to those who are known, whoever is missing."""
    journey = await people.journey()
    fact = journey.fact(deliveries.DeliveryCompleted, receiving_organization_id=new_id())

    event_id = await people.hear(fact, happened_at=datetime.now(UTC) - timedelta(minutes=5))

    await people.until_told(event_id)
    assert await people.told(event_id) == of("PV", journey)


async def test_poison_becomes_a_dead_letter_and_its_neighbours_are_told(
    people: People, bus: Bus, database: Database
) -> None:
    """Unreadable bytes and a fact that no text can be made of are kept with their reason; the rest has its effect."""
    journey, undecodable = await people.journey(), new_id()
    key = deliveries.DeliveryClaimed.routing_key()
    await bus.send(b'{"nonsense": 1}', producer="deliveries", routing_key=key, message_id=str(undecodable))
    empty = await people.hear(journey.fact(deliveries.DeliveryClaimed, lines=[]))
    good = [await people.claimed(journey, version=n) for n in range(2, 6)]

    for event_id in good:
        await people.until_told(event_id)
    kept = "SELECT count(*) FROM dead_letters WHERE message_id = $1 AND status = 'open' AND reason = $2"
    await eventually(lambda: database.reading().fetchval(kept, str(undecodable), "undecodable"))
    await eventually(lambda: database.reading().fetchval(kept, str(empty), "permanent"))
    assert not await people.told(empty)


async def test_a_zone_that_does_not_exist_spoils_no_notification(people: People) -> None:
    """The place of a nonsense zone shows times as most places do."""
    journey, place_id = await people.journey(), new_id()
    await people.callers.know(
        identity.PlaceAdded(
            place_id=place_id, organization_id=journey.provider_id, roles=["pickup"], ibge_city="4314902", lat=0, lon=0,
            tz="Mars/Olympus", accepts=[],
        )
    )  # fmt: skip

    event_id = await people.hear(journey.fact(deliveries.DeliveryCompleted, receiving_place_id=place_id))

    await people.until_settled(event_id, journey.manager)


async def test_two_workers_with_the_same_fact_tell_once(database: Database, people: People) -> None:
    """Even past the inbox, one person has one notification of one event, whatever races."""
    journey = await people.journey()
    fact = Fact(
        event_id=new_id(), name="DeliveryCompleted", type="t", subject=journey.id, version=1,
        happened_at=datetime.now(UTC), place_id=None, actor_id=journey.manager.id,
        parties={Party.PROVIDER: [journey.provider_id], Party.RECEIVER: [journey.receiver_id]},
        context={"delivery_id": journey.id, "items": [{"quantity": 1, "unit": "unit", "product_name": "Pão"}]},
    )  # fmt: skip

    async def tell() -> None:
        async with database.transaction() as tx:
            await usecases.tell(tx, fact, lifetime=timedelta(hours=1), now=datetime.now(UTC))

    await asyncio.gather(*(tell() for _ in range(8)))

    rows = await database.reading().fetch("SELECT user_id FROM notifications WHERE event_id = $1", fact.event_id)
    assert sorted(row["user_id"] for row in rows) == sorted([journey.staff.id, journey.receiver.id])


async def test_a_new_person_is_asked_for_and_kept(people: People, identity: Identity, database: Database) -> None:
    """Identity tells the address when somebody signs up, with the token of services; no event carries it."""
    person = await people.person(locale="en")

    await people.hear(event_types()["vouajudar.identity.user.registered.v1"](user_id=person.id, locale="en"))

    sql = "SELECT count(*) FROM contacts WHERE user_id = $1 AND status = 'known' AND locale = 'en' AND email = $2"
    await eventually(lambda: database.reading().fetchval(sql, person.id, person.address))
    assert identity.asked.count(person.id) == 1


async def test_no_transaction_waits_for_identity(people: People, identity: Identity, database: Database) -> None:
    """While identity is slow, no connection is held in a transaction and facts are handled."""
    journey = await people.journey()
    identity.silent.set()
    slow = await people.person()
    await people.hear(event_types()["vouajudar.identity.user.registered.v1"](user_id=slow.id, locale="en"))
    await eventually(lambda: slow.id in identity.asked)

    event_id = await people.claimed(journey)

    await people.until_told(event_id)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    await eventually(lambda: _is_zero(database, idle))


async def _is_zero(database: Database, sql: str) -> bool:
    return int(await database.reading().fetchval(sql)) == 0
