"""Writes: notifications and their messages, what became of each mail, contacts, preferences, deliveries followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.database import Row, Transaction

from notifications.domain import (
    LIVE,
    OVER,
    Contact,
    Fact,
    Followed,
    Kind,
    Mail,
    Outcome,
    Preferences,
    Status,
    WantedContact,
)

CONTACT_FRESH_H = 24  # an older address is asked for again, in the background, before the next mails
MAIL_LEASE_S = 90  # three times what one sending may take
CONTACT_LEASE_S = 30  # six times what one question may take
DEFERRED_GRACE = timedelta(hours=1)  # a mail deferred by the person's own wish lives at least this long afterwards

# One statement tells everybody: the members who are not the actor, a row for each, a message per channel.
_TELL = """WITH told AS (
    SELECT DISTINCT x.user_id FROM (
        SELECT m.user_id FROM access_members m WHERE m.organization_id = ANY($1::uuid[]) AND m.role IS NOT NULL
        UNION ALL SELECT unnest($2::uuid[])
        UNION ALL SELECT c.user_id FROM access_users c WHERE $14 AND 'coordinator' = ANY(c.roles)) x
    LEFT JOIN access_users u ON u.user_id = x.user_id
    WHERE x.user_id IS DISTINCT FROM $3::uuid AND u.suspended IS NOT TRUE),
made AS (
    INSERT INTO notifications (id, event_id, user_id, kind, critical, event_type, subject, context, correlation_id, traceparent)
    SELECT time_ordered_id(), $4, t.user_id, $5, $6, $7, $8, $9, $10, $11 FROM told t
    ON CONFLICT (event_id, user_id) DO NOTHING RETURNING id, user_id),
wanted AS (
    INSERT INTO contacts (user_id, due_at)
    SELECT made.user_id, now() FROM made LEFT JOIN contacts c ON c.user_id = made.user_id
    WHERE c.user_id IS NULL OR (c.due_at IS NULL AND c.status = 'known' AND c.fetched_at < now() - make_interval(hours => $13))
    ORDER BY made.user_id
    ON CONFLICT (user_id) DO UPDATE SET due_at = now()),
in_app AS (
    INSERT INTO messages (id, notification_id, user_id, channel, status, critical, due_at, expires_at, finished_at)
    SELECT time_ordered_id(), made.id, made.user_id, 'in_app', 'sent', $6, now(), now() + $12::interval, now() FROM made),
mails AS (
    INSERT INTO messages (id, notification_id, user_id, channel, status, critical, due_at, expires_at)
    SELECT time_ordered_id(), made.id, made.user_id, 'email', 'queued', $6, now(), now() + $12::interval
    FROM made LEFT JOIN preferences p ON p.user_id = made.user_id WHERE p.email IS NOT FALSE)
SELECT count(*) FROM made"""

_KNOWN = """SELECT
    NOT EXISTS (SELECT FROM unnest($1::uuid[]) AS x(id)
        WHERE NOT EXISTS (SELECT FROM access_organizations o WHERE o.organization_id = x.id AND o.version >= $2)) AS complete,
    (SELECT tz FROM access_places WHERE place_id = $3) AS tz"""

_FOLLOW = """INSERT INTO deliveries (delivery_id, version, status, provider_ids, receiver_id, volunteer_id, batch_ids)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (delivery_id) DO UPDATE SET version = excluded.version, status = excluded.status,
    receiver_id = excluded.receiver_id, volunteer_id = excluded.volunteer_id, batch_ids = excluded.batch_ids
WHERE deliveries.version < excluded.version"""

_REGISTER = """INSERT INTO contacts (user_id, locale, due_at) VALUES ($1, $2, now())
ON CONFLICT (user_id) DO UPDATE SET locale = excluded.locale, due_at = now(),
    status = CASE contacts.status WHEN 'gone' THEN 'wanted' ELSE contacts.status END
