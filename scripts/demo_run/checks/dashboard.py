"""The dashboard's totals, asked through the gateway, are those that the event stores add up to."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from scripts.demo_run.checks import Check, examples
from scripts.demo_run.client import Caller, Gateway, Json
from scripts.demo_run.evidence import Evidence, Stored

BATCH_MILESTONES = {
    "created": "BatchCreated",
    "ready": "BatchReady",
    "closed": "BatchClosed",
    "cancelled": "BatchCancelled",
    "expired": "BatchExpired",
    "recalled": "BatchRecalled",
}
DELIVERY_MILESTONES: dict[str, str | tuple[str, ...]] = {
    "planned": ("DeliveryPlanned", "DeliverySplitOff"),
    "opened": "DeliveryOpened",
    "claimed": "DeliveryClaimed",
    "picked_up": "PickupConfirmed",
    "completed": "DeliveryCompleted",
    "cancelled": "DeliveryCancelled",
    "expired": "DeliveryExpired",
    "failed": "DeliveryFailed",
    "returned": "DeliveryReturned",
    "discarded": "DeliveryDiscarded",
    "no_show": "VolunteerNoShow",
}
ENDED_OTHERWISE = ("returned", "discarded")  # after a partial delivery it counts as completed only
QUANTITIES = ("offered", "rescued", "delivered", "lost")
NEEDS = ("needed", "reserved", "received")
CACHED_S_MAX = 12.0  # an answer may be this old
POLL_S = 1.0
Totals = dict[str, int]


@dataclass(frozen=True)
class Book:
    """What is needed to tell a line's unit, giver and taker."""

    units: Mapping[UUID, str]
    givers: Mapping[UUID, UUID]
    planned_for: Mapping[UUID, UUID]
    brought_to: Mapping[UUID, UUID]
    parts: Mapping[UUID, set[UUID]]


async def check(evidence: Evidence, gateway: Gateway, reader: Caller) -> list[Check]:
    """The platform's dashboard, and those of the largest giver and the largest receiver."""
    book = await _book(evidence)
    first = datetime.combine(evidence.since.date() + timedelta(days=1), time(), UTC)
    checks = [await _compared(gateway, reader, first, None, "platform", await _totals(evidence, book, first, None))]
    for name, organization in _largest(evidence, book):
        expected = await _totals(evidence, book, first, organization)
        checks.append(await _compared(gateway, reader, first, organization, name, expected))
    return checks


async def _compared(
    gateway: Gateway, reader: Caller, first: datetime, organization: UUID | None, name: str, expected: Totals
) -> Check:
    asked: Json = {"from": first.date().isoformat(), **({"organization_id": str(organization)} if organization else {})}
    deadline = asyncio.get_running_loop().time() + CACHED_S_MAX
    while True:
        shown = _shown(await gateway.get(reader, "/v1/analytics/dashboard", **asked))
        names = [one for one in expected if shown.get(one, 0) != expected[one]]
        if not names or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(POLL_S)
    different = [f"{one}: shown {shown.get(one, 0):,}, by events {expected[one]:,}" for one in names]
    figures = f"{len(expected):,} totals, {len(different):,} differ"
    return Check(f"dashboard: {name}", not different, figures, examples=examples(different))


def _shown(dashboard: Json) -> Totals:
    totals = {f"deliveries {name}": dashboard["deliveries"][name] for name in DELIVERY_MILESTONES}
    totals |= {f"batches {name}": dashboard["batches"][name] for name in BATCH_MILESTONES}
    for row in [*dashboard["quantities"], *dashboard["needs"]]:
        totals |= {f"{name} {row['unit']}": row[name] for name in (*QUANTITIES, *NEEDS) if name in row}
    return totals


async def _totals(evidence: Evidence, book: Book, first: datetime, organization: UUID | None) -> Totals:
    totals: Counter[str] = Counter()
    totals.update(_milestones(evidence, "batches", BATCH_MILESTONES, first, _owners(book, "batches", organization)))
    reached = _milestones(evidence, "deliveries", DELIVERY_MILESTONES, first, _owners(book, "deliveries", organization))
    totals.update(reached)
    totals.update(await _supply(evidence, book, first, organization))
    totals.update(_carried(evidence, book, first, organization))
    totals.update(await _needs(evidence, first, organization))
    return dict(totals)


def _owners(book: Book, producer: str, organization: UUID | None) -> set[UUID] | None:
    """The batches or deliveries that an organization has a part in; None for all."""
    if organization is None:
        return None
    if producer == "batches":
        return {batch for batch, giver in book.givers.items() if giver == organization}
    return book.parts.get(organization, set())


