"""Everybody who should know of an event was told once, in the inbox and by e-mail; nobody else was."""

from __future__ import annotations

import mailbox
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from scripts.demo_run.checks import Check, counted
from scripts.demo_run.checks.audience import TOLD, Audience, Told
from scripts.demo_run.evidence import Evidence, public_types


async def check(evidence: Evidence, maildir: Path) -> list[Check]:
    """Notifications against events, messages against notifications, e-mails against messages."""
    return [
        await _notified(evidence),
        await _messages(evidence),
        await _mailed(evidence, maildir),
    ]


async def _notified(evidence: Evidence) -> Check:
    sure, maybe = await _expected(evidence)
    rows = await evidence.rows(
        "notifications", "SELECT event_id, user_id FROM notifications WHERE created_at > $1", evidence.since
    )
    present = [(UUID(int=row["event_id"].int), UUID(int=row["user_id"].int)) for row in rows]
    doubled = [one for one, times in Counter(present).items() if times > 1]
    lost = [f"event {event} for user {user}" for event, user in sure - set(present)]
    strange = [f"event {event} for user {user}" for event, user in set(present) - maybe]
    return counted("notifications", f"{_span(len(sure), len(maybe))} expected, {len(set(present)):,} present",
                   lost=lost, doubled=doubled, strange=strange)  # fmt: skip


def _span(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


async def _expected(evidence: Evidence) -> tuple[set[Told], set[Told]]:
    """(who surely is told, who may be told) as (event, person)."""
    types = {public_types()[key]: parts for key, parts in TOLD.items()}
    rows = await evidence.rows(
        "analytics",
        "SELECT event_id, type, occurred_at, actor_id, data FROM audit_events"
        " WHERE type = ANY($1::text[]) AND occurred_at > $2",
        list(types),
        evidence.since,
    )
    audience = await Audience.of(evidence)
    sure: set[Told] = set()
    maybe: set[Told] = set()
    for row in rows:
        certain, possible = audience.of_event(row, types[row["type"]])
        sure |= certain
        maybe |= possible
    return sure, maybe


async def _messages(evidence: Evidence) -> Check:
    """One message per notification and channel, all of them settled."""
    rows = await evidence.rows(
        "notifications",
        "SELECT n.id, count(m.id) FILTER (WHERE m.channel = 'in_app') AS inbox,"
        " count(m.id) FILTER (WHERE m.channel = 'email') AS email,"
        " count(m.id) FILTER (WHERE m.status IN ('queued', 'failed', 'expired')) AS unsettled"
        " FROM notifications n LEFT JOIN messages m ON m.notification_id = n.id WHERE n.created_at > $1 GROUP BY n.id",
        evidence.since,
    )
    lost = [row["id"] for row in rows if row["inbox"] < 1]
    doubled = [row["id"] for row in rows if row["inbox"] > 1 or row["email"] > 1]
    unsettled = [row["id"] for row in rows if row["unsettled"]]
    figures = f"{sum(row['inbox'] for row in rows):,} in the inbox, {sum(row['email'] for row in rows):,} by e-mail"
    return counted("messages", figures, lost=lost, doubled=doubled, strange=unsettled)


async def _mailed(evidence: Evidence, maildir: Path) -> Check:
    rows = await evidence.rows(
        "notifications", "SELECT reference FROM messages WHERE channel = 'email' AND status = 'sent'"
    )
    sent = {row["reference"] for row in rows}
    arrived = Counter(_message_ids(maildir))
    doubled = [one for one, times in arrived.items() if times > 1]
    return counted("e-mails", f"{len(sent):,} sent, {arrived.total():,} in the mail folder",
                   lost=sent - set(arrived), doubled=doubled, strange=set(arrived) - sent)  # fmt: skip


def _message_ids(maildir: Path) -> Iterable[str]:
    if not maildir.exists():
        return
    folder = mailbox.Maildir(maildir, factory=None, create=False)
    for key in folder.iterkeys():
        with folder.get_file(key) as file:
            yield _message_id(file)


def _message_id(file: Any) -> str:
    """Only the head is read: a folder of many thousand mails is looked through at every run."""
    for line in file:
        if line.lower().startswith(b"message-id:"):
            return str(line.split(b":", 1)[1].strip(), "ascii", "replace")
        if not line.strip():
            break
    return ""
