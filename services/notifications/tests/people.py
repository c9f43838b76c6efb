"""The people of these tests, and how facts about their deliveries reach the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.database import Database, Row
from chassis.kernel import new_id
from chassis.outbox import Announcement, envelope_bytes
from chassis.telemetry import in_context, start_context
from chassis.testing import Bus, Callers, eventually
from contracts.envelope import Event
from contracts.events import deliveries

from services.notifications.tests.servers import Identity

PATIENCE_S = 20.0  # for a service on a machine that has other work too


@dataclass(frozen=True)
class Person:
    """Somebody with an inbox, an address and credentials."""

    id: UUID
    address: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Journey:
    """A delivery with its parties: two members of the provider, one of the receiver, a volunteer."""

    id: UUID
    batch_id: UUID
    provider_id: UUID
    receiver_id: UUID
    place_id: UUID
    manager: Person
    staff: Person
    receiver: Person
    volunteer: Person

    @property
    def everybody(self) -> list[Person]:
        """Who has a part in it."""
        return [self.manager, self.staff, self.receiver, self.volunteer]

    def fact(self, kind: type[Event], **changes: Any) -> Event:
        """A fact of the delivery, claimed by the volunteer unless told otherwise."""
        line = {
            "line_id": self.id,
            "batch_id": self.batch_id,
            "organization_id": self.provider_id,
            "category": "prepared",
            "product_name": "Sopa",
            "unit": "portion",
            "planned": 10,
        }
        return kind.model_validate(
            {
                "delivery_id": self.id,
                "status": "claimed",
                "provider_organization_ids": [self.provider_id],
                "pickup_place_id": self.place_id,
                "receiving_organization_id": self.receiver_id,
                "receiving_place_id": self.place_id,
                "volunteer_id": self.volunteer.id,
                "lines": [line],
                "reason": "test",
                "usable": True,
                "previous_volunteer_id": self.volunteer.id,
                **changes,
            }
        )


class People:
    """Makes people known to the service under test and to identity, and publishes facts."""

    def __init__(self, callers: Callers, identity: Identity, bus: Bus, database: Database) -> None:
        self.callers = callers
        self._identity = identity
        self._bus = bus
        self._database = database

    async def person(self, *, member_of: UUID | None = None, role: str = "manager", locale: str = "pt-BR") -> Person:
        """Somebody whom identity has the address of."""
        caller = await self.callers.person(member_of=member_of, role=role)
        address = f"p{caller.id.hex}@example.org"
        self._identity.people[caller.id] = {"email": address, "locale": locale, "display_name": "Maria"}
        return Person(caller.id, address, caller.headers)

    async def journey(self) -> Journey:
        """A delivery between two new organizations; the provider's staff and the volunteer read English."""
        provider_id, receiver_id = await self.callers.organization(), await self.callers.organization()
        return Journey(
            id=new_id(),
            batch_id=new_id(),
            provider_id=provider_id,
            receiver_id=receiver_id,
            place_id=await self.callers.place(provider_id),
            manager=await self.person(member_of=provider_id),
            staff=await self.person(member_of=provider_id, role="staff", locale="en"),
            receiver=await self.person(member_of=receiver_id),
            volunteer=await self.person(locale="en"),
        )

    async def hear(
        self, event: Event, *, subject: UUID | None = None, version: int = 1, actor: UUID | None = None,
        event_id: UUID | None = None, happened_at: datetime | None = None,
    ) -> UUID:  # fmt: skip
        """Publish a fact that `actor` caused; returns its id."""
        event_id, subject = event_id or new_id(), subject or getattr(event, "delivery_id", None) or new_id()
        context = replace(start_context(), actor_id=None if actor is None else str(actor))
        with in_context(context):
            moment = happened_at or datetime.now(UTC)
            body = envelope_bytes(Announcement(event), subject, event_id, version, moment)
        await self._bus.send(body, producer=event.producer, routing_key=event.routing_key(), message_id=str(event_id))
        return event_id

    async def told(self, event_id: UUID) -> set[UUID]:
        """Who has a notification of a fact."""
        sql = "SELECT user_id FROM notifications WHERE event_id = $1"
        return {UUID(int=row["user_id"].int) for row in await self._database.reading().fetch(sql, event_id)}

    async def mails_of(self, event_id: UUID) -> dict[UUID, Row]:
        """The e-mail message of each person told."""
        sql = """SELECT m.* FROM messages m JOIN notifications n ON n.id = m.notification_id
            WHERE n.event_id = $1 AND m.channel = 'email'"""
        rows = await self._database.reading().fetch(sql, event_id)
        return {UUID(int=row["user_id"].int): row for row in rows}

    async def until_told(self, event_id: UUID) -> None:
        """Wait until somebody has a notification of a fact: then everybody has, for they are written together."""
        await eventually(lambda: self.told(event_id), timeout_s=PATIENCE_S)

    async def until_settled(self, event_id: UUID, *people: Person) -> dict[UUID, Row]:
        """The mails of a fact to these people, once each of them has come to an end."""
        mails: dict[UUID, Row] = await eventually(lambda: self._settled(event_id, people), timeout_s=PATIENCE_S)
        return mails

    async def _settled(self, event_id: UUID, people: Sequence[Person]) -> dict[UUID, Row]:
        mails = await self.mails_of(event_id)
        assert {person.id for person in people} <= mails.keys()
        assert all(mails[person.id]["finished_at"] for person in people), [dict(row) for row in mails.values()]
        return mails

    async def let_time_pass(self, event_id: UUID) -> None:
        """Whatever waits for its time, a lease or another attempt, is due."""
        async with self._database.command() as tx:
            tx.write(
                """UPDATE messages SET due_at = now() WHERE status = 'queued'
                AND notification_id IN (SELECT id FROM notifications WHERE event_id = $1)""",
                event_id,
            )

    async def execute(self, sql: str, *args: Any) -> None:
        """Change the world behind the service's back."""
        async with self._database.command() as tx:
            tx.write(sql, *args)

    async def claimed(self, journey: Journey, **how: Any) -> UUID:
        """The volunteer claims; everybody else hears of it."""
        fact = journey.fact(deliveries.DeliveryClaimed)
        return await self.hear(fact, actor=journey.volunteer.id, **how)