def _milestones(
    evidence: Evidence,
    producer: str,
    names: Mapping[str, str | tuple[str, ...]],
    first: datetime,
    among: set[UUID] | None,
) -> Totals:
    """How many streams reached each milestone for the first time in the period."""
    reached: dict[str, set[UUID]] = {}
    for name, kinds in names.items():
        earliest: dict[UUID, datetime] = {}
        for event in evidence.of(producer, *((kinds,) if isinstance(kinds, str) else kinds)):
            earliest.setdefault(event.stream, event.at)
        reached[name] = {stream for stream, at in earliest.items() if at >= first}
    for name in ENDED_OTHERWISE:
        if name in reached:
            reached[name] -= {event.stream for event in evidence.of(producer, "DeliveryCompleted")}
    return {
        f"{producer} {name}": len(streams if among is None else streams & among) for name, streams in reached.items()
    }


async def _supply(evidence: Evidence, book: Book, first: datetime, organization: UUID | None) -> Totals:
    totals: Counter[str] = Counter()
    for event in evidence.of("batches", "BatchReady"):
        if event.at >= first and organization in (None, book.givers[event.stream]):
            totals[f"offered {book.units[event.stream]}"] += event.data["quantity"]
    rows = await evidence.rows(
        "batches", "SELECT organization_id, unit, lost FROM batches WHERE created_at >= $1", first
    )
    for row in rows:
        if organization in (None, UUID(int=row["organization_id"].int)):
            totals[f"lost {row['unit']}"] += row["lost"]
    return dict(totals)


def _carried(evidence: Evidence, book: Book, first: datetime, organization: UUID | None) -> Totals:
    totals: Counter[str] = Counter()
    for name, kind, part, taker in (
        ("rescued", "PickupConfirmed", "picked", book.planned_for),
        ("delivered", "DeliveryCompleted", "delivered", book.brought_to),
    ):
        for event in evidence.of("deliveries", kind):
            for line in event.data["lines"] if event.at >= first else ():
                batch = UUID(line["batch_id"])
                if organization is None or organization in (book.givers[batch], taker[event.stream]):
                    totals[f"{name} {book.units[batch]}"] += line[part]
    return dict(totals)


async def _needs(evidence: Evidence, first: datetime, organization: UUID | None) -> Totals:
    totals: Counter[str] = Counter()
    rows = await evidence.rows("resources", "SELECT state FROM resource_requests WHERE status <> 'cancelled'")
    for row in rows:
        state = row["state"]
        opened, owner = datetime.fromisoformat(state["opened_at"]), UUID(state["organization_id"])
        for line in state["lines"].values() if opened >= first and organization in (None, owner) else ():
            for name in NEEDS:
                totals[f"{name} {line['unit']}"] += line[name]
    return dict(totals)


async def _book(evidence: Evidence) -> Book:
    batches = await evidence.rows("batches", "SELECT id, organization_id, unit FROM batches")
    deliveries = await evidence.rows(
        "deliveries", "SELECT id, state->>'receiving_organization_id' AS taker FROM deliveries"
    )
    planned = {
        event.stream: UUID(event.data["receiving_organization_id"])
        for event in evidence.of("deliveries", "DeliveryPlanned", "DeliverySplitOff")
    }
    givers = {UUID(int=row["id"].int): UUID(int=row["organization_id"].int) for row in batches}
    return Book(
        units={UUID(int=row["id"].int): row["unit"] for row in batches},
        givers=givers,
        planned_for=planned,
        brought_to={UUID(int=row["id"].int): UUID(row["taker"]) for row in deliveries},
        parts=_parts(evidence, givers),
    )


def _largest(evidence: Evidence, book: Book) -> Iterable[tuple[str, UUID]]:
    completed: list[Stored] = evidence.of("deliveries", "DeliveryCompleted")
    givers = Counter(book.givers[UUID(line["batch_id"])] for event in completed for line in event.data["lines"])
    takers = Counter(book.brought_to[event.stream] for event in completed)
    for name, found in (("largest giver", givers), ("largest receiver", takers)):
        if found:
            yield name, found.most_common(1)[0][0]


def _parts(evidence: Evidence, givers: Mapping[UUID, UUID]) -> dict[UUID, set[UUID]]:
    """Which deliveries each organization gave to, was to receive or received."""
    parts: dict[UUID, set[UUID]] = defaultdict(set)
    for event in evidence.of("deliveries", "DeliveryPlanned", "DeliverySplitOff"):
        parts[UUID(event.data["receiving_organization_id"])].add(event.stream)
        for line in event.data["lines"]:
            parts[givers[UUID(line["batch_id"])]].add(event.stream)
    for event in evidence.of("deliveries", "DeliveryRerouted"):
        parts[UUID(event.data["receiving_organization_id"])].add(event.stream)
    return parts
