"""What tests of analytics start from: events of the other services, and a plain computation of what they add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

from chassis.kernel import new_id
from chassis.outbox import Announcement, envelope_bytes
from contracts.envelope import Event
from contracts.events import batches, deliveries, resources
from contracts.values import Quantities, Window

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """One event as it travels."""

    id: UUID
    event: Event
    at: datetime
    version: int
    body: bytes = field(repr=False)

    @property
    def routing_key(self) -> str:
        return self.event.routing_key()


def tell(
    event: Event, *, subject: UUID, version: int, at: datetime, owner: UUID | None = None, parties: Iterable[UUID] = ()
) -> Told:
    """The event as its producer would send it."""
    event_id = new_id()
    body = envelope_bytes(Announcement(event, owner, tuple(parties)), subject, event_id, version, at)
    return Told(event_id, event, at, version, body)


@dataclass
class BatchStory:
    """A batch that tells its events; quantities are what they would be after each."""

    organization_id: UUID
    place_id: UUID
    category: str = "prepared"
    unit: str = "portion"
    total: int = 40
    lost: int = 0
    pickup_to: datetime = NOON + timedelta(hours=4)
    id: UUID = field(default_factory=new_id)
    version: int = 0

    def tell(self, kind: type[Event], at: datetime, status: str = "ready", **more: Any) -> Told:
        """The next event."""
        self.version += 1
        event = kind.model_validate(self._snapshot(status) | more)
        return tell(event, subject=self.id, version=self.version, at=at, owner=self.organization_id)

    def lose(self, quantity: int, at: datetime) -> Told:
        """Lost on the road."""
        self.lost += quantity
        return self.tell(batches.BatchLost, at, hold_id=new_id(), delivery_id=new_id(), quantity=quantity)

    def _snapshot(self, status: str) -> dict[str, Any]:
        return {
            "batch_id": self.id, "organization_id": self.organization_id, "place_id": self.place_id, "status": status,
            "kind": "food", "category": self.category, "product_name": "Sopa", "unit": self.unit, "storage": "ambient",
            "pickup_window": Window(from_at=NOON - timedelta(hours=4), to_at=self.pickup_to),
            "quantities": Quantities(
                total=self.total, available=self.total - self.lost, held=0, in_transit=0, delivered=0, lost=self.lost
            ),
        }  # fmt: skip


@dataclass
class DeliveryStory:
    """A delivery of parts of batches that tells its events."""

    parts: Sequence[tuple[BatchStory, int]]
    receiver_id: UUID
    receiving_place_id: UUID
    id: UUID = field(default_factory=new_id)
    version: int = 0
    picked: list[int] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.line_ids = [new_id() for _ in self.parts]
        self.picked = self.picked or [0] * len(self.parts)
        self.delivered = self.delivered or [0] * len(self.parts)

    def tell(self, kind: type[Event], at: datetime, status: str = "open", **more: Any) -> Told:
        """The next event."""
        self.version += 1
        givers = sorted({batch.organization_id for batch, _ in self.parts})
        event = kind.model_validate(self._snapshot(status, givers) | more)
        return tell(
            event, subject=self.id, version=self.version, at=at, owner=givers[0], parties=[*givers, self.receiver_id]
        )

    def pick(self, picked: list[int], at: datetime) -> Told:
        """The volunteer has the goods."""
        self.picked = picked
        return self.tell(deliveries.PickupConfirmed, at, "in_transit")

    def complete(self, delivered: list[int], at: datetime) -> Told:
        """The receiver has them."""
        self.delivered = delivered
        return self.tell(deliveries.DeliveryCompleted, at, "delivered")

    def _snapshot(self, status: str, givers: list[UUID]) -> dict[str, Any]:
        lines = [
            {
                "line_id": line_id, "batch_id": batch.id, "organization_id": batch.organization_id,
                "category": batch.category, "product_name": "Sopa", "unit": batch.unit, "planned": planned,
                "picked": self.picked[n], "delivered": self.delivered[n],
            }
            for n, (line_id, (batch, planned)) in enumerate(zip(self.line_ids, self.parts, strict=True))
        ]  # fmt: skip
        return {
            "delivery_id": self.id, "status": status, "provider_organization_ids": givers,
            "pickup_place_id": self.parts[0][0].place_id, "receiving_organization_id": self.receiver_id,
            "receiving_place_id": self.receiving_place_id, "lines": lines,
        }  # fmt: skip


@dataclass
class RequestStory:
    """A request that tells its snapshots: lines of (category, unit, needed, reserved, received)."""

    organization_id: UUID
    place_id: UUID
    id: UUID = field(default_factory=new_id)
    version: int = 0
    line_ids: list[UUID] = field(default_factory=list)

    def tell(
        self, kind: type[Event], at: datetime, lines: Sequence[tuple[str, str, int, int, int]], status: str = "open"
    ) -> Told:
        """The next event; a shorter list of lines has taken the last ones out."""
        self.version += 1
        while len(self.line_ids) < len(lines):
            self.line_ids.append(new_id())
        names = ("category", "unit", "needed", "reserved", "received")
        snapshot: dict[str, Any] = {
            "request_id": self.id, "organization_id": self.organization_id, "place_id": self.place_id, "status": status,
            "urgency": "normal",
            "lines": [
                {"line_id": line_id, **dict(zip(names, line, strict=True))}
                for line_id, line in zip(self.line_ids, lines, strict=False)
            ],
        }  # fmt: skip
        if issubclass(kind, resources._ReservationEvent):
            snapshot |= {
                "reservation_id": new_id(), "donor_organization_id": new_id(), "mode": "partner", "reserved_lines": []
            }  # fmt: skip
        return tell(
            kind.model_validate(snapshot), subject=self.id, version=self.version, at=at, owner=self.organization_id
        )


_BATCH = {"created": "BatchCreated", "ready": "BatchReady", "closed": "BatchClosed", "cancelled": "BatchCancelled",
          "expired": "BatchExpired", "recalled": "BatchRecalled"}  # fmt: skip
_DELIVERY = {
    "planned": "DeliveryPlanned", "opened": "DeliveryOpened", "claimed": "DeliveryClaimed", "picked_up": "PickupConfirmed",
    "completed": "DeliveryCompleted", "cancelled": "DeliveryCancelled", "expired": "DeliveryExpired",
    "failed": "DeliveryFailed", "returned": "DeliveryReturned", "discarded": "DeliveryDiscarded",
    "no_show": "VolunteerNoShow",
}  # fmt: skip


def expected(told: Iterable[Told], organization_id: UUID | None, first: date, last: date) -> dict[str, Any]:
    """The dashboard of these events, computed the slow and obvious way, from each distinct event once."""
    events = sorted({each.id: each for each in told}.values(), key=lambda each: (each.at, each.version))
    inside = [each for each in events if first <= each.at.astimezone(UTC).date() <= last]
    table: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    _add_goods(table, events, inside, organization_id)
    _add_needs(table, events, organization_id, first, last)
    waits, counts = _deliveries(events, organization_id, first, last)
    return {
        "by_category": {key: {n: v for n, v in row.items() if v} for key, row in table.items() if any(row.values())},
        "batches": {
            name: sum(
                type(e.event).__name__ == kind and organization_id in (None, e.event.organization_id) for e in inside
            )  # type: ignore[attr-defined]
            for name, kind in _BATCH.items()
        },
        "deliveries": counts,
        "p50": round(median(waits), 3) if waits else None,
        "mean": round(sum(waits) / len(waits), 3) if waits else None,
    }


def _add_goods(table: Any, events: list[Told], inside: list[Told], organization_id: UUID | None) -> None:
    lost: dict[UUID, int] = defaultdict(int)
    for each in sorted(events, key=lambda e: e.version):
        event: Any = each.event
        if isinstance(event, batches._BatchEvent):
            grown, lost[event.batch_id] = event.quantities.lost - lost[event.batch_id], event.quantities.lost
            if each in inside and organization_id in (None, event.organization_id):
                table[event.category, event.unit]["lost"] += grown
    for each in inside:
        event = each.event
        if isinstance(event, batches.BatchReady) and organization_id in (None, event.organization_id):
            table[event.category, event.unit]["offered"] += event.quantities.total
        for kind, name, part in (
            (deliveries.PickupConfirmed, "rescued", "picked"), (deliveries.DeliveryCompleted, "delivered", "delivered"),
        ):  # fmt: skip
            if isinstance(event, kind):
                for line in event.lines:
                    if organization_id in (None, line.organization_id, event.receiving_organization_id):
                        table[line.category, line.unit][name] += getattr(line, part)


def _add_needs(table: Any, events: list[Told], organization_id: UUID | None, first: date, last: date) -> None:
    by_request: dict[UUID, list[Told]] = defaultdict(list)
    for each in events:
        if isinstance(each.event, resources._ResourceRequestEvent):
            by_request[each.event.request_id].append(each)
    for snapshots in by_request.values():
        newest: Any = max(snapshots, key=lambda e: e.version).event
        opened = min(each.at for each in snapshots).date()
        ours = organization_id in (None, newest.organization_id)
        if ours and first <= opened <= last and newest.status != "cancelled":
            for line in newest.lines:
                for name in ("needed", "reserved", "received"):
                    table[line.category, line.unit][name] += getattr(line, name)


def _deliveries(
    events: list[Told], organization_id: UUID | None, first: date, last: date
) -> tuple[list[float], dict[str, int]]:
    reached: dict[UUID, dict[str, datetime]] = defaultdict(dict)
    parties: dict[UUID, set[UUID]] = defaultdict(set)
    for each in events:
        event: Any = each.event
        if isinstance(event, deliveries._DeliveryEvent):
            parties[event.delivery_id] |= {*event.provider_organization_ids, event.receiving_organization_id}
            reached[event.delivery_id].setdefault(type(event).__name__, each.at)
    ours = [moments for key, moments in reached.items() if organization_id is None or organization_id in parties[key]]

    def count(kind: str) -> int:
        partly = kind in ("DeliveryReturned", "DeliveryDiscarded")
        return sum(
            kind in m and first <= m[kind].date() <= last and not (partly and "DeliveryCompleted" in m) for m in ours
        )

    waits = [
        (m["DeliveryClaimed"] - m["DeliveryOpened"]).total_seconds()
        for m in ours
        if "DeliveryClaimed" in m and "DeliveryOpened" in m
        and first <= m["DeliveryClaimed"].date() <= last and m["DeliveryClaimed"] >= m["DeliveryOpened"]
    ]  # fmt: skip
    return waits, {name: count(kind) for name, kind in _DELIVERY.items()}