WHERE contacts.status <> 'known'"""

_CLAIM_CONTACTS = """UPDATE contacts SET attempts = attempts + 1, due_at = now() + make_interval(secs => $2)
WHERE user_id IN (SELECT user_id FROM contacts WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING user_id, attempts"""
_CONTACT_KNOWN = """UPDATE contacts SET status = 'known', email = $3, locale = $4, display_name = $5, fetched_at = now(),
    attempts = 0, due_at = NULL WHERE user_id = $1 AND attempts = $2"""
_CONTACT_GONE = """UPDATE contacts SET status = 'gone', email = NULL, display_name = NULL, fetched_at = now(), attempts = 0,
    due_at = NULL WHERE user_id = $1 AND attempts = $2"""
_CONTACT_LATER = "UPDATE contacts SET due_at = now() + make_interval(secs => $3) WHERE user_id = $1 AND attempts = $2"

# What ran out of time ends; of the rest, critical first. A mail waits until its person's address is known.
_CLAIM_MAILS = """WITH ended AS (
    UPDATE messages SET status = 'expired', finished_at = now()
    WHERE status IN ('queued', 'deferred') AND expires_at <= now() AND NOT id = ANY($3::uuid[])),
due AS (
    SELECT m.id FROM messages m JOIN contacts c ON c.user_id = m.user_id AND c.status <> 'wanted'
    WHERE m.status IN ('queued', 'deferred') AND m.due_at <= now() AND m.expires_at > now() AND NOT m.id = ANY($3::uuid[])
    ORDER BY m.critical DESC, m.due_at LIMIT $1 FOR UPDATE OF m SKIP LOCKED),
claimed AS (
    UPDATE messages m SET status = 'queued', attempts = m.attempts + 1, due_at = now() + make_interval(secs => $2)
    FROM due WHERE m.id = due.id RETURNING m.id, m.attempts, m.notification_id, m.user_id, m.critical)
SELECT q.id, q.attempts, q.user_id, q.critical, n.kind, n.context, n.correlation_id, n.traceparent,
    c.email AS address, coalesce(p.locale, c.locale) AS locale, coalesce(p.email, true) AND u.suspended IS NOT TRUE AS email,
    p.quiet_from, p.quiet_to, p.quiet_tz
FROM claimed q JOIN notifications n ON n.id = q.notification_id JOIN contacts c ON c.user_id = q.user_id
LEFT JOIN preferences p ON p.user_id = q.user_id LEFT JOIN access_users u ON u.user_id = q.user_id"""

_DEFER = """UPDATE messages SET status = 'deferred', due_at = $3, expires_at = greatest(expires_at, $4), attempts = attempts - 1
WHERE id = $1 AND attempts = $2"""
_RETRY = "UPDATE messages SET due_at = $3, failure = $4 WHERE id = $1 AND attempts = $2"
_FINISH = """UPDATE messages SET status = $3, reference = $4, failure = $5, finished_at = now()
WHERE id = $1 AND attempts = $2"""

_READ = "UPDATE notifications SET read_at = $2 WHERE id = $1 AND read_at IS NULL"
_READ_MESSAGE = """UPDATE messages SET status = 'read'
WHERE notification_id = $1 AND channel = 'in_app' AND status = 'sent'"""
_PREFER = """INSERT INTO preferences (user_id, locale, email, quiet_from, quiet_to, quiet_tz) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (user_id) DO UPDATE SET locale = excluded.locale, email = excluded.email, quiet_from = excluded.quiet_from,
    quiet_to = excluded.quiet_to, quiet_tz = excluded.quiet_tz, updated_at = now()"""
_RECONSIDER = "UPDATE messages SET status = 'queued', due_at = now() WHERE user_id = $1 AND status = 'deferred'"
_UNSUBSCRIBE = """INSERT INTO preferences (user_id, email) VALUES ($1, false)
ON CONFLICT (user_id) DO UPDATE SET email = false, updated_at = now()"""

MAILS, CONTACTS = "mails", "contacts"  # wake-ups of the two dispatchers


async def known(
    tx: Transaction, *, organization_ids: Sequence[UUID], version: int, place_id: UUID | None
) -> tuple[bool, str | None]:
    """Whether the directory has come as far as `version` with each of these organizations; and the place's zone."""
    row = await tx.fetchrow(_KNOWN, list(organization_ids), version, place_id)
    return (False, None) if row is None else (row["complete"], row["tz"])


async def tell(
    tx: Transaction,
    fact: Fact,
    *,
    context: Mapping[str, Any],
    lifetime: timedelta,
    correlation_id: str,
    traceparent: str,
) -> int:
    """A notification and its messages for everybody concerned; returns how many people are told who were not yet."""
    count: int = await tx.fetchval(
        _TELL, fact.organization_ids, fact.person_ids, fact.actor_id, fact.event_id, str(fact.telling.kind),
        fact.is_critical, fact.type, fact.subject, dict(context), correlation_id, traceparent, lifetime, CONTACT_FRESH_H,
        fact.tells_coordinators,
    )  # fmt: skip
    if count:
        tx.hints |= {MAILS, CONTACTS}
    return count


def follow_delivery(
    tx: Transaction, delivery_id: UUID, *, version: int, status: str, delivery: Followed, batch_ids: Sequence[UUID]
) -> None:
    """Queue what the newest event of a delivery says of who is in it."""
    providers, batches = list(delivery.provider_ids), sorted(set(batch_ids))
    tx.write(_FOLLOW, delivery_id, version, status, providers, delivery.receiver_id, delivery.volunteer_id, batches)


async def delivery(tx: Transaction, delivery_id: UUID) -> Followed | None:
    """A delivery followed, or None when it has not been heard of."""
    row = await tx.fetchrow("SELECT * FROM deliveries WHERE delivery_id = $1", delivery_id)
    return None if row is None else _followed(row)


async def deliveries_of(tx: Transaction, batch_id: UUID, *, live: bool = False) -> list[Followed]:
    """Every delivery that carries, will carry or has brought goods of a batch; `live` leaves those out that are done."""
    sql = "SELECT * FROM deliveries WHERE batch_ids @> ARRAY[$1::uuid] AND status <> ALL($2::text[])"
    found = await tx.fetch(sql, batch_id, list(OVER))
    return [_followed(row) for row in found if not live or row["status"] in LIVE]


def _followed(row: Row) -> Followed:
    return Followed(tuple(row["provider_ids"]), row["receiver_id"], row["volunteer_id"])


def want_contact(tx: Transaction, user_id: UUID, *, locale: str) -> None:
    """Queue asking identity for a new person's contact."""
    tx.write(_REGISTER, user_id, locale)
    tx.hints.add(CONTACTS)


async def claim_contacts(tx: Transaction, limit: int) -> list[WantedContact]:
    """Lease contacts to ask for."""
    return [
        WantedContact(row["user_id"], row["attempts"])
        for row in await tx.fetch(_CLAIM_CONTACTS, limit, CONTACT_LEASE_S)
    ]


def keep_contact(tx: Transaction, wanted: WantedContact, contact: Contact) -> None:
    """Queue the contact as identity told it."""
    tx.write(_CONTACT_KNOWN, wanted.user_id, wanted.attempt, contact.email, contact.locale, contact.display_name)
    tx.hints.add(MAILS)


def forget_contact(tx: Transaction, wanted: WantedContact) -> None:
    """Queue that identity knows no such person (any more)."""
    tx.write(_CONTACT_GONE, wanted.user_id, wanted.attempt)
    tx.hints.add(MAILS)


def ask_later(tx: Transaction, wanted: WantedContact, *, delay_s: float) -> None:
    """Queue another question."""
    tx.write(_CONTACT_LATER, wanted.user_id, wanted.attempt, delay_s)


async def claim_mails(tx: Transaction, limit: int, *, in_hand: Sequence[UUID]) -> list[Mail]:
    """Lease mails that are due, except those that this process still has in hand."""
    return [_mail(row) for row in await tx.fetch(_CLAIM_MAILS, limit, MAIL_LEASE_S, list(in_hand))]


def _mail(row: Row) -> Mail:
    return Mail(
        message_id=row["id"],
        attempt=row["attempts"],
        user_id=row["user_id"],
        kind=Kind(row["kind"]),
        context=row["context"],
        critical=row["critical"],
        locale=row["locale"],
        preferences=Preferences.stored(
            email=row["email"],
            locale=None,
            quiet_from=row["quiet_from"],
            quiet_to=row["quiet_to"],
            quiet_tz=row["quiet_tz"],
        ),
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        address=row["address"],
    )


def record(tx: Transaction, mail: Mail, outcome: Outcome) -> None:
    """Queue what became of an attempt; a lease that somebody else took over since is left alone."""
    match outcome.status:
        case Status.DEFERRED:
            assert outcome.due_at is not None
            tx.write(_DEFER, mail.message_id, mail.attempt, outcome.due_at, outcome.due_at + DEFERRED_GRACE)
        case Status.QUEUED:
            tx.write(_RETRY, mail.message_id, mail.attempt, outcome.due_at, outcome.failure)
        case _:
            tx.write(_FINISH, mail.message_id, mail.attempt, str(outcome.status), outcome.reference, outcome.failure)


def mark_read(tx: Transaction, notification_id: UUID, *, now: datetime) -> None:
    """Queue the first reading."""
    tx.write(_READ, notification_id, now)
    tx.write(_READ_MESSAGE, notification_id)


def save_preferences(tx: Transaction, user_id: UUID, wanted: Preferences) -> None:
    """Queue new preferences; what waited for the old quiet hours is looked at again."""
    quiet = wanted.quiet_hours
    span = (None, None, None) if quiet is None else (quiet.from_, quiet.to, quiet.tz)
    tx.write(_PREFER, user_id, wanted.locale, wanted.email, *span)
    tx.write(_RECONSIDER, user_id)
    tx.hints.add(MAILS)


def unsubscribe(tx: Transaction, user_id: UUID) -> None:
    """Queue the end of e-mails to a person."""
    tx.write(_UNSUBSCRIBE, user_id)
