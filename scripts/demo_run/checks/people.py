"""Everybody who should know of an event was told once, in the inbox and by e-mail; nobody else was."""

from __future__ import annotations

import mailbox
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from scripts.demo_run.checks import Check, counted
from scripts.demo_run.evidence import Evidence, Row, public_types

# Who hears of what. `receiver` and `volunteer` of a batch's event are those of its deliveries.
EVERYBODY = ("provider", "receiver", "volunteer")
TOLD: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("batches", "BatchExpired"): ("provider",),
    ("batches", "BatchHoldRejected"): ("provider", "receiver"),
    ("deliveries", "DeliveryOpened"): ("provider", "receiver"),
    **{
        ("deliveries", kind): EVERYBODY
        for kind in (
            "DeliveryClaimed", "ClaimReleased", "PickupConfirmed", "DropoffRefused", "DeliveryCompleted",
            "DeliveryCancelled", "DeliveryExpired",
        )
    },
    ("deliveries", "WaitingVolunteerCalled"): ("waiting",),
    ("resources", "ResourceRequestFulfilled"): ("organization",),
    ("resources", "ReservationMade"): ("organization",),
    ("resources", "ReservationReceived"): ("donor",),
    ("resources", "ReservationCancelled"): ("organization", "donor"),
    ("resources", "ReservationExpired"): ("organization", "donor"),
    ("resources", "MatchProposed"): ("organization", "supplier"),
    ("resources", "MatchAccepted"): ("supplier",),
    ("resources", "MatchDeclined"): ("organization", "supplier"),
    ("resources", "MatchExpired"): ("organization",),
    ("resources", "MatchWithdrawn"): ("organization", "supplier"),
    ("identity", "OrganizationVerified"): ("organization",),
    ("identity", "OrganizationSuspended"): ("organization",),
}  # fmt: skip
# A membership this much older or younger than the event is surely known or surely not; in between both is right.
SURELY = timedelta(seconds=60)
Told = tuple[UUID, UUID]


@dataclass
class Members:
    """Who was a member of which organization, from when until when."""

    spans: dict[UUID, list[tuple[UUID, datetime, datetime | None]]] = field(default_factory=lambda: defaultdict(list))

    def of(self, organization: UUID, at: datetime) -> tuple[set[UUID], set[UUID]]:
        """(those who surely were at that time, those who may have been)."""
        sure, maybe = set(), set()
        for user, since, until in self.spans[organization]:
            if since <= at + SURELY and (until is None or until > at - SURELY):
                maybe.add(user)
            if since <= at - SURELY and until is None:
                sure.add(user)
        return sure, maybe


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
        "SELECT event_id, type, subject, occurred_at, actor_id, data FROM audit_events"
        " WHERE type = ANY($1::text[]) AND occurred_at > $2",
        list(types),
        evidence.since,
    )
    members, receivers = _members(evidence), await _receivers(evidence)
    sure: set[Told] = set()
    maybe: set[Told] = set()
    for row in rows:
        event = UUID(int=row["event_id"].int)
        certain, possible = _concerned(row, types[row["type"]], members, receivers)
        actor = {UUID(row["actor_id"])} if row["actor_id"] else set()
        sure |= {(event, user) for user in certain - actor}
        maybe |= {(event, user) for user in possible - actor}
    return sure, maybe


def _members(evidence: Evidence) -> Members:
    members = Members()
    for event in evidence.of("identity", "MembershipGranted", "MembershipRevoked"):
        user, spans = UUID(event.data["user_id"]), members.spans[event.stream]
        running = [span for span in spans if span[0] == user and span[2] is None]
        if event.kind == "MembershipGranted" and not running:
            spans.append((user, event.at, None))
        elif event.kind == "MembershipRevoked":
            for span in running:
                spans[spans.index(span)] = (user, span[1], event.at)
    return members


async def _receivers(evidence: Evidence) -> dict[str, str]:
    rows = await evidence.rows(
        "deliveries", "SELECT id, state->>'receiving_organization_id' AS receiver FROM deliveries"
    )
    return {str(row["id"]): row["receiver"] for row in rows}


def _concerned(
    row: Row, parts: Iterable[str], members: Members, receivers: Mapping[str, str]
) -> tuple[set[UUID], set[UUID]]:
    sure: set[UUID] = set()
    maybe: set[UUID] = set()
    for part in parts:
        if part in ("volunteer", "waiting"):
            named = ("waiting_id",) if part == "waiting" else ("volunteer_id", "previous_volunteer_id")
            volunteer = next((row["data"][name] for name in named if row["data"].get(name)), None)
            people = {UUID(volunteer)} if volunteer else set()
            sure |= people
            maybe |= people
            continue
        for organization in _organizations(row["data"], part, receivers):
            certain, possible = members.of(UUID(organization), row["occurred_at"])
            sure |= certain
            maybe |= possible
    return sure, maybe


def _organizations(data: Mapping[str, Any], part: str, receivers: Mapping[str, str]) -> list[str]:
    match part:
        case "provider":
            found = data.get("provider_organization_ids") or [data["organization_id"]]
        case "receiver":
            found = [data.get("receiving_organization_id") or receivers.get(data["delivery_id"])]
        case "donor":
            found = [data["donor_organization_id"]]
        case "supplier":
            found = [data["provider_organization_id"]]
        case _:
            found = [data["organization_id"]]
    return [one for one in found if one]


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
