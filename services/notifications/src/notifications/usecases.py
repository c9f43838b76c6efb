"""What notifications does: tell people of an event, keep their inbox and their wishes, and lease and record work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.telemetry import current_context

from notifications import domain, queries, repository
from notifications.domain import (
    DirectoryBehind,
    Fact,
    Followed,
    Mail,
    Outcome,
    Party,
    Preferences,
    TimeZoneUnknown,
    WantedContact,
)
from notifications.rendering import brief

MAILS, CONTACTS = repository.MAILS, repository.CONTACTS


async def tell(tx: Transaction, fact: Fact, *, lifetime: timedelta, now: datetime) -> None:
    """Everybody concerned has one notification of the fact, and one message per channel they take.

    Raises `DirectoryBehind` while an organization of a recent fact is unknown here, and what rendering raises for a
    context that no template takes: what is stored can be shown.
    """
    complete, tz = await repository.known(
        tx, organization_ids=fact.organization_ids, version=_directory_version(fact), place_id=fact.place_id
    )
    if not complete and fact.may_wait(now):
        raise DirectoryBehind(f"{fact.name} {fact.event_id}: an organization is not known as far")
    context = {**fact.context, "at": fact.happened_at, **_zone(tz)}
    brief(fact.telling.kind, queries.DEFAULT_LOCALE, context)
    origin = current_context()
    await repository.tell(
        tx,
        fact,
        context=context,
        lifetime=lifetime,
        correlation_id=origin.correlation_id,
        traceparent=origin.traceparent,
    )


def _directory_version(fact: Fact) -> int:
    """An organization's own events follow its memberships: the replica must have come as far, not just know it."""
    return fact.version if Party.ORGANIZATION in fact.telling.to else 0


def _zone(tz: str | None) -> dict[str, str]:
    try:
        return {} if tz is None else {"tz": domain.zone_of(tz).key}
    except TimeZoneUnknown:
        return {}


async def tell_of_hold(tx: Transaction, fact: Fact, delivery_id: UUID, *, lifetime: timedelta, now: datetime) -> None:
    """`tell`, also to the receiver of the delivery that the hold was for."""
    delivery = await repository.delivery(tx, delivery_id)
    if delivery is None and fact.may_wait(now):
        raise DirectoryBehind(f"{fact.name} {fact.event_id}: its delivery is not known")
    await tell(tx, _with_parties(fact, [] if delivery is None else [delivery]), lifetime=lifetime, now=now)


async def tell_holders(tx: Transaction, fact: Fact, batch_id: UUID, *, lifetime: timedelta, now: datetime) -> None:
    """`tell`, also to everybody who has, brings or was brought goods of the batch."""
    deliveries = await repository.deliveries_of(tx, batch_id)
    await tell(tx, _with_parties(fact, deliveries), lifetime=lifetime, now=now)


async def tell_bearers(tx: Transaction, fact: Fact, batch_id: UUID, *, lifetime: timedelta, now: datetime) -> None:
    """`tell`, also to everybody in whose hands goods of the batch are or soon will be."""
    deliveries = await repository.deliveries_of(tx, batch_id, live=True)
    await tell(tx, _with_parties(fact, deliveries), lifetime=lifetime, now=now)


def _with_parties(fact: Fact, deliveries: Sequence[Followed]) -> Fact:
    volunteers = [delivery.volunteer_id for delivery in deliveries if delivery.volunteer_id is not None]
    receivers = [delivery.receiver_id for delivery in deliveries]
    return replace(fact, parties={**fact.parties, Party.RECEIVER: receivers, Party.VOLUNTEER: volunteers})


def follow_delivery(
    tx: Transaction,
    delivery_id: UUID,
    *,
    version: int,
    status: str,
    delivery: Followed,
    batch_ids: Sequence[UUID],
) -> None:
    """Keep who is in a delivery, for what other services' events say of it by id only."""
    repository.follow_delivery(tx, delivery_id, version=version, status=status, delivery=delivery, batch_ids=batch_ids)


def register_person(tx: Transaction, user_id: UUID, *, locale: str) -> None:
    """A new person's address will be asked for."""
    repository.want_contact(tx, user_id, locale=locale)


async def read(tx: Transaction, user_id: UUID, notification_id: UUID, *, now: datetime) -> tuple[Row, datetime]:
    """The notification is read; again changes nothing. Returns it and when it was read first."""
    row = await queries.one(tx, user_id, notification_id)
    if row["read_at"] is None:
        repository.mark_read(tx, notification_id, now=now)
    return row, row["read_at"] or now


def set_preferences(tx: Transaction, user_id: UUID, wanted: Preferences) -> None:
    """Replace a person's preferences; raises `TimeZoneUnknown`."""
    if wanted.quiet_hours is not None:
        domain.zone_of(wanted.quiet_hours.tz)
    repository.save_preferences(tx, user_id, wanted)


def unsubscribe(tx: Transaction, user_id: UUID) -> None:
    """No more e-mails to this person; the inbox goes on."""
    repository.unsubscribe(tx, user_id)


async def claim_mails(tx: Transaction, limit: int, *, in_hand: Sequence[UUID]) -> list[Mail]:
    """Lease mails that are due."""
    return await repository.claim_mails(tx, limit, in_hand=in_hand)


def record_mail(tx: Transaction, mail: Mail, outcome: Outcome) -> None:
    """Keep what became of an attempt."""
    repository.record(tx, mail, outcome)


async def claim_contacts(tx: Transaction, limit: int) -> list[WantedContact]:
    """Lease people whose address has to be asked for."""
    return await repository.claim_contacts(tx, limit)


def record_contact(tx: Transaction, wanted: WantedContact, contact: domain.Contact | None) -> None:
    """Keep what identity said; None when it knows no such person."""
    if contact is None:
        repository.forget_contact(tx, wanted)
    else:
        repository.keep_contact(tx, wanted, contact)


def ask_later(tx: Transaction, wanted: WantedContact) -> None:
    """Identity did not answer."""
    repository.ask_later(tx, wanted, delay_s=wanted.retry_delay_s)
